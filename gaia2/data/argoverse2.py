"""Argoverse 2 sensor logs: https://argoverse.github.io/user-guide/datasets/sensor.html."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gaia2.data.box_table import BoxTable, category_ids
from gaia2.data.ego import EgoPoses
from gaia2.data.frame_readers import ImageFiles
from gaia2.data.geo import latlon_from_utm, utm_from_latlon
from gaia2.data.log_files import check_log_folder, cut_scene, find_logs, rotation_matrices
from gaia2.data.recording import Camera, Recording
from gaia2.data.source import Source
from gaia2.scene import CameraRig, Scene

__all__ = ["ARGOVERSE2_CAMERAS", "list_logs", "load_argoverse2", "read_log"]

ARGOVERSE2_CAMERAS = (
    "front_center",
    "front_left",
    "front_right",
    "side_left",
    "side_right",
    "rear_left",
    "rear_right",
)
"""The seven ring cameras, under their names in the rig: the data set's without `ring_`."""

_INTRINSICS = "calibration/intrinsics.feather"
_EXTRINSICS = "calibration/egovehicle_SE3_sensor.feather"
_POSES = "city_SE3_egovehicle.feather"
_ANNOTATIONS = "annotations.feather"
_FILES = (_INTRINSICS, _EXTRINSICS, _POSES)
_IMAGES = "sensors/cameras"
_LAYOUT = f"an Argoverse 2 sensor log, <log_id>/ with {', '.join((*_FILES, _ANNOTATIONS))}"

_QUATERNION = ("qw", "qx", "qy", "qz")
_TRANSLATION = ("tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m", "height_m")

_OTHERS = (
    *("ANIMAL", "BOLLARD", "CONSTRUCTION_BARREL", "CONSTRUCTION_CONE", "DOG", "MESSAGE_BOARD_TRAILER"),
    *("MOBILE_PEDESTRIAN_CROSSING_SIGN", "RAILED_VEHICLE", "SIGN", "STOP_SIGN", "STROLLER"),
    *("TRAFFIC_LIGHT_TRAILER", "WHEELCHAIR", "WHEELED_DEVICE"),
)
_CATEGORIES = dict.fromkeys(_OTHERS, "other") | {
    "REGULAR_VEHICLE": "car",
    "LARGE_VEHICLE": "truck",
    "BOX_TRUCK": "truck",
    "TRUCK": "truck",
    "TRUCK_CAB": "truck",
    "VEHICULAR_TRAILER": "truck",
    "BUS": "bus",
    "SCHOOL_BUS": "bus",
    "ARTICULATED_BUS": "bus",
    "MOTORCYCLE": "motorcycle",
    "MOTORCYCLIST": "motorcycle",
    "BICYCLE": "bicycle",
    "BICYCLIST": "bicycle",
    "PEDESTRIAN": "pedestrian",
    "OFFICIAL_SIGNALER": "pedestrian",
    "WHEELED_RIDER": "pedestrian",
}

# Origins of the city frames, latitude and longitude, and their zones: `av2.geometry.utm` of the data set's own kit.
_CITIES = {
    "ATX": (14, (30.27464237939507, -97.7404457407424)),
    "DTW": (17, (42.29993066912924, -83.17555750783717)),
    "MIA": (17, (25.77452579915163, -80.19656914449405)),
    "PAO": (10, (37.416065, -122.13571963362166)),
    "PIT": (17, (40.44177902989321, -80.01294377242584)),
    "WDC": (18, (38.889377, -77.0355047439081)),
}


def load_argoverse2(
    log_dir: str | os.PathLike[str],
    *,
    cameras: Sequence[str] | None = None,
    frame_rate: float = 10.0,
    start: float = 0.0,
    num_frames: int | None = None,
    min_interior_points: int = 0,
) -> Scene:
    """Return the scene of an Argoverse 2 sensor log.

    The frames are the annotated lidar sweeps (10 Hz), which all cameras are taken to see at the same time. Speed and
    curvature come from the ego poses (`motion_from_poses`); curvature is absent below 0.5 m/s. The ego frame is the
    data set's: its origin is the middle of the rear axle, about 0.35 m above the ground. Agents are sorted by
    distance in each frame.

    Args:
        log_dir: A log folder with calibration, poses and annotations; images are not read.
        cameras: Names of `ARGOVERSE2_CAMERAS`, or the data set's own, such as "stereo_front_left". None: the seven
            ring cameras.
        frame_rate: Frames a second; the sweeps' own rate takes them as they are, another one resamples.
        start: Seconds from the first annotated sweep.
        num_frames: Number of frames; None: all from `start`.
        min_interior_points: Leave out boxes with fewer lidar points inside, which are mostly hidden ones.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged, a camera is unknown, or the log does not have the time asked for.
        ImportError: pyarrow is not installed.

    Example:
        >>> scene = load_argoverse2("argoverse2/sensor/train/<log_id>", num_frames=24)  # doctest: +SKIP
        >>> scene.rig.fit(image_size=(112, 240))  # doctest: +SKIP
    """
    folder = check_log_folder(log_dir, (*_FILES, _ANNOTATIONS), _LAYOUT)
    rig = _read_rig(folder, ARGOVERSE2_CAMERAS if cameras is None else cameras)
    poses, _ = _read_poses(folder)
    boxes, _ = _read_boxes(folder, poses, min_interior_points)
    sweeps = np.unique(_read_columns(folder / _ANNOTATIONS, ("timestamp_ns",))["timestamp_ns"])
    if not len(sweeps):
        raise ValueError(f"{folder / _ANNOTATIONS}: expected annotated sweeps, got an empty table")
    times = (sweeps - _origin(folder)) * 1e-9
    speed, curvature = poses.motion(times)
    scene = Scene(rig=rig, timestamps=times, speed=speed, curvature=curvature, agents=boxes.agents(poses, times))
    return cut_scene(scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


def list_logs(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the logs below a folder, "." if it is itself one.

    Raises:
        FileNotFoundError: There are none.
    """
    return find_logs(root, _INTRINSICS, _LAYOUT)


def read_log(
    root: str | os.PathLike[str], log: str, *, cameras: Sequence[str] | None = None, frame_step: int = 1
) -> Recording:
    """Return a log with its pictures: the ring cameras at 20 Hz, boxes moved to their times from the 10 Hz sweeps.

    The front camera's pictures are the frames. Without annotations (the test split) there are no agents.

    Args:
        root: Folder of the logs.
        log: One of `list_logs(root)`.
        cameras: As in `load_argoverse2`.
        frame_step: Take every so manieth frame.

    Raises:
        FileNotFoundError: A file or a camera's folder is missing.
        ValueError: A file is damaged.
    """
    folder = check_log_folder(Path(root) / log, _FILES, _LAYOUT)
    names = [name.removeprefix("ring_") for name in (ARGOVERSE2_CAMERAS if cameras is None else cameras)]
    rig = _read_rig(folder, names)
    poses, motion_origin = _read_poses(folder)
    boxes, unknown = (None, ()) if not (folder / _ANNOTATIONS).is_file() else _read_boxes(folder, poses, 0)
    notes = [f"unknown categories, taken as other: {', '.join(unknown)}"] if unknown else []
    city = _city(folder)
    places = None
    if city in _CITIES:
        zone, place = _CITIES[city]
        east, north = utm_from_latlon(place, zone)
        places = (poses.times, latlon_from_utm(poses.position[:, 0] + east, poses.position[:, 1] + north, zone))
    return Recording.assemble(
        rig,
        [_read_camera(folder, name, motion_origin) for name in names],
        poses=poses,
        boxes=boxes,
        metadata={"country": "us"},
        source=Source("argoverse2", folder.resolve().name, motion_origin * 1e-9, notes={"city": city} if city else {}),
        places=places,
        frame_step=frame_step,
        notes=notes,
    )


def _read_camera(folder: Path, name: str, origin: int) -> Camera:
    paths = [path for kind in (f"ring_{name}", name) for path in sorted((folder / _IMAGES / kind).glob("*.jpg"))]
    if not paths:
        raise FileNotFoundError(
            f"{folder}: no pictures {_IMAGES}/ring_{name}/<timestamp_ns>.jpg; get the camera's files"
        )
    wrong = next((path for path in paths if not path.stem.isdigit()), None)
    if wrong is not None:
        raise ValueError(f"{wrong}: expected a file name <timestamp_ns>.jpg")
    stamps = np.array([int(path.stem) for path in paths])
    order = np.argsort(stamps, kind="stable")
    return Camera((stamps[order] - origin) * 1e-9, ImageFiles([paths[row] for row in order]))


def _city(folder: Path) -> str:
    found = [re.search(r"____([A-Z]{3})_city", path.name) for path in (folder / "map").glob("log_map_archive_*.json")]
    return next((match[1] for match in found if match), "")


def _origin(folder: Path) -> int:
    return int(_read_columns(folder / _POSES, ("timestamp_ns",))["timestamp_ns"].min())


def _read_poses(folder: Path) -> tuple[EgoPoses, int]:
    """The poses, their times in seconds from the first one, and the first one's in nanoseconds."""
    table = _read_columns(folder / _POSES, ("timestamp_ns", *_QUATERNION, *_TRANSLATION))
    if not len(table["timestamp_ns"]):
        raise ValueError(f"{folder / _POSES}: expected poses, got an empty table")
    rotation = rotation_matrices(str(folder / _POSES), _stack(table, _QUATERNION))
    origin = int(table["timestamp_ns"].min())
    return EgoPoses((table["timestamp_ns"] - origin) * 1e-9, _stack(table, _TRANSLATION), rotation), origin


def _read_rig(folder: Path, cameras: Sequence[str]) -> CameraRig:
    lens = ("fx_px", "fy_px", "cx_px", "cy_px", "k1", "k2", "k3", "height_px", "width_px")
    inner = _read_columns(folder / _INTRINSICS, ("sensor_name", *lens))
    outer = _read_columns(folder / _EXTRINSICS, ("sensor_name", *_QUATERNION, *_TRANSLATION))
    rows = np.array([np.flatnonzero(outer["sensor_name"] == name)[:1].sum() for name in inner["sensor_name"]])
    if not np.isin(inner["sensor_name"], outer["sensor_name"]).all():
        missing = sorted(set(inner["sensor_name"]) - set(outer["sensor_name"]))
        raise ValueError(f"{folder / _EXTRINSICS}: expected a pose for every camera, got none for {missing}")
    n = len(rows)
    intrinsics = np.zeros((n, 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = inner["fx_px"], inner["fy_px"]
    intrinsics[:, 0, 2], intrinsics[:, 1, 2], intrinsics[:, 2, 2] = inner["cx_px"], inner["cy_px"], 1
    extrinsics = np.tile(np.eye(4), (n, 1, 1))
    extrinsics[:, :3, :3] = rotation_matrices(str(folder / _EXTRINSICS), _stack(outer, _QUATERNION)[rows])
    extrinsics[:, :3, 3] = _stack(outer, _TRANSLATION)[rows]
    none = np.zeros(n)
    rig = CameraRig(
        names=tuple(str(name).removeprefix("ring_") for name in inner["sensor_name"]),
        image_size=np.stack([inner["height_px"], inner["width_px"]], axis=1).astype(np.int64),
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        distortion=np.stack([inner["k1"], inner["k2"], none, none, inner["k3"]], axis=1),
    )
    return rig.select([name.removeprefix("ring_") for name in cameras])


def _read_boxes(folder: Path, poses: EgoPoses, min_interior_points: int) -> tuple[BoxTable, tuple[str, ...]]:
    """The annotations, and the categories that are none of the data set's."""
    path = folder / _ANNOTATIONS
    columns = (*_QUATERNION, *_TRANSLATION, *_SIZE, "num_interior_pts")
    table = _read_columns(path, ("timestamp_ns", "track_uuid", "category", *columns))
    category, unknown = category_ids(table["category"], _CATEGORIES)
    heading = rotation_matrices(str(path), _stack(table, _QUATERNION))[:, :, 0]
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    boxes = np.concatenate([_stack(table, (*_TRANSLATION, *_SIZE)), yaw[:, None]], axis=1)
    kept = table["num_interior_pts"] >= min_interior_points
    track = np.unique(table["track_uuid"].astype(str), return_inverse=True)[1]
    times = (table["timestamp_ns"] - _origin(folder)) * 1e-9
    return BoxTable.from_ego(poses, times[kept], track[kept], category[kept], boxes[kept]), unknown


def _stack(table: dict[str, np.ndarray], columns: Sequence[str]) -> np.ndarray:
    return np.stack([table[name].astype(np.float64) for name in columns], axis=1)


def _read_columns(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    try:
        import pyarrow
        import pyarrow.feather
    except ImportError as error:
        raise ImportError("reading Argoverse 2 logs needs pyarrow: pip install 'gaia2[datasets]'") from error
    try:
        table = pyarrow.feather.read_table(path, memory_map=False)
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: expected a feather file, got a damaged one ({error}); get it again") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: expected the columns {', '.join(columns)}, got none named {', '.join(missing)}")
    values = {name: table.column(name).to_numpy() for name in columns}
    for name, column in values.items():
        numeric = name not in ("sensor_name", "track_uuid", "category")
        if numeric and (column.dtype.kind not in "iuf" or not np.isfinite(column.astype(np.float64)).all()):
            raise ValueError(f"{path}: expected numbers in every row of the column {name}, got empty or other values")
        if not numeric and not all(isinstance(item, str) for item in set(column)):
            raise ValueError(f"{path}: expected a name in every row of the column {name}, got empty or other values")
    return values
