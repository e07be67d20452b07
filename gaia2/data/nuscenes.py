"""nuScenes scenes: https://www.nuscenes.org/nuscenes, six cameras at 12 Hz, boxes at 2 Hz."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gaia2.data.box_table import BoxTable, category_ids
from gaia2.data.ego import EgoPoses
from gaia2.data.frame_readers import ImageFiles
from gaia2.data.geo import latlon_from_offset
from gaia2.data.log_files import MIN_SPEED_FOR_CURVATURE, cut_scene, rotation_matrices
from gaia2.data.nuscenes_tables import SceneRows, Tables, find_version, read_tables
from gaia2.data.recording import Camera, Recording
from gaia2.data.source import Source
from gaia2.scene import CameraRig, Scene

__all__ = ["NUSCENES_CAMERAS", "list_logs", "load_nuscenes", "read_log"]

NUSCENES_CAMERAS = ("front", "front_left", "front_right", "back", "back_left", "back_right")
"""The six cameras, under their names in the rig: the data set's in small letters, without `CAM_`."""

NUSCENES_CATEGORIES = {
    "vehicle.car": "car",
    "vehicle.emergency.police": "car",
    "vehicle.truck": "truck",
    "vehicle.trailer": "truck",
    "vehicle.construction": "truck",
    "vehicle.emergency.ambulance": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.personal_mobility": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.stroller": "other",
    "human.pedestrian.wheelchair": "pedestrian",
    "animal": "other",
    "movable_object.barrier": "other",
    "movable_object.debris": "other",
    "movable_object.pushable_pullable": "other",
    "movable_object.trafficcone": "other",
    "static_object.bicycle_rack": "other",
}

# South-western corners of the maps, latitude and longitude: `export_poses.py` of the data set's own kit.
_MAPS = {
    "boston-seaport": (42.336849169438615, -71.05785369873047),
    "singapore-onenorth": (1.2882100868743724, 103.78475189208984),
    "singapore-hollandvillage": (1.2993652317780957, 103.78217697143555),
    "singapore-queenstown": (1.2782562240223188, 103.76741409301758),
}


def load_nuscenes(
    root: str | os.PathLike[str],
    scene: str,
    *,
    cameras: Sequence[str] | None = None,
    frame_rate: float = 12.0,
    start: float = 0.0,
    num_frames: int | None = None,
) -> Scene:
    """Return a scene of nuScenes: six cameras, motion from the CAN bus or the poses, boxes moved between keyframes.

    The frames are the front camera's pictures (12 Hz) with the nearest ones of the others. Speed and curvature come
    from `can_bus/<scene>_pose.json` where it is there, else from the ego poses. Boxes are tracked from keyframe to
    keyframe (2 Hz) and moved linearly in the world. The description is the prompt; rain and night in it, and the
    country, where it is one that scenes know, become metadata.

    Args:
        root: Folder with `samples/`, `sweeps/` and `v1.0-<split>/`.
        scene: Its name, such as "scene-0103".
        cameras: Names of `NUSCENES_CAMERAS` or the data set's own, such as "CAM_FRONT"; None: all.
        frame_rate: Frames a second; the pictures' own rate takes them as they are, another one resamples.
        start: Seconds from the first picture.
        num_frames: Number of frames; None: all from `start`.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: A table is missing.
        ValueError: A table is damaged, or the scene or a camera is unknown.

    Example:
        >>> scene = load_nuscenes("/data/nuscenes", "scene-0103", num_frames=48)  # doctest: +SKIP
        >>> scene.prompt  # doctest: +SKIP
        'Many peds right, wait for turning car, long bike rack left, cyclist'
    """
    recording = read_log(root, scene, cameras=cameras)
    return cut_scene(recording.scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


def list_logs(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the scenes that have keyframes, in order."""
    return sorted(read_tables(find_version(Path(root)).resolve()).scenes)


def read_log(
    root: str | os.PathLike[str], log: str, *, cameras: Sequence[str] | None = None, frame_step: int = 1
) -> Recording:
    """Return a scene with its pictures; see `load_nuscenes`.

    Args:
        root: Folder with `samples/`, `sweeps/` and `v1.0-<split>/`, or the latter.
        log: Name of a scene.
        cameras: As in `load_nuscenes`.
        frame_step: Take every so manieth frame.
    """
    folder = find_version(Path(root)).resolve()
    data = folder if (folder / "samples").is_dir() else folder.parent
    tables = read_tables(folder)
    if log not in tables.scenes:
        raise ValueError(f"{folder}: expected one of its {len(tables.scenes)} scenes with keyframes, got {log!r}")
    rows = tables.scenes[log]
    names = [_camera_name(name) for name in (NUSCENES_CAMERAS if cameras is None else cameras)]
    pictures = {_camera_name(channel): found for channel, found in rows.pictures.items()}
    absent = [name for name in names if name not in pictures]
    if absent:
        raise ValueError(f"{log}: expected cameras of {', '.join(sorted(pictures))}, got {absent[0]!r}")
    origin = min(found[0]["timestamp"] for found in pictures.values())
    poses = _poses(tables, rows, origin)
    boxes, unknown = _boxes(rows, origin)
    motion, note = _can_motion(data / "can_bus" / f"{log}_pose.json", origin)
    return Recording.assemble(
        _rig(tables, pictures, names),
        [_camera(data, pictures[name], origin) for name in names],
        poses=poses,
        motion=motion,
        boxes=boxes,
        metadata=_metadata(rows),
        prompt=rows.scene.get("description") or None,
        source=_source(rows, log, origin),
        places=_places(rows, poses),
        frame_step=frame_step,
        notes=[*note, *([f"unknown categories, taken as other: {', '.join(unknown)}"] if unknown else [])],
    )


def _camera_name(channel: str) -> str:
    return channel.removeprefix("CAM_").lower()


def _rig(tables: Tables, pictures: dict[str, list[dict[str, Any]]], names: Sequence[str]) -> CameraRig:
    rows = [tables.calibrations[pictures[name][0]["calibrated_sensor_token"]] for name in names]
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = rotation_matrices("calibrated_sensor.json", np.array([row["rotation"] for row in rows]))
    poses[:, :3, 3] = [row["translation"] for row in rows]
    return CameraRig(
        names=tuple(names),
        image_size=[(pictures[name][0]["height"], pictures[name][0]["width"]) for name in names],
        intrinsics=[row["camera_intrinsic"] for row in rows],  # of rectified images: without distortion
        extrinsics=poses,
    )


def _camera(data: Path, pictures: list[dict[str, Any]], origin: int) -> Camera:
    times = np.array([row["timestamp"] - origin for row in pictures]) * 1e-6
    return Camera(times, ImageFiles([data / row["filename"] for row in pictures]))


def _poses(tables: Tables, rows: SceneRows, origin: int) -> EgoPoses:
    tokens = [row["ego_pose_token"] for found in rows.pictures.values() for row in found]
    missing = next((token for token in tokens if token not in tables.poses), None)
    if missing is not None:
        raise ValueError(f"ego_pose.json: expected a pose for each picture, got none for the token {missing!r}")
    times, translation, rotation = zip(*(tables.poses[token] for token in tokens), strict=True)
    matrices = rotation_matrices("ego_pose.json", np.array(rotation))
    return EgoPoses((np.array(times) - origin) * 1e-6, np.array(translation), matrices)


def _boxes(rows: SceneRows, origin: int) -> tuple[BoxTable | None, tuple[str, ...]]:
    labels = rows.annotations
    if not labels:
        return None, ()
    category, unknown = category_ids([row["category"] for row in labels], NUSCENES_CATEGORIES)
    table = BoxTable(
        times=np.array([row["timestamp"] - origin for row in labels]) * 1e-6,
        track=np.array([row["instance"] for row in labels]),
        category=category,
        centre=np.array([row["translation"] for row in labels]),
        size=np.array([row["size"] for row in labels])[:, [1, 0, 2]],  # theirs: width length height
        heading=rotation_matrices("sample_annotation.json", np.array([row["rotation"] for row in labels]))[:, :, 0],
    )
    return table, unknown


def _can_motion(path: Path, origin: int) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray] | None, list[str]]:
    """Times, speed and curvature of the CAN bus, or None with a word on what is there instead."""
    if not path.is_file():
        return None, []
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
        times = (np.array([message["utime"] for message in messages]) - origin) * 1e-6
        speed = np.array([message["vel"][0] for message in messages], dtype=np.float64)
        turn = np.array([message["rotation_rate"][2] for message in messages], dtype=np.float64)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        return None, [f"{path.name}: damaged ({error}), motion taken from the poses"]
    if len(times) < 2:
        return None, [f"{path.name}: empty, motion taken from the poses"]
    moving = np.abs(speed) >= MIN_SPEED_FOR_CURVATURE
    curvature = np.full_like(speed, np.nan)
    curvature[moving] = (turn[moving] / speed[moving]).clip(-1, 1)
    return (times, speed, curvature), []


def _metadata(rows: SceneRows) -> dict[str, str]:
    words = set(re.findall(r"[a-z]+", rows.scene.get("description", "").lower()))
    metadata = {"time_of_day": "night" if "night" in words else "day"}
    if "rain" in words and "after" not in words:
        metadata["weather"] = "rain"
    if rows.log.get("location", "").startswith("boston"):
        metadata["country"] = "us"
    return metadata


def _source(rows: SceneRows, log: str, origin: int) -> Source:
    notes = {name: rows.log[name] for name in ("location", "vehicle", "date_captured") if rows.log.get(name)}
    return Source("nuscenes", log, origin * 1e-6, notes=notes)


def _places(rows: SceneRows, poses: EgoPoses) -> tuple[np.ndarray, np.ndarray] | None:
    corner = _MAPS.get(rows.log.get("location", ""))
    if corner is None:
        return None
    return poses.times, latlon_from_offset(poses.position[:, 0], poses.position[:, 1], corner)
