"""What the readers of driving logs share: finding files, cutting scenes, motion from poses."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gaia2._checks import shown
from gaia2.scene import Scene
from gaia2.scene.scene_fields import MAX_CURVATURE
from gaia2.scene.validation import as_floats, check_shape

__all__ = ["check_log_folder", "cut_scene", "find_logs", "motion_from_poses", "rotation_matrices"]

MIN_SPEED_FOR_CURVATURE = 0.5
"""m/s; below it the curvature of measured motion is noise, and taken as absent."""

_SAME_RATE = 0.01
_SMOOTHING = 0.3


def check_log_folder(folder: str | os.PathLike[str], files: Iterable[str], layout: str) -> Path:
    """Check that a log folder is there and has all its files.

    Args:
        folder: The folder.
        files: Paths inside it that must be files.
        layout: The expected layout in words, for the message.

    Returns:
        The folder.

    Raises:
        FileNotFoundError: The folder or a file is missing; the message names it and the layout.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; expected {layout}")
    for name in files:
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder}: no file {name}; expected {layout}")
    return folder


def find_logs(root: str | os.PathLike[str], marker: str, layout: str) -> list[str]:
    """Return the folders at or below `root` that have a file, "." for `root` itself; what is in them is not searched.

    Args:
        root: Where to look.
        marker: Path of a file inside a log.
        layout: The expected layout in words, for the message.

    Raises:
        FileNotFoundError: There is none.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("b", "a/c"):
        ...     (root / name).mkdir(parents=True)
        ...     (root / name / "poses.csv").touch()
        >>> find_logs(root, "poses.csv", "drives")
        ['a/c', 'b']
    """
    found = []
    for folder, below, _ in os.walk(root):
        if (Path(folder) / marker).is_file():
            found.append(Path(folder).relative_to(root).as_posix())
            below.clear()
    if not found:
        raise FileNotFoundError(f"{root}: expected {layout} below it, got none")
    return sorted(found)


def cut_scene(scene: Scene, *, frame_rate: float, start: float, num_frames: int | None) -> Scene:
    """Return the part of a log that was asked for, with timestamps from 0.

    At the log's own frame rate (within 1%) its frames are taken as they are, with the times they were taken at; at
    another one the scene is resampled at regular times (`Scene.resample`).

    Args:
        scene: The whole log.
        frame_rate: Frames a second.
        start: Seconds from the first frame of the log.
        num_frames: Number of frames; None: all from `start`.

    Raises:
        ValueError: A frame rate, start or number of frames that the log cannot give.
    """
    own_rate = (scene.num_frames - 1) / scene.duration if scene.num_frames > 1 else np.inf
    if abs(frame_rate / own_rate - 1) > _SAME_RATE:
        part = scene.resample(frame_rate=frame_rate, num_frames=num_frames, start=start)
    else:
        times = scene.frame_times - scene.frame_times[0]
        if not 0 <= start <= times[-1]:
            raise ValueError(f"start: expected seconds within the log, 0 to {times[-1]:.2f}, got {start!r}")
        first = int(np.abs(times - start).argmin())
        left = scene.num_frames - first
        if num_frames is not None and not 1 <= num_frames <= left:
            raise ValueError(
                f"num_frames: expected 1 to {left}, the frames of this log from {start:g} s on, got {num_frames!r}"
            )
        part = scene.window(first, first + (left if num_frames is None else num_frames))
    return part.replace(timestamps=part.timestamps - part.timestamps[0].min())


def rotation_matrices(name: str, quaternions: np.ndarray) -> np.ndarray:
    """Return the rotation matrices of unit quaternions.

    Args:
        name: Where they come from, for the message.
        quaternions: (k, 4), w x y z, Hamilton.

    Returns:
        (k, 3, 3).

    Raises:
        ValueError: The norm of one is off 1 by more than 0.001.

    Example:
        >>> left_turn = rotation_matrices("turn", np.array([[0.5**0.5, 0, 0, 0.5**0.5]]))[0]
        >>> np.allclose(left_turn @ [1, 0, 0], [0, 1, 0])
        True
    """
    norm = np.linalg.norm(quaternions, axis=1)
    bad = ~(np.abs(norm - 1) <= 1e-3)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"{name}: expected unit quaternions (w x y z), got norm {norm[row]:.4f} in row {row}; the file is damaged, "
            "get it again"
        )
    w, x, y, z = (quaternions / norm[:, None]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


def motion_from_poses(
    times: np.ndarray, position: np.ndarray, rotation: np.ndarray, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return signed speed and path curvature from a series of ego poses.

    Around each time asked for, a parabola is fitted to the poses within 0.3 s (tricube weights), which smooths them
    and gives the derivatives there, at the ends of the series too. Where poses are sparse, those within three and a
    half of their median distance in time count, so that poses of 1 Hz give a motion too.

    Args:
        times: (k,) seconds of the poses, increasing.
        position: (k, 3) metres, ego origin in a frame with z up.
        rotation: (k, 3, 3) ego to that frame.
        at: (tv,) seconds.

    Returns:
        speed: (tv,) m/s along the ego x axis, negative in reverse, NaN where there are too few poses.
        curvature: (tv,) yaw rate by speed in 1/m, positive to the left, NaN also below 0.5 m/s and beyond 1 1/m.

    Raises:
        ValueError: The times do not increase, or a shape or a number is not what it should be.

    Example:
        >>> t = np.linspace(0, 2, 201)
        >>> zero, one = np.zeros_like(t), np.ones_like(t)
        >>> turn = 0.1 * t  # 5 m/s on a circle of 50 m
        >>> place = np.stack([50 * np.sin(turn), 50 - 50 * np.cos(turn), zero], axis=1)
        >>> rows = [[np.cos(turn), -np.sin(turn), zero], [np.sin(turn), np.cos(turn), zero], [zero, zero, one]]
        >>> speed, curvature = motion_from_poses(t, place, np.array(rows).transpose(2, 0, 1), np.array([1.0]))
        >>> speed.round(3).tolist(), curvature.round(4).tolist()
        ([5.0], [0.02])
    """
    times, position, rotation, at = (
        as_floats(name, values)
        for name, values in (("times", times), ("position", position), ("rotation", rotation), ("at", at))
    )
    k = len(times) if times.ndim else 0
    check_shape("times", times, ("k",), (None,))
    check_shape("position", position, ("k", "3"), (k, 3))
    check_shape("rotation", rotation, ("k", "3", "3"), (k, 3, 3))
    check_shape("at", at, ("tv",), (None,))
    if not k or (np.diff(times) <= 0).any():
        raise ValueError(f"times: expected seconds that increase, got {shown(times.tolist())}; sort the poses")
    forward = rotation[:, :, 0]
    yaw = np.unwrap(np.arctan2(forward[:, 1], forward[:, 0]))
    series = np.concatenate([position - position[:1], forward, yaw[:, None]], axis=1)
    smoothing = max(_SMOOTHING, 3.5 * float(np.median(np.diff(times)))) if len(times) > 1 else _SMOOTHING
    reach = (times[None] - at[:, None]) / smoothing
    weight = np.clip(1 - np.abs(reach) ** 3, 0, None) ** 3
    powers = reach[:, :, None] ** np.arange(3)
    weighted = powers * weight[:, :, None]
    normal = np.einsum("tki,tkj->tij", weighted, powers)
    enough = (weight > 0).sum(1) >= 4
    normal[~enough] = np.eye(3)
    fit = np.linalg.solve(normal, np.einsum("tki,ks->tis", weighted, series))
    fit[~enough] = np.nan
    value, rate = fit[:, 0], fit[:, 1] / smoothing
    heading = value[:, 3:6] / np.linalg.norm(value[:, 3:6], axis=1, keepdims=True)
    speed = (rate[:, :3] * heading).sum(1)
    moving = np.abs(speed) >= MIN_SPEED_FOR_CURVATURE
    curvature = np.full_like(speed, np.nan)
    curvature[moving] = rate[moving, 6] / speed[moving]
    curvature[np.abs(curvature) > MAX_CURVATURE] = np.nan  # of no car: noise of the poses
    return speed, curvature
