"""Argoverse 2 sensor logs as scenes: https://argoverse.github.io/user-guide/datasets/sensor.html."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gaia2.data.log_files import check_log_folder, cut_scene, motion_from_poses, rotation_matrices
from gaia2.scene import AGENT_CATEGORIES, Agents, CameraRig, Scene

__all__ = ["ARGOVERSE2_CAMERAS", "load_argoverse2"]

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
_FILES = (_INTRINSICS, _EXTRINSICS, _POSES, _ANNOTATIONS)
_LAYOUT = f"an Argoverse 2 sensor log, <log_id>/ with {', '.join(_FILES)}"

_QUATERNION = ("qw", "qx", "qy", "qz")
_TRANSLATION = ("tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m", "height_m")

# Everything else (bollards, cones, signs, animals, strollers, trams) is "other".
_CATEGORIES = {
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
        log_dir: a log folder with calibration, poses and annotations; images are not read.
        cameras: names of `ARGOVERSE2_CAMERAS`, or the data set's own, such as "stereo_front_left". None: the seven
            ring cameras.
        frame_rate: frames a second; the sweeps' own rate takes them as they are, another one resamples.
        start: seconds from the first annotated sweep.
        num_frames: number of frames; None: all from `start`.
        min_interior_points: leave out boxes with fewer lidar points inside, which are mostly hidden ones.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, a camera is unknown, or the log does not have the time asked for.
        ImportError: pyarrow is not installed.

    Example:
        >>> scene = load_argoverse2("argoverse2/sensor/train/<log_id>", num_frames=24)  # doctest: +SKIP
        >>> scene.rig.fit(image_size=(112, 240))  # doctest: +SKIP
    """
    folder = check_log_folder(log_dir, _FILES, _LAYOUT)
    rig = _read_rig(folder, ARGOVERSE2_CAMERAS if cameras is None else cameras)
    sweeps, agents = _read_agents(folder, min_interior_points)
    poses = _read_columns(folder / _POSES, ("timestamp_ns", *_QUATERNION, *_TRANSLATION))
    order = np.argsort(poses["timestamp_ns"], kind="stable")
    origin = sweeps[0]
    times = (sweeps - origin) * 1e-9
    speed, curvature = motion_from_poses(
        (poses["timestamp_ns"][order] - origin) * 1e-9,
        _stack(poses, _TRANSLATION)[order],
        rotation_matrices(str(folder / _POSES), _stack(poses, _QUATERNION)[order]),
        times,
    )
    scene = Scene(rig=rig, timestamps=times, speed=speed, curvature=curvature, agents=agents)
    return cut_scene(scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


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


def _read_agents(folder: Path, min_interior_points: int) -> tuple[np.ndarray, Agents]:
    columns = (*_QUATERNION, *_TRANSLATION, *_SIZE, "num_interior_pts")
    table = _read_columns(folder / _ANNOTATIONS, ("timestamp_ns", "track_uuid", "category", *columns))
    if len(table["timestamp_ns"]) == 0:
        raise ValueError(f"{folder / _ANNOTATIONS}: expected annotated sweeps, got an empty table")
    sweeps, frame = np.unique(table["timestamp_ns"], return_inverse=True)
    track = np.unique(table["track_uuid"], return_inverse=True)[1]
    names, name_index = np.unique(table["category"], return_inverse=True)
    ids = np.array([AGENT_CATEGORIES.index(_CATEGORIES.get(name, "other")) for name in names])
    heading = rotation_matrices(str(folder / _ANNOTATIONS), _stack(table, _QUATERNION))[:, :, 0]
    yaw = np.arctan2(heading[:, 1], heading[:, 0])
    features = np.concatenate([_stack(table, (*_TRANSLATION, *_SIZE)), yaw[:, None]], axis=1)

    kept = np.flatnonzero(table["num_interior_pts"] >= min_interior_points)
    distance = np.hypot(features[:, 0], features[:, 1])
    kept = kept[np.lexsort((distance[kept], frame[kept]))]
    counts = np.bincount(frame[kept], minlength=len(sweeps))
    row = np.arange(len(kept)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (len(sweeps), int(counts.max()))
    boxes, category, track_id = np.full((*shape, 7), np.nan), np.full(shape, -1), np.full(shape, -1)
    boxes[frame[kept], row] = features[kept]
    category[frame[kept], row] = ids[name_index[kept]]
    track_id[frame[kept], row] = track[kept]
    return sweeps, Agents(boxes, category, track_id)


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
