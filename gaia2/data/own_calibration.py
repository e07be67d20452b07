"""`calibration.json` of a drive of your own: cameras in whatever axes, units and lens model they come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaia2.data.frames_of_reference import CAMERA_AXES, EGO_AXES, axes_matrix, to_our_pose
from gaia2.data.log_files import rotation_matrices
from gaia2.data.own_tables import TIME_UNITS
from gaia2.scene import CameraRig, named_rig
from gaia2.scene.validation import check_keys

__all__ = ["Calibration", "read_calibration"]

_FIELDS = ("cameras", "rig", "time_unit", "ego_axes", "camera_axes", "boxes", "lidar_to_ego")
_REQUIRED = ("image_size", "intrinsics")
_OPTIONAL = (
    *("extrinsics", "rotation", "translation", "axes"),
    *("distortion", "distortion_model", "rectified"),
    *("time_offset", "readout", "stamp"),
)
_STAMPS = {"start": 0.5, "middle": 0.0, "end": -0.5}


@dataclass(frozen=True, eq=False)
class Calibration:
    """What `calibration.json` says, in our frames.

    Attributes:
        rig: The cameras.
        second: Seconds of a unit of time.
        shift: Seconds to add to each camera's times, to get to the middle of its pictures on the clock of the poses.
        ego_axes: (3, 3) takes coordinates of the drive's ego and world frame to axes that are ours.
        box_frame: "ego", "world", "lidar" or the name of a camera.
        box_pose: (4, 4) takes boxes of a sensor's frame to our ego frame; None for boxes of the other two.
        box_camera: Whether boxes are in a camera's frame.
    """

    rig: CameraRig
    second: float
    shift: Mapping[str, float]
    ego_axes: np.ndarray
    box_frame: str
    box_pose: np.ndarray | None
    box_camera: bool


def read_calibration(path: Path, cameras: Sequence[str] | None = None) -> Calibration:
    """Return the calibration of a drive.

    Args:
        path: The file; its layout is in `docs/own_data.md`.
        cameras: The cameras to take, in this order; None: all.

    Raises:
        ValueError: It is damaged, a key is unknown or missing, or a value cannot be meant.
    """
    try:
        data = check_keys("calibration", json.loads(path.read_text(encoding="utf-8")), (), _FIELDS)
        return _read(data, cameras)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(data: dict[str, Any], cameras: Sequence[str] | None) -> Calibration:
    if ("cameras" in data) == ("rig" in data):
        raise ValueError("expected either the key cameras or the key rig")
    unit = data.get("time_unit", "s")
    if unit not in TIME_UNITS:
        raise ValueError(f"time_unit: expected one of {', '.join(TIME_UNITS)}, got {unit!r}")
    axes = axes_matrix("ego_axes", data.get("ego_axes", "forward-left-up"), EGO_AXES)
    own = data.get("camera_axes", "right-down-forward")
    shift, turns = {}, {}
    if "rig" in data:
        rig = named_rig(data["rig"]) if isinstance(data["rig"], str) else CameraRig.from_dict(data["rig"])
    else:
        entries = {
            name: check_keys(f"camera {name!r}", entry, _REQUIRED, _OPTIONAL) for name, entry in data["cameras"].items()
        }
        shift = {name: _shift(name, entry) for name, entry in entries.items()}
        turns = {
            name: axes_matrix(f"camera {name!r}: axes", entry.get("axes", own), CAMERA_AXES)
            for name, entry in entries.items()
        }
        rig = _rig(entries, axes, turns)
    shift = {name: shift.get(name, 0.0) for name in rig.names}
    frame = data.get("boxes", "ego")
    pose = None
    if frame == "lidar":
        if "lidar_to_ego" not in data:
            raise ValueError("boxes: expected lidar_to_ego (4, 4) beside boxes in the lidar's frame, got none")
        pose = to_our_pose(_matrix("lidar_to_ego", data["lidar_to_ego"]), axes, np.eye(3))
    elif frame in rig.names:
        pose = rig.extrinsics[rig.names.index(frame)].copy()
        pose[:3, :3] = pose[:3, :3] @ turns.get(frame, np.eye(3))
    elif frame not in ("ego", "world"):
        raise ValueError(f"boxes: expected their frame, ego, world, lidar or a camera's name, got {frame!r}")
    chosen = rig if cameras is None else rig.select(cameras)
    return Calibration(chosen, TIME_UNITS[unit], shift, axes, frame, pose, frame in rig.names)


def _rig(entries: dict[str, dict[str, Any]], axes: np.ndarray, turns: dict[str, np.ndarray]) -> CameraRig:
    lenses = [_distortion(name, entry) for name, entry in entries.items()]
    return CameraRig(
        names=tuple(entries),
        image_size=[entry["image_size"] for entry in entries.values()],
        intrinsics=np.stack([_intrinsics(name, entry["intrinsics"]) for name, entry in entries.items()]),
        extrinsics=np.stack([to_our_pose(_pose(name, entry), axes, turns[name]) for name, entry in entries.items()]),
        distortion=np.stack(lenses),
        distortion_model=[entry.get("distortion_model", "pinhole") for entry in entries.values()],
    )


def _intrinsics(name: str, value: Any) -> np.ndarray:
    if isinstance(value, Mapping):
        lens = check_keys(f"camera {name!r}: intrinsics", value, ("fx", "fy", "cx", "cy"))
        return np.array([[lens["fx"], 0, lens["cx"]], [0, lens["fy"], lens["cy"]], [0, 0, 1]], dtype=np.float64)
    matrix = np.array(value, dtype=np.float64)
    if matrix.shape != (3, 3):
        raise ValueError(f"camera {name!r}: intrinsics: expected fx fy cx cy or a matrix (3, 3), got {matrix.shape}")
    return matrix


def _distortion(name: str, entry: dict[str, Any]) -> np.ndarray:
    given = np.array(entry.get("distortion", []), dtype=np.float64)
    if given.ndim != 1 or len(given) > 8:
        raise ValueError(f"camera {name!r}: distortion: expected at most 8 coefficients in OpenCV's order")
    if entry.get("rectified") and given.any():
        raise ValueError(
            f"camera {name!r}: expected no distortion of rectified pictures, got {given.tolist()}; say rectified: "
            "false for raw ones, or give the intrinsics of the rectified ones alone"
        )
    return np.pad(given, (0, 8 - len(given)))


def _pose(name: str, entry: dict[str, Any]) -> np.ndarray:
    if "extrinsics" in entry:
        return _matrix(f"camera {name!r}: extrinsics", entry["extrinsics"])
    if not {"rotation", "translation"} <= set(entry):
        raise ValueError(f"camera {name!r}: expected extrinsics (4, 4) camera to ego, or rotation and translation")
    rotation = np.array(entry["rotation"], dtype=np.float64)
    pose = np.eye(4)
    if rotation.shape == (4,):
        pose[:3, :3] = rotation_matrices(f"camera {name!r}: rotation", rotation[None])[0]
    elif rotation.shape == (3, 3):
        pose[:3, :3] = rotation
    else:
        raise ValueError(f"camera {name!r}: rotation: expected w x y z or a matrix (3, 3), got {rotation.shape}")
    pose[:3, 3] = entry["translation"]
    return pose


def _matrix(name: str, value: Any) -> np.ndarray:
    matrix = np.array(value, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise ValueError(f"{name}: expected (4, 4), got {matrix.shape}")
    return matrix


def _shift(name: str, entry: dict[str, Any]) -> float:
    """Seconds from the stamp of a picture to its middle row's exposure, on the clock of the poses."""
    stamp = entry.get("stamp", "middle")
    if stamp not in _STAMPS:
        raise ValueError(f"camera {name!r}: stamp: expected one of {', '.join(_STAMPS)}, got {stamp!r}")
    return float(entry.get("time_offset", 0.0)) + _STAMPS[stamp] * float(entry.get("readout", 0.0))
