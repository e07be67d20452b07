"""Miniature datasets in the official file layouts, with known numbers, that several tests write."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaia2.data.codec import encode_video

SIZE = (36, 64)
"""Height and width of the pictures."""


def picture(camera: int, frame: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A flat picture whose colour tells camera and frame."""
    return np.full((*size, 3), (20 + 40 * camera, 5 * frame + 10, 100), dtype=np.uint8)


def which(pixels: np.ndarray) -> tuple[int, int]:
    """Camera and frame of a picture `(3, h, w)` that `picture` made, lossy compression or not."""
    red, green, _ = pixels.reshape(3, -1).mean(axis=1)
    return round((red - 20) / 40), round((green - 10) / 5)


def jpeg(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=98, subsampling=0)
    return file.getvalue()


def put(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


def yaw_quaternion(yaw: float) -> list[float]:
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


LOOKING_AHEAD = [0.5, -0.5, 0.5, -0.5]
"""Quaternion of a camera (x right, y down, z forward) that looks along the vehicle's x axis."""


# --- nuScenes: v1.0-mini/*.json, samples/, sweeps/, can_bus/

NUSCENES_START, SPEED, YAW_RATE = 1_533_151_603_500_000, 6.0, 0.12
CHANNELS = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")


def nuscenes_pose(seconds: float) -> tuple[list[float], list[float]]:
    """Translation and rotation on a circle to the left."""
    yaw = YAW_RATE * seconds
    radius = SPEED / YAW_RATE
    place = [600 + radius * float(np.sin(yaw)), 1600 + radius * (1 - float(np.cos(yaw))), 0.0]
    return place, yaw_quaternion(yaw)


def write_nuscenes(root: Path, *, scenes: int = 1, keyframes: int = 4, can: bool = False) -> Path:
    """Cameras at 12 Hz that fire one after the other, keyframes at 2 Hz, a car that drives and a cone that stands."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (
        "attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample",
        "sample_annotation", "sample_data", "scene", "sensor", "visibility",
    )}  # fmt: skip
    for number, channel in enumerate((*CHANNELS, "LIDAR_TOP")):
        lidar = channel == "LIDAR_TOP"
        tables["sensor"].append(
            {"token": f"sensor{number}", "channel": channel, "modality": "lidar" if lidar else "camera"}
        )
        tables["calibrated_sensor"].append(
            {
                "token": f"calibration{number}",
                "sensor_token": f"sensor{number}",
                "translation": [1.5 + number / 10, 0.0, 1.6],
                "rotation": LOOKING_AHEAD,
                "camera_intrinsic": [] if lidar else [[50.0 + number, 0, 32], [0, 50.0 + number, 18], [0, 0, 1]],
            }
        )
    kinds = {"car": "vehicle.car", "cone": "movable_object.trafficcone"}
    tables["category"] = [{"token": name, "name": kind, "description": ""} for name, kind in kinds.items()]
    for scene in range(scenes):
        _nuscenes_scene(root, tables, scene, keyframes, can)
    for name, rows in tables.items():
        put(root / "v1.0-mini" / f"{name}.json", json.dumps(rows, indent=0))
    return root


def _nuscenes_scene(root: Path, tables: dict[str, list[dict[str, Any]]], scene: int, keyframes: int, can: bool) -> None:
    begin = NUSCENES_START + scene * 60_000_000
    log, name = f"log{scene}", f"scene-{scene + 1:04d}"
    tables["log"].append(
        {
            "token": log,
            "logfile": "n008",
            "vehicle": "n008",
            "date_captured": "2018-08-01",
            "location": "boston-seaport",
        }
    )
    samples = [f"sample{scene}-{k}" for k in range(keyframes)]
    tables["scene"].append(
        {
            "token": f"scene{scene}",
            "log_token": log,
            "nbr_samples": keyframes,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": name,
            "description": "Night, rain, turn left" if scene % 2 else "Turn left, parked cars",
        }
    )
    for k, token in enumerate(samples):
        stamp = begin + k * 500_000
        tables["sample"].append(
            {"token": token, "timestamp": stamp, "prev": "", "next": "", "scene_token": f"scene{scene}"}
        )
        labels = {
            "car": ([620.0 + 4 * k / 2, 1605.0, 0.8], [1.9, 4.5, 1.6], 0.0),
            "cone": ([610.0, 1598.0, 0.3], [0.3, 0.3, 0.7], 1.0),
        }
        for what, (place, size, yaw) in labels.items():
            instance = f"{what}{scene}"
            if k == 0:
                tables["instance"].append(
                    {
                        "token": instance,
                        "category_token": what,
                        "nbr_annotations": keyframes,
                        "first_annotation_token": "",
                        "last_annotation_token": "",
                    }
                )
            tables["sample_annotation"].append(
                {
                    "token": f"{instance}-{k}",
                    "sample_token": token,
                    "instance_token": instance,
                    "visibility_token": "4",
                    "attribute_tokens": [],
                    "translation": place,
                    "size": size,
                    "rotation": yaw_quaternion(yaw),
                    "prev": "",
                    "next": "",
                    "num_lidar_pts": 9,
                    "num_radar_pts": 0,
                }
            )
    pictures = 6 * (keyframes - 1) + 1
    for number, channel in enumerate(CHANNELS):
        for frame in range(pictures):
            stamp = begin + round(frame * 1e6 / 12) + number * 5000
            key = frame % 6 == 0
            file = f"{'samples' if key else 'sweeps'}/{channel}/n008__{channel}__{stamp}.jpg"
            put(root / file, jpeg(picture(number, frame)))
            pose = f"pose-{scene}-{channel}-{frame}"
            translation, rotation = nuscenes_pose((stamp - begin) * 1e-6)
            tables["ego_pose"].append(
                {"token": pose, "timestamp": stamp, "rotation": rotation, "translation": translation}
            )
            tables["sample_data"].append(
                {
                    "token": f"data-{scene}-{channel}-{frame}",
                    "sample_token": samples[frame // 6],
                    "ego_pose_token": pose,
                    "calibrated_sensor_token": f"calibration{number}",
                    "timestamp": stamp,
                    "fileformat": "jpg",
                    "is_key_frame": key,
                    "height": SIZE[0],
                    "width": SIZE[1],
                    "filename": file,
                    "prev": "",
                    "next": "",
                }
            )
    tables["ego_pose"].append(
        {"token": f"lidar{scene}", "timestamp": begin, "rotation": [1.0, 0, 0, 0], "translation": [0, 0, 0]}
    )
    tables["sample_data"].append(
        {"token": f"lidar{scene}", "sample_token": samples[0], "ego_pose_token": f"lidar{scene}", "height": 0,
         "width": 0,
         "calibrated_sensor_token": "calibration6", "timestamp": begin, "fileformat": "pcd", "is_key_frame": True,
         "filename": "samples/LIDAR_TOP/n008.pcd.bin", "prev": "", "next": ""}
    )  # fmt: skip
    if can:
        messages = [
            {"utime": begin + t * 20_000, "pos": [0, 0, 0], "orientation": [1.0, 0, 0, 0], "vel": [7.0, 0.0, 0.0],
             "accel": [0, 0, 9.8], "rotation_rate": [0.0, 0.0, 0.14]}
            for t in range(-5, 25 * keyframes)
        ]  # fmt: skip
        put(root / "can_bus" / f"{name}_pose.json", json.dumps(messages))


# --- Waymo Open Dataset v2: <component>/<segment>.parquet

SEGMENT = "1005081002024129653_5313_150_5333_150"
WAYMO_START = 1_550_000_000_000_000


def write_waymo(root: Path, *, frames: int = 10, segment: str = SEGMENT) -> Path:
    """Five cameras at 10 Hz, the vehicle going straight at 6 m/s, a car ahead at its speed, a sign."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    def write(component: str, columns: dict[str, Any], **options: Any) -> None:
        path = root / component / f"{segment}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = len(next(iter(columns.values())))
        pq.write_table(pa.table({"key.segment_context_name": [segment] * rows, **columns}), path, **options)

    stamps = [WAYMO_START + f * 100_000 for f in range(frames)]
    poses = np.tile(np.eye(4, dtype=np.float32), (frames, 1, 1))
    poses[:, 0, 3] = 100 + 0.6 * np.arange(frames)
    matrix = pa.list_(pa.float32(), 16)
    write("vehicle_pose", {
        "key.frame_timestamp_micros": stamps,
        "[VehiclePoseComponent].world_from_vehicle.transform": pa.array(poses.reshape(frames, 16).tolist(), matrix),
    })  # fmt: skip
    sizes = [SIZE, SIZE, SIZE, (24, 64), (24, 64)]
    mounts = np.tile(np.eye(4), (5, 1, 1))  # x forward, y left, z up: all look ahead
    mounts[:, 0, 3], mounts[:, 2, 3] = 1.5 + 0.1 * np.arange(5), 2.1
    calibration: dict[str, Any] = {"key.camera_name": [1, 2, 3, 4, 5]}
    lens = dict(f_u=60.0, f_v=61.0, c_u=32.0, c_v=17.0, k1=0.04, k2=-0.3, p1=0.001, p2=-0.002, k3=0.0)
    for name, value in lens.items():
        calibration[f"[CameraCalibrationComponent].intrinsic.{name}"] = [value] * 5
    calibration["[CameraCalibrationComponent].extrinsic.transform"] = pa.array(
        mounts.reshape(5, 16).tolist(), pa.list_(pa.float64(), 16)
    )
    calibration["[CameraCalibrationComponent].width"] = [size[1] for size in sizes]
    calibration["[CameraCalibrationComponent].height"] = [size[0] for size in sizes]
    calibration["[CameraCalibrationComponent].rolling_shutter_direction"] = [2] * 5
    write("camera_calibration", calibration)
    rows = [(f, c) for f in range(frames) for c in range(5)]
    write("camera_image", {
        "key.frame_timestamp_micros": [stamps[f] for f, _ in rows],
        "key.camera_name": [c + 1 for _, c in rows],
        "[CameraImageComponent].image": [jpeg(picture(c, f, sizes[c])) for f, c in rows],
        "[CameraImageComponent].pose.transform": pa.array([poses[f].reshape(16).tolist() for f, _ in rows], matrix),
        "[CameraImageComponent].pose_timestamp": [stamps[f] * 1e-6 + 0.05 + 0.01 * c for f, c in rows],
    }, row_group_size=7)  # fmt: skip
    labels = [(f, kind) for f in range(frames) for kind in (1, 3)]
    fields = {
        "center.x": 20.0,
        "center.y": -3.0,
        "center.z": 1.0,
        "size.x": 4.5,
        "size.y": 1.9,
        "size.z": 1.6,
        "heading": 0.2,
    }
    write("lidar_box", {
        "key.frame_timestamp_micros": [stamps[f] for f, _ in labels],
        "key.laser_object_id": [f"object-{kind}" for _, kind in labels],
        **{f"[LiDARBoxComponent].box.{name}": [value] * len(labels) for name, value in fields.items()},
        "[LiDARBoxComponent].type": pa.array([kind for _, kind in labels], pa.int8()),
    })  # fmt: skip
    write("stats", {
        "key.frame_timestamp_micros": stamps,
        "[StatsComponent].time_of_day": ["Night"] * frames,
        "[StatsComponent].location": ["location_sf"] * frames,
        "[StatsComponent].weather": ["sunny"] * frames,
    })  # fmt: skip
    return root


# --- a folder of one's own, see docs/own_data.md


def write_drive(
    folder: Path,
    *,
    cameras: tuple[str, ...] = ("front", "rear"),
    frames: int = 24,
    speed: float = 5.0,
    videos: bool = True,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Videos (or pictures) at 10 Hz, poses at 20 Hz on a straight line, a car 20 m ahead that stands."""
    calibration = {
        name: {
            "image_size": list(size),
            "intrinsics": {"fx": 50.0, "fy": 50.0, "cx": size[1] / 2, "cy": size[0] / 2},
            "rotation": LOOKING_AHEAD,
            "translation": [1.5, 0.1 * number, 1.5],
        }
        for number, name in enumerate(cameras)
    }
    put(folder / "calibration.json", json.dumps({"cameras": calibration}))
    for number, name in enumerate(cameras):
        pixels = np.stack([picture(number, frame, size) for frame in range(frames)])
        if videos:
            put(folder / "cameras" / f"{name}.mp4", encode_video(pixels, 10.0, quality=4))
        else:
            for frame in range(frames):
                put(folder / "cameras" / name / f"{frame / 10:.3f}.jpg", jpeg(pixels[frame]))
    times = np.arange(0, frames / 10, 0.05)
    lines = [f"{t:.2f},{100 + speed * t},7,0,1,0,0,0" for t in times]
    put(folder / "poses.csv", "time,x,y,z,qw,qx,qy,qz\n" + "\n".join(lines) + "\n")
    rows = [f"{k / 2},a,car,{20 - speed * k / 2},-3,0.8,4.5,1.9,1.6,0" for k in range(frames // 5)]
    put(folder / "boxes.csv", "time,track,category,x,y,z,length,width,height,yaw\n" + "\n".join(rows) + "\n")
    return folder
