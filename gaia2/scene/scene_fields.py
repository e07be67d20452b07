"""Checks of the fields of `Scene`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gaia2._checks import real_number, whole_number
from gaia2.scene.validation import as_floats, check_shape, check_within, first_index

__all__ = ["check_embedding", "check_frame_rate", "check_per_frame", "check_timestamps", "regular_times"]

MAX_SPEED = 150.0
"""m/s beyond which a speed is taken for a mistake."""

MAX_CURVATURE = 1.0
"""1/m beyond which a curvature is taken for a mistake; a car's sharpest turn is about 0.2."""

MAX_FRAMES = 1_000_000
"""Frames of a scene; more than a day at 10 a second."""

_LIMITS = {
    "speed": (MAX_SPEED, "m/s", "divide km/h by 3.6"),
    "curvature": (MAX_CURVATURE, "1/m", "give 1 / radius in metres"),
}
_LATEST = 1e11
_LARGEST_ENTRY = 1e6


def check_timestamps(value: npt.ArrayLike, names: tuple[str, ...]) -> np.ndarray:
    """Return timestamps as (tv, n) float64, finite and strictly increasing for each camera.

    Args:
        value: (tv, n) seconds, or (tv,) for all cameras.
        names: The n camera names.

    Raises:
        ValueError: Another shape, no frame, NaN or infinite, or a time that is not later than the one before.
    """
    times = as_floats("timestamps", value)
    if times.ndim == 1:
        times = np.tile(times[:, None], (1, len(names)))
    check_shape("timestamps", times, ("tv", "n"), (None, len(names)))
    if not 0 < times.shape[0] <= MAX_FRAMES:
        raise ValueError(
            f"timestamps: expected at least one frame and at most {MAX_FRAMES}, got {times.shape[0] or 'none'}"
        )
    check_within("timestamps", times, _LATEST, "seconds", "divide milliseconds by 1e3, nanoseconds by 1e9")
    back = np.diff(times, axis=0) <= 0
    if back.any():
        frame, camera = first_index(back)
        raise ValueError(
            f"timestamps: camera {names[camera]!r}: expected times that increase, got {times[frame + 1, camera]:.9g} s "
            f"at frame {frame + 1} after {times[frame, camera]:.9g} s; sort the frames and drop repeated ones"
        )
    return times


def check_per_frame(name: str, value: npt.ArrayLike | None, num_frames: int) -> np.ndarray:
    """Return `value` as (tv,) float64; a number holds for every frame, None is NaN (absent).

    Raises:
        ValueError: Another shape, not numbers, infinite, or faster or sharper than any car.
    """
    array = as_floats(name, np.nan if value is None else value, allow_nan=True)
    if array.ndim == 0:
        array = np.full(num_frames, array)
    check_shape(name, array, ("tv",), (num_frames,))
    check_within(name, array, *_LIMITS[name])
    return array


def check_embedding(name: str, value: npt.ArrayLike | None) -> np.ndarray | None:
    """Return `value` as (d,) finite float64, or None.

    Raises:
        ValueError: Another shape, not numbers, NaN or infinite.
    """
    if value is None:
        return None
    array = as_floats(name, value)
    check_shape(name, array, ("d",), (None,))
    if not array.size:
        raise ValueError(f"{name}: expected at least one number, got none; leave it out where there is none")
    check_within(name, array, _LARGEST_ENTRY, "numbers", "embeddings are of a size of about 1")
    return array


def check_frame_rate(frame_rate: float) -> None:
    """Check that `frame_rate` is a number of frames a second that a camera can have.

    Raises:
        ValueError: It is not.
    """
    real_number("frame_rate", frame_rate, 1e-3, 1e5, what="a positive number of frames a second")


def regular_times(num_frames: int, frame_rate: float) -> np.ndarray:
    """Return (tv,) seconds from 0 at `frame_rate`.

    Raises:
        ValueError: A number of frames that is not a positive integer, or a frame rate that is not positive.
    """
    check_frame_rate(frame_rate)
    whole_number("num_frames", num_frames, 1, MAX_FRAMES)
    return np.arange(num_frames) / frame_rate
