"""Cameras that fire at their own times, brought to frames of all cameras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Synchronised", "synchronise"]


@dataclass(frozen=True, eq=False)
class Synchronised:
    """Which picture of each camera makes up a frame.

    Attributes:
        index: (tv, n) picture of camera n in frame tv; each is used once at most.
        offset: (tv, n) seconds from the reference camera's picture to that one.
        notes: What was left out, in words.
    """

    index: np.ndarray
    offset: np.ndarray
    notes: tuple[str, ...]

    @property
    def largest_offset(self) -> float:
        """Seconds between two pictures of one frame, at most."""
        return float((self.offset.max(axis=1) - self.offset.min(axis=1)).max(initial=0.0))


def synchronise(
    times: Sequence[npt.ArrayLike], *, names: Sequence[str], reference: int = 0, tolerance: float | None = None
) -> Synchronised:
    """Find for each picture of the reference camera the nearest picture of the others.

    A frame is left out where a camera has none within the tolerance: it started late, stopped early or dropped some.

    Args:
        times: For each camera (k,) seconds, not decreasing; another number of pictures for each, perhaps.
        names: The cameras' names.
        reference: The camera whose pictures are the frames.
        tolerance: Seconds; None: half the reference camera's frame period.

    Raises:
        ValueError: A camera has no picture, its times go back, or no frame is left.

    Example:
        >>> late = synchronise([[0.0, 0.1, 0.2], [0.11, 0.21]], names=["front", "rear"])
        >>> late.index.tolist(), round(late.largest_offset, 3)
        ([[1, 0], [2, 1]], 0.01)
        >>> late.notes
        ("1 of 3 frames of 'front' left out: 'rear' has no picture within 0.050 s",)
    """
    stamps = [np.asarray(camera, dtype=np.float64) for camera in times]
    for name, camera in zip(names, stamps, strict=True):
        if not len(camera):
            raise ValueError(f"camera {name!r}: expected pictures, got none; leave the camera out of the rig")
        if (np.diff(camera) < 0).any():
            row = int((np.diff(camera) < 0).argmax()) + 1
            raise ValueError(
                f"camera {name!r}: expected times that do not go back, got {camera[row]:.6f} s in row {row}"
            )
    notes = []
    for number, name in enumerate(names):
        twice = int((np.diff(stamps[number]) <= 0).sum())
        if twice:
            notes.append(f"{twice} pictures of {name!r} left out: their time is that of the one before")
    base = np.flatnonzero(np.r_[True, np.diff(stamps[reference]) > 0])
    clock = stamps[reference][base]
    if tolerance is None:
        tolerance = float(np.median(np.diff(clock))) / 2 if len(clock) > 1 else 0.05
    index = np.stack([base if c == reference else _nearest(stamp, clock) for c, stamp in enumerate(stamps)], axis=1)
    offset = np.stack([stamp[index[:, c]] for c, stamp in enumerate(stamps)], axis=1) - clock[:, None]
    missing: np.ndarray = np.abs(offset) > tolerance + 1e-9
    for number, name in enumerate(names):
        if missing[:, number].any():
            notes.append(
                f"{int(missing[:, number].sum())} of {len(clock)} frames of {names[reference]!r} left out: {name!r} "
                f"has no picture within {tolerance:.3f} s"
            )
    late = missing.any(axis=1)
    kept = _first_use(index, np.logical_not(late))
    repeated = len(clock) - int(late.sum()) - int(kept.sum())
    if repeated:
        notes.append(
            f"{repeated} of {len(clock)} frames of {names[reference]!r} left out: their nearest pictures stand in the "
            "frame before"
        )
    if not kept.any():
        raise ValueError(
            f"cameras: expected moments at which all of {', '.join(names)} have a picture within {tolerance:.3f} s, "
            "got none; are the times of one clock and one unit? Give a larger tolerance or leave cameras out"
        )
    return Synchronised(index[kept], offset[kept], tuple(notes))


def _nearest(times: np.ndarray, when: np.ndarray) -> np.ndarray:
    """Index of the time nearest to each of `when`; of equal times the first."""
    after = np.searchsorted(times, when).clip(0, len(times) - 1)
    before = (after - 1).clip(0)
    nearest = np.where(np.abs(times[before] - when) < np.abs(times[after] - when), before, after)
    return np.searchsorted(times, times[nearest])


def _first_use(index: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Of the frames kept, those none of whose pictures stands in one before."""
    used = np.full(index.shape[1], -1)
    fresh = np.zeros(len(index), dtype=bool)
    for frame in np.flatnonzero(kept):
        fresh[frame] = (index[frame] > used).all()
        if fresh[frame]:
            used = index[frame]
    return fresh
