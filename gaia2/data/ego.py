"""`EgoPoses`: where the ego vehicle was, as logs have it, and what it did there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaia2.data.log_files import motion_from_poses, rotation_matrices

__all__ = ["EgoPoses"]

_BLOCK = 512
_MAX_CURVATURE = 1.0  # 1/m; no road vehicle turns on a metre, what is beyond is noise


@dataclass(frozen=True, eq=False)
class EgoPoses:
    """Poses of the ego vehicle over time; put in order, poses of one time kept once.

    Args:
        times: (k,) seconds.
        position: (k, 3) metres, the ego origin in a world frame with z up.
        rotation: (k, 3, 3) ego to world, or (k, 4) unit quaternions w x y z.

    Raises:
        ValueError: Shapes do not fit, there is no pose, or a rotation is none.

    Example:
        >>> poses = EgoPoses([0.0, 1.0], [[0, 0, 0], [10, 0, 0]], [[1, 0, 0, 0], [1, 0, 0, 0]])
        >>> poses.at([0.5])[0].tolist()
        [[5.0, 0.0, 0.0]]
    """

    times: np.ndarray
    position: np.ndarray
    rotation: np.ndarray

    def __init__(self, times: npt.ArrayLike, position: npt.ArrayLike, rotation: npt.ArrayLike) -> None:
        stamps, place, turn = (np.array(value, dtype=np.float64) for value in (times, position, rotation))
        k = len(stamps) if stamps.ndim == 1 else 0
        if k == 0 or place.shape != (k, 3) or turn.shape not in ((k, 4), (k, 3, 3)):
            raise ValueError(
                f"poses: expected times (k,), position (k, 3) and rotation (k, 3, 3) or (k, 4) of at least one pose, "
                f"got {stamps.shape}, {place.shape} and {turn.shape}"
            )
        if not (np.isfinite(stamps).all() and np.isfinite(place).all()):
            raise ValueError("poses: expected finite times and positions, got NaN or infinity; leave such rows out")
        if turn.ndim == 2:
            turn = rotation_matrices("poses", turn)
        if not np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max() < 1e-3:
            raise ValueError("poses: expected rotation matrices, got some that are not orthonormal")
        order = np.unique(stamps, return_index=True)[1]
        for name, value in (("times", stamps), ("position", place), ("rotation", turn)):
            object.__setattr__(self, name, value[order])

    def at(self, times: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return position (tv, 3) and rotation (tv, 3, 3) at other times, between the poses; the nearest one outside.

        Args:
            times: (tv,) seconds.
        """
        when = np.asarray(times, dtype=np.float64)
        if len(self.times) == 1:
            return np.repeat(self.position, len(when), 0), np.repeat(self.rotation, len(when), 0)
        before = np.searchsorted(self.times, when, side="right").clip(1, len(self.times) - 1) - 1
        gap = self.times[before + 1] - self.times[before]
        share = ((when - self.times[before]) / gap).clip(0, 1)[:, None]
        position = self.position[before] + share * (self.position[before + 1] - self.position[before])
        first = self.rotation[before]
        turn = _rotation_vector(first.transpose(0, 2, 1) @ self.rotation[before + 1])
        return position, first @ _rotation(share * turn)

    def motion(self, times: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Return signed speed (tv,) m/s and curvature (tv,) 1/m, positive to the left; see `motion_from_poses`.

        Args:
            times: (tv,) seconds, increasing.
        """
        period = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        margin = 1 + 5 * period
        when = np.asarray(times, dtype=np.float64)
        inside = when.clip(self.times[0], self.times[-1])
        when = np.where(np.abs(when - inside) <= 1.5 * period, inside, when)  # cameras that fire after the last pose
        parts = []
        for block in np.split(when, range(_BLOCK, len(when), _BLOCK)):  # a fit is over frames times poses
            near = slice(*np.searchsorted(self.times, (block.min() - margin, block.max() + margin)))
            parts.append(motion_from_poses(self.times[near], self.position[near], self.rotation[near], block))
        speed, curvature = (np.concatenate(series) for series in zip(*parts, strict=True))
        return speed, np.where(np.abs(curvature) <= _MAX_CURVATURE, curvature, np.nan)

    def to_world(self, times: npt.ArrayLike, points: np.ndarray) -> np.ndarray:
        """Return points (tv, 3) of the ego frame at those times in the world frame."""
        position, rotation = self.at(times)
        return position + np.einsum("tij,tj->ti", rotation, points)


def _rotation_vector(rotation: np.ndarray) -> np.ndarray:
    """Axis times angle (k, 3) of rotations (k, 3, 3) by less than half a turn."""
    skew = (rotation - rotation.transpose(0, 2, 1)) / 2
    axis = np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], axis=1)
    sine = np.linalg.norm(axis, axis=1)
    angle = np.arctan2(sine, (np.trace(rotation, axis1=1, axis2=2) - 1) / 2)
    return axis * np.where(sine > 1e-12, angle / np.maximum(sine, 1e-12), 1.0)[:, None]


def _rotation(vector: np.ndarray) -> np.ndarray:
    """Rotations (k, 3, 3) of axis times angle (k, 3)."""
    x, y, z = vector.T
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    angle = np.linalg.norm(vector, axis=1)[:, None, None]
    return np.eye(3) + np.sinc(angle / np.pi) * skew + np.sinc(angle / (2 * np.pi)) ** 2 / 2 * (skew @ skew)
