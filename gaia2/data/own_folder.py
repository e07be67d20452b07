"""Your own dataset as a folder of drives: videos or pictures, a calibration, and tables of poses and boxes.

`docs/own_data.md` describes the layout.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaia2.data.box_table import BoxTable, category_ids
from gaia2.data.ego import EgoPoses
from gaia2.data.frame_readers import ImageFiles, VideoFile, video_times
from gaia2.data.log_files import find_logs, rotation_matrices
from gaia2.data.own_calibration import Calibration, read_calibration
from gaia2.data.own_tables import find_table, read_numbers, read_table
from gaia2.data.recording import Camera, Recording
from gaia2.data.source import Source
from gaia2.scene.validation import check_keys

__all__ = ["list_logs", "read_log"]

_VIDEOS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".h264", ".hevc")
_PICTURES = (".jpg", ".jpeg", ".png")
_QUATERNION = ("qw", "qx", "qy", "qz")
_LAYOUT = "<drive>/calibration.json and <drive>/cameras/<camera>.mp4 or <drive>/cameras/<camera>/*.jpg"


def list_logs(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the drives of a folder, "." if it is itself one.

    Raises:
        FileNotFoundError: There are none.
    """
    return find_logs(root, "calibration.json", f"drives, {_LAYOUT} (see docs/own_data.md),")


def read_log(
    root: str | os.PathLike[str],
    log: str,
    *,
    cameras: Sequence[str] | None = None,
    frame_step: int = 1,
    tolerance: float | None = None,
) -> Recording:
    """Return a drive.

    Args:
        root: Folder of drives.
        log: One of `list_logs(root)`.
        cameras: Names of its calibration; None: all. The first one's pictures are the frames.
        frame_step: Take every so manieth frame.
        tolerance: Seconds between pictures of one frame; None: half a frame period.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged, or what is in it cannot be meant; the message names it.

    Example:
        >>> read_log("drives", "monday").scene.duration  # doctest: +SKIP
        19.95
    """
    folder = Path(root) / log
    if not (folder / "calibration.json").is_file():
        raise FileNotFoundError(f"{folder}: expected a drive, {_LAYOUT}; see docs/own_data.md")
    calibration = read_calibration(folder / "calibration.json", cameras)
    about = _about(folder / "about.json")
    poses, motion = _read_poses(folder, calibration), _read_motion(folder, calibration)
    boxes, unknown = _read_boxes(folder, calibration, poses)
    places = None
    if (path := find_table(folder / "places")) is not None:
        values = read_numbers(path, read_table(path), ("time", "latitude", "longitude"))
        places = (values[:, 0] * calibration.second, values[:, 1:])
    return Recording.assemble(
        calibration.rig,
        [_read_camera(folder / "cameras", name, calibration) for name in calibration.rig.names],
        poses=poses,
        motion=motion,
        boxes=boxes,
        metadata=about["metadata"],
        prompt=about["prompt"],
        source=Source(
            about["dataset"], folder.resolve().name if log == "." else log, about["time"], (), about["notes"]
        ),
        places=places,
        tolerance=tolerance,
        frame_step=frame_step,
        notes=[f"unknown categories, taken as other: {', '.join(unknown)}"] if unknown else [],
    )


def _about(path: Path) -> dict[str, Any]:
    blank: dict[str, Any] = {"dataset": "folder", "metadata": None, "prompt": None, "time": 0.0, "notes": {}}
    if not path.is_file():
        return blank
    try:
        return {**blank, **check_keys("about.json", json.loads(path.read_text(encoding="utf-8")), (), blank)}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_camera(folder: Path, name: str, calibration: Calibration) -> Camera:
    videos = [path for path in (folder / f"{name}{kind}" for kind in _VIDEOS) if path.is_file()]
    pictures = folder / name
    table = find_table(folder / name)
    times = None if table is None else read_numbers(table, read_table(table), ("time",))[:, 0] * calibration.second
    if len(videos) + pictures.is_dir() > 1:
        raise ValueError(f"{folder}: expected one video or one folder of pictures of {name!r}, got several; remove one")
    if videos:
        shown = video_times(videos[0]) if times is None else times
        return Camera(shown + calibration.shift[name], VideoFile(videos[0], len(shown)))
    if not pictures.is_dir():
        raise FileNotFoundError(f"{folder}: expected {name}.mp4 or {name}/*.jpg for the camera {name!r}, got neither")
    paths = sorted(path for path in pictures.iterdir() if path.suffix.lower() in _PICTURES)
    if times is None:
        wrong = next((path for path in paths if not path.stem.replace(".", "", 1).isdigit()), None)
        if wrong is not None:
            raise ValueError(f"{wrong}: expected the time as the file's name, or a table {name}.csv with a column time")
        paths.sort(key=lambda path: float(path.stem))
        times = np.array([float(path.stem) for path in paths]) * calibration.second
    if len(times) != len(paths):
        raise ValueError(
            f"{table}: expected a time for each of the {len(paths)} pictures in {pictures}, got {len(times)}"
        )
    return Camera(times + calibration.shift[name], ImageFiles(paths))


def _read_poses(folder: Path, calibration: Calibration) -> EgoPoses | None:
    path = find_table(folder / "poses")
    if path is None:
        return None
    table = read_table(path)
    times = read_numbers(path, table, ("time",))[:, 0] * calibration.second
    position = np.nan_to_num(read_numbers(path, table, ("x", "y", "z"), optional=True))
    if "qw" in table:
        rotation = rotation_matrices(str(path), read_numbers(path, table, _QUATERNION))
    else:
        yaw = read_numbers(path, table, ("yaw",))[:, 0]
        zero, one = np.zeros_like(yaw), np.ones_like(yaw)
        rows = [np.cos(yaw), -np.sin(yaw), zero, np.sin(yaw), np.cos(yaw), zero, zero, zero, one]
        rotation = np.stack(rows, axis=1).reshape(-1, 3, 3)
    axes = calibration.ego_axes
    try:
        return EgoPoses(times, position @ axes.T, axes @ rotation @ axes.T)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_motion(folder: Path, calibration: Calibration) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    path = find_table(folder / "motion")
    if path is None:
        return None
    table = read_table(path)
    times = read_numbers(path, table, ("time",))[:, 0] * calibration.second
    speed, curvature = read_numbers(path, table, ("speed", "curvature"), optional=True).T
    return times, speed, curvature


def _read_boxes(
    folder: Path, calibration: Calibration, poses: EgoPoses | None
) -> tuple[BoxTable | None, tuple[str, ...]]:
    path = find_table(folder / "boxes")
    if path is None:
        return None, ()
    if poses is None:
        raise ValueError(f"{path}: expected poses.csv beside boxes, which move with the ego vehicle, got none")
    table = read_table(path)
    times = read_numbers(path, table, ("time",))[:, 0] * calibration.second
    centre = read_numbers(path, table, ("x", "y", "z"))
    heading = _headings(path, table, calibration)
    if "category" not in table:
        raise ValueError(f"{path}: expected a column category, got {', '.join(table)}")
    category, unknown = category_ids([str(name) for name in table["category"]], {})
    if calibration.box_pose is not None:  # a sensor's frame: to the ego frame
        centre = centre @ calibration.box_pose[:3, :3].T + calibration.box_pose[:3, 3]
        heading = heading @ calibration.box_pose[:3, :3].T
    else:
        centre, heading = centre @ calibration.ego_axes.T, heading @ calibration.ego_axes.T
    if calibration.box_frame != "world":
        position, rotation = poses.at(times)
        centre = position + np.einsum("kij,kj->ki", rotation, centre)
        heading = np.einsum("kij,kj->ki", rotation, heading)
    size = read_numbers(path, table, ("length", "width", "height"), optional=True)
    track = np.array([str(name) for name in table["track"]]) if "track" in table else None
    return BoxTable(times, track, category, centre, size, heading), unknown


def _headings(path: Path, table: dict[str, list[Any]], calibration: Calibration) -> np.ndarray:
    """Where the boxes' fronts point (k, 3), in the frame of the boxes."""
    if "qw" in table:
        return rotation_matrices(str(path), read_numbers(path, table, _QUATERNION))[:, :, 0]
    column = "rotation_y" if calibration.box_camera else "yaw"
    if column not in table:
        raise ValueError(
            f"{path}: expected a column {column}, or qw qx qy qz, for boxes in the frame {calibration.box_frame!r}, "
            f"got {', '.join(table)}; a yaw turns about an axis that points up, rotation_y about a camera's y axis"
        )
    angle = read_numbers(path, table, (column,))[:, 0]
    zero = np.zeros_like(angle)
    if calibration.box_camera:
        return np.stack([np.cos(angle), zero, -np.sin(angle)], axis=1)
    return np.stack([np.cos(angle), np.sin(angle), zero], axis=1)
