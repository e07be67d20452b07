"""Waymo Open Dataset v2 segments (perception, parquet components): https://waymo.com/open/data/perception."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaia2.data.box_table import BoxTable
from gaia2.data.ego import EgoPoses
from gaia2.data.frame_readers import EncodedImages
from gaia2.data.log_files import cut_scene
from gaia2.data.recording import Camera, Recording
from gaia2.data.source import Source
from gaia2.scene import AGENT_CATEGORIES, CameraRig, Scene

__all__ = ["WAYMO_CAMERAS", "list_logs", "load_waymo", "read_log"]

WAYMO_CAMERAS = ("front", "front_left", "front_right", "side_left", "side_right")
"""The five cameras: number i + 1 in the data set's `key.camera_name`."""

OPENCV_FROM_WAYMO = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Pose of an OpenCV camera frame (x right, y down, z forward) in Waymo's (x forward, y left, z up)."""

_COMPONENTS = ("camera_image", "camera_calibration", "vehicle_pose")
_LAYOUT = f"Waymo Open Dataset v2, <component>/<segment>.parquet with {', '.join(_COMPONENTS)}"

_SEGMENT, _TIME, _CAMERA = "key.segment_context_name", "key.frame_timestamp_micros", "key.camera_name"
_IMAGE, _POSE_TIME = "[CameraImageComponent].image", "[CameraImageComponent].pose_timestamp"
_TRANSFORM = "[VehiclePoseComponent].world_from_vehicle.transform"
_CALIBRATION = "[CameraCalibrationComponent]."
_BOX, _STATS = "[LiDARBoxComponent].", "[StatsComponent]."

_TYPES = {1: "car", 2: "pedestrian", 4: "bicycle"}  # 3 is a sign, which is no road user
_TIMES_OF_DAY = {"Day": "day", "Night": "night"}  # Dawn/Dusk is left open, since it may be either
_WEATHER = {"sunny": "clear", "rain": "rain"}


def load_waymo(
    root: str | os.PathLike[str],
    segment: str,
    *,
    cameras: Sequence[str] | None = None,
    frame_rate: float = 10.0,
    start: float = 0.0,
    num_frames: int | None = None,
) -> Scene:
    """Return a segment of the Waymo Open Dataset: five cameras at 10 Hz, motion from the vehicle poses, boxes.

    The ego frame is the data set's: its origin is on the ground below the middle of the rear axle. A camera's time is
    that at which its picture's pose holds. Boxes are those of the lidar; signs are left out.

    Args:
        root: Folder with one folder for each component.
        segment: Name of the segment.
        cameras: Names of `WAYMO_CAMERAS`; None: all.
        frame_rate: Frames a second; 10 takes the frames as they are, another one resamples.
        start: Seconds from the first frame.
        num_frames: Number of frames; None: all from `start`.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: A component is missing.
        ValueError: A file is damaged, or a camera is unknown.
        ImportError: pyarrow is not installed.

    Example:
        >>> scene = load_waymo("/data/waymo/training", "1002394...", num_frames=48)  # doctest: +SKIP
    """
    recording = read_log(root, segment, cameras=cameras)
    return cut_scene(recording.scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


def list_logs(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the segments that have pictures, in order."""
    logs = sorted(path.stem for path in (Path(root) / "camera_image").glob("*.parquet"))
    if not logs:
        raise FileNotFoundError(f"{root}: expected {_LAYOUT}, got no file camera_image/<segment>.parquet")
    return logs


def read_log(
    root: str | os.PathLike[str], log: str, *, cameras: Sequence[str] | None = None, frame_step: int = 1
) -> Recording:
    """Return a segment with its pictures; see `load_waymo`.

    Args:
        root: Folder with one folder for each component.
        log: Name of the segment.
        cameras: As in `load_waymo`.
        frame_step: Take every so manieth frame.
    """
    folder = Path(root)
    for component in _COMPONENTS:
        if not (folder / component / f"{log}.parquet").is_file():
            raise FileNotFoundError(f"{folder}: no file {component}/{log}.parquet; expected {_LAYOUT}")
    names = WAYMO_CAMERAS if cameras is None else tuple(cameras)
    unknown = [name for name in names if name not in WAYMO_CAMERAS]
    if unknown:
        raise ValueError(f"cameras: expected names of {', '.join(WAYMO_CAMERAS)}, got {unknown[0]!r}")
    poses, origin = read_poses(folder / "vehicle_pose" / f"{log}.parquet")
    metadata, notes = _stats(folder / "stats" / f"{log}.parquet")
    return Recording.assemble(
        read_rig(folder / "camera_calibration" / f"{log}.parquet", names),
        _cameras(folder / "camera_image" / f"{log}.parquet", names, origin),
        poses=poses,
        boxes=_boxes(folder / "lidar_box" / f"{log}.parquet", poses, origin),
        metadata=metadata,
        source=Source("waymo", log, origin * 1e-6, notes=notes),
        frame_step=frame_step,
    )


def read_rig(path: Path, names: Sequence[str]) -> CameraRig:
    """Return the rig of a calibration file, with the cameras' axes turned from x forward to z forward."""
    lens = [f"intrinsic.{name}" for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")]
    keys = [_CALIBRATION + name for name in (*lens, "extrinsic.transform", "width", "height")]
    table = _read(path, [_CAMERA, *keys])
    rows = [np.flatnonzero(table[_CAMERA] == WAYMO_CAMERAS.index(name) + 1)[:1] for name in names]
    missing = [name for name, row in zip(names, rows, strict=True) if not len(row)]
    if missing:
        raise ValueError(f"{path}: expected the calibration of {', '.join(names)}, got none of {missing[0]}")
    index = np.concatenate(rows)
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = (table[_CALIBRATION + name][index].astype(np.float64) for name in lens)
    intrinsics = np.tile(np.eye(3), (len(names), 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 0, 2], intrinsics[:, 1, 2] = fx, fy, cx, cy
    poses = _matrices(path, table[_CALIBRATION + "extrinsic.transform"][index])
    return CameraRig(
        names=tuple(names),
        image_size=np.stack([table[_CALIBRATION + "height"][index], table[_CALIBRATION + "width"][index]], axis=1),
        intrinsics=intrinsics,
        extrinsics=poses @ OPENCV_FROM_WAYMO,
        distortion=np.stack([k1, k2, p1, p2, k3], axis=1),
    )


def read_poses(path: Path) -> tuple[EgoPoses, int]:
    """Return the vehicle's poses, in seconds from the first one, and the first one's time in microseconds."""
    table = _read(path, [_TIME, _TRANSFORM])
    if not len(table[_TIME]):
        raise ValueError(f"{path}: expected poses, got an empty table")
    origin = int(table[_TIME].min())
    matrices = _matrices(path, table[_TRANSFORM])
    return EgoPoses((table[_TIME] - origin) * 1e-6, matrices[:, :3, 3], matrices[:, :3, :3]), origin


def _cameras(path: Path, names: Sequence[str], origin: int) -> list[Camera]:
    table = _read(path, [_TIME, _CAMERA, _POSE_TIME])
    cameras = []
    for name in names:
        rows = np.flatnonzero(table[_CAMERA] == WAYMO_CAMERAS.index(name) + 1)
        seconds = table[_POSE_TIME][rows] - origin * 1e-6
        order = np.argsort(seconds, kind="stable")
        rows = rows[order]
        images = EncodedImages(_Images(path, rows), len(rows), f"{path}, camera {name}")
        cameras.append(Camera(seconds[order], images))
    return cameras


class _Images:
    """Encoded pictures of some rows of a file, which is read one row group at a time."""

    def __init__(self, path: Path, rows: np.ndarray) -> None:
        self.path, self.rows = path, rows
        self._group: tuple[int, Any] = (-1, None)
        self._starts: np.ndarray | None = None

    def __call__(self, index: int) -> bytes:
        with _open(self.path) as file:
            if self._starts is None:
                sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
                self._starts = np.r_[0, np.cumsum(sizes)]
            row = int(self.rows[index])
            group = int(np.searchsorted(self._starts, row, side="right")) - 1
            if self._group[0] != group:
                self._group = (group, file.read_row_group(group, columns=[_IMAGE]).column(0))
        value = self._group[1][row - int(self._starts[group])].as_py()
        if not isinstance(value, bytes):
            raise ValueError(f"expected the bytes of a picture, got {type(value).__name__}")
        return value


def _boxes(path: Path, poses: EgoPoses, origin: int) -> BoxTable | None:
    """The lidar's boxes, or None where the file is missing, as for the test set."""
    if not path.is_file():
        return None
    numbers = [f"box.{name}" for name in ("center.x", "center.y", "center.z", "size.x", "size.y", "size.z", "heading")]
    table = _read(path, [_TIME, "key.laser_object_id", _BOX + "type", *(_BOX + name for name in numbers)])
    kept = np.isin(table[_BOX + "type"], list(_TYPES))
    kinds = [AGENT_CATEGORIES.index(_TYPES[int(kind)]) for kind in table[_BOX + "type"][kept]]
    boxes = np.stack([table[_BOX + name][kept].astype(np.float64) for name in numbers], axis=1)
    times = (table[_TIME][kept] - origin) * 1e-6
    return BoxTable.from_ego(poses, times, table["key.laser_object_id"][kept].astype(str), kinds, boxes)


def _stats(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    metadata = {"country": "us"}
    if not path.is_file():
        return metadata, {}
    table = _read(path, [_STATS + name for name in ("time_of_day", "location", "weather")])
    if not len(table[_STATS + "weather"]):
        return metadata, {}
    words = {name: str(table[_STATS + name][0]) for name in ("time_of_day", "location", "weather")}
    if words["time_of_day"] in _TIMES_OF_DAY:
        metadata["time_of_day"] = _TIMES_OF_DAY[words["time_of_day"]]
    if words["weather"].lower() in _WEATHER:
        metadata["weather"] = _WEATHER[words["weather"].lower()]
    return metadata, words


def _matrices(path: Path, transforms: np.ndarray) -> np.ndarray:
    """Poses (k, 4, 4) of lists of 16 numbers in single precision, their rotations made orthonormal again."""
    try:
        matrices = np.stack([np.asarray(value, dtype=np.float64) for value in transforms]).reshape(-1, 4, 4)
    except ValueError as error:
        raise ValueError(f"{path}: expected transforms of 16 numbers, got others") from error
    u, scale, v = np.linalg.svd(matrices[:, :3, :3])
    if not np.abs(scale - 1).max() < 1e-3:
        raise ValueError(f"{path}: expected transforms with a rotation, got a scale of {scale.max():.3f}")
    matrices[:, :3, :3] = u @ v
    matrices[:, 3] = [0, 0, 0, 1]
    return matrices


def _read(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    with _open(path) as file:
        missing = [name for name in columns if name not in file.schema_arrow.names]
        if missing:
            raise ValueError(f"{path}: expected the columns {', '.join(columns)}, got none named {missing[0]}")
        table = file.read(columns=list(columns))
        return {name: table.column(name).to_numpy() for name in columns}


def _open(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("reading the Waymo Open Dataset needs pyarrow: pip install 'gaia2[datasets]'") from error
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a parquet file, got a damaged one ({error}); get it again") from error
