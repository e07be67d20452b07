"""Where the ego vehicle is: speed and curvature integrated over time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gaia2.scene.validation import as_floats

__all__ = ["ego_poses"]


def ego_poses(times: npt.ArrayLike, speed: npt.ArrayLike, curvature: npt.ArrayLike) -> np.ndarray:
    """Integrate the motion from a pose (0, 0) looking along x at the first time; exact on circular arcs.

    Args:
        times: (..., tv) seconds, non-decreasing.
        speed: (..., tv) m/s, no NaN.
        curvature: (..., tv) 1/m, positive for a left turn, no NaN.

    Returns:
        (..., tv, 3): x and y in metres and yaw in radians, counter-clockwise and not wrapped.

    Raises:
        ValueError: The shapes differ, or a value is not finite.

    Example:
        >>> import numpy as np
        >>> ego_poses(np.linspace(0, 1, 11), np.full(11, 10.0), np.zeros(11))[-1].round(6).tolist()
        [10.0, 0.0, 0.0]
    """
    given = {"times": times, "speed": speed, "curvature": curvature}
    t, v, k = (as_floats(name, values) for name, values in given.items())
    for name, values in (("times", t), ("speed", v), ("curvature", k)):
        if values.shape != t.shape or not values.ndim:
            raise ValueError(f"{name}: expected the shape of times (..., tv), {t.shape}, got {values.shape}")
    length = (v[..., 1:] + v[..., :-1]) / 2 * np.diff(t)
    turn = length * (k[..., 1:] + k[..., :-1]) / 2
    yaw = _from_zero(turn)
    heading = (yaw[..., 1:] + yaw[..., :-1]) / 2
    chord = length * np.sinc(turn / (2 * np.pi))
    return np.stack([_from_zero(chord * np.cos(heading)), _from_zero(chord * np.sin(heading)), yaw], axis=-1)


def _from_zero(steps: np.ndarray) -> np.ndarray:
    """Running sum along the last axis, with a zero before it."""
    return np.concatenate([np.zeros((*steps.shape[:-1], 1)), np.cumsum(steps, axis=-1)], axis=-1)
