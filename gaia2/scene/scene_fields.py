"""Checks of the fields of `Scene`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from gaia2.scene.validation import as_floats, check_shape, first_index

__all__ = ["check_embedding", "check_frame_rate", "check_per_frame", "check_timestamps", "regular_times"]


def check_timestamps(value: npt.ArrayLike, names: tuple[str, ...]) -> np.ndarray:
    """Return timestamps as (tv, n) float64, finite and strictly increasing for each camera.

    Args:
        value: (tv, n) seconds, or (tv,) for all cameras.
        names: the n camera names.

    Raises:
        ValueError: another shape, no frame, NaN or infinite, or a time that is not later than the one before.
    """
    times = as_floats("timestamps", value)
    if times.ndim == 1:
        times = np.tile(times[:, None], (1, len(names)))
    check_shape("timestamps", times, ("tv", "n"), (None, len(names)))
    if times.shape[0] == 0:
        raise ValueError("timestamps: expected at least one frame, got none")
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
        ValueError: another shape, not numbers, or infinite.
    """
    array = as_floats(name, np.nan if value is None else value, allow_nan=True)
    if array.ndim == 0:
        array = np.full(num_frames, array)
    check_shape(name, array, ("tv",), (num_frames,))
    return array


def check_embedding(name: str, value: npt.ArrayLike | None) -> np.ndarray | None:
    """Return `value` as (d,) finite float64, or None.

    Raises:
        ValueError: another shape, not numbers, NaN or infinite.
    """
    if value is None:
        return None
    array = as_floats(name, value)
    check_shape(name, array, ("d",), (None,))
    return array


def check_frame_rate(frame_rate: float) -> None:
    """Check that `frame_rate` is a positive number.

    Raises:
        ValueError: it is not.
    """
    if not (np.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate: expected a positive number of frames a second, got {frame_rate!r}")


def regular_times(num_frames: int, frame_rate: float) -> np.ndarray:
    """Return (tv,) seconds from 0 at `frame_rate`.

    Raises:
        ValueError: a number of frames that is not a positive integer, or a frame rate that is not positive.
    """
    check_frame_rate(frame_rate)
    if isinstance(num_frames, bool) or not isinstance(num_frames, (int, np.integer)) or num_frames < 1:
        raise ValueError(f"num_frames: expected a positive integer, got {num_frames!r}")
    return np.arange(num_frames) / frame_rate
