"""comma2k19 segments as scenes: https://github.com/commaai/comma2k19."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gaia2.data.log_files import check_log_folder, cut_scene, rotation_matrices
from gaia2.scene import CameraRig, Scene

__all__ = ["COMMA2K19_VEHICLES", "Vehicle", "load_comma2k19", "steering_to_curvature"]


class Vehicle(NamedTuple):
    """The constants that turn a steering wheel angle into a path curvature.

    Args:
        steer_ratio: steering wheel angle by road wheel angle.
        wheelbase: metres.
        understeer: K in s²/m²; the tyres slip, so at speed v the path is 1 + K v² times straighter than the wheels
            point. 0: the kinematic bicycle.
    """

    steer_ratio: float
    wheelbase: float
    understeer: float = 0.0


COMMA2K19_VEHICLES = {
    "toyota_rav4": Vehicle(steer_ratio=16.88, wheelbase=2.65, understeer=1.14e-3),
    "honda_civic": Vehicle(steer_ratio=15.38, wheelbase=2.70, understeer=6.2e-4),
}
"""The two vehicles of the data set.

Steering ratios and wheelbases are those that comma.ai's openpilot drives these cars with. The understeer is what its
linear tyre model gives for them: K = m (c_r l_r - c_f l_f) / (l² c_f c_r), with mass m (1,791 and 1,462 kg loaded),
distances of the axles from the centre of mass l_f, l_r (1.166, 1.484 and 1.08, 1.62 m), wheelbase l, and axle
cornering stiffnesses c_f, c_r (121.6, 151.0 and 192.2, 202.5 kN/rad).
"""

# The data set's README: chunks 1-2 are of the RAV4, the others of the Civic.
_DONGLES = {"b0c9d2329ad1606b": "toyota_rav4", "99c94dc769b5d96e": "honda_civic"}

# comma EON: 1164 x 874 pixels, focal length 910, principal point in the middle, no distortion given. Mounted at the
# windscreen, 1.22 m above the road (openpilot's nominal height), about 1.5 m ahead of the rear axle.
_IMAGE_SIZE = (874, 1164)
_FOCAL = 910.0
_POSITION = (1.5, 0.0, 1.22)

_FRAME_TIMES = "global_pose/frame_times"
_ORIENTATIONS = "global_pose/frame_orientations"
_VELOCITIES = "global_pose/frame_velocities"
_SPEED = "processed_log/CAN/speed"
_STEERING = "processed_log/CAN/steering_angle"
_FILES = (_FRAME_TIMES, f"{_SPEED}/t", f"{_SPEED}/value", f"{_STEERING}/t", f"{_STEERING}/value")
_LAYOUT = f"a comma2k19 segment, <dongle_id>|<start_time>/<segment>/ with {', '.join(_FILES)}"

_MAX_GAP = 0.25
_MIN_SPEED_FOR_MOUNT = 5.0


def load_comma2k19(
    segment_dir: str | os.PathLike[str],
    *,
    frame_rate: float = 20.0,
    start: float = 0.0,
    num_frames: int | None = None,
    vehicle: str | Vehicle | None = None,
) -> Scene:
    """Return the scene of a comma2k19 segment: one front camera, speed and curvature from the car's CAN bus.

    The frames are those of the video (20 Hz). Speed is the CAN speed, curvature comes from the CAN steering angle
    (`steering_to_curvature`), both absent where the log has no message within 0.25 s. The camera's yaw and pitch are
    measured: they turn its median direction of travel above 5 m/s (global poses) into straight ahead; without such
    poses it looks straight ahead. There are no agents. The ego origin is on the ground below the rear axle.

    Args:
        segment_dir: a segment folder, `<dongle_id>|<start_time>/<segment>`; the video is not read.
        frame_rate: frames a second; the video's own rate takes its frames as they are, another one resamples.
        start: seconds from the first frame.
        num_frames: number of frames; None: all from `start`.
        vehicle: a name of `COMMA2K19_VEHICLES` or its own constants; None: known from the dongle id.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: the folder or one of its files is missing.
        ValueError: a file is damaged, the vehicle is unknown, or the segment does not have the time asked for.

    Example:
        >>> scene = load_comma2k19("Chunk_1/b0c9d2329ad1606b|2018-08-02--08-34-47/40")  # doctest: +SKIP
        >>> scene.resample(frame_rate=10.0, num_frames=24)  # doctest: +SKIP
    """
    folder = check_log_folder(segment_dir, _FILES, _LAYOUT)
    constants = _find_vehicle(folder, vehicle)
    times = _read_array(folder / _FRAME_TIMES, 1)
    speed = _read_signal(folder / _SPEED, times)
    angle = _read_signal(folder / _STEERING, times)
    scene = Scene(
        rig=_make_rig(folder, len(times)),
        timestamps=times,
        speed=speed,
        curvature=steering_to_curvature(np.radians(angle), speed, constants),
    )
    return cut_scene(scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


def steering_to_curvature(angle: np.ndarray, speed: np.ndarray, vehicle: Vehicle) -> np.ndarray:
    """Return the path curvature of a steering wheel angle, by the linear bicycle model in steady state.

    tan(angle / steer_ratio) / wheelbase / (1 + understeer * speed²)

    Args:
        angle: steering wheel angle in radians, positive to the left.
        speed: m/s, of the same shape.
        vehicle: the car's constants.

    Returns:
        Curvature in 1/m, positive to the left, of the same shape.

    Example:
        >>> civic = COMMA2K19_VEHICLES["honda_civic"]
        >>> steering_to_curvature(np.radians(90.0), 0.0, civic).round(4).item()
        0.038
    """
    slip = 1 + vehicle.understeer * np.square(speed)
    return np.tan(np.asarray(angle) / vehicle.steer_ratio) / (vehicle.wheelbase * slip)


def _find_vehicle(folder: Path, vehicle: str | Vehicle | None) -> Vehicle:
    known = ", ".join(repr(name) for name in COMMA2K19_VEHICLES)
    if isinstance(vehicle, Vehicle):
        if not (vehicle.steer_ratio > 0 and vehicle.wheelbase > 0 and vehicle.understeer >= 0):
            raise ValueError(
                f"vehicle: expected a positive steer_ratio and wheelbase and understeer >= 0, got {vehicle}"
            )
        return vehicle
    if vehicle is None:
        route = folder.resolve().parent.name
        vehicle = _DONGLES.get(re.split(r"[|_]", route)[0])
        if vehicle is None:
            raise ValueError(
                f"{folder}: expected a route folder <dongle_id>|<start_time> of a known dongle id "
                f"({', '.join(_DONGLES)}), got {route!r}; say vehicle={known} or vehicle=Vehicle(...)"
            )
    if vehicle not in COMMA2K19_VEHICLES:
        raise ValueError(f"vehicle: expected one of {known} or a Vehicle, got {vehicle!r}")
    return COMMA2K19_VEHICLES[vehicle]


def _make_rig(folder: Path, num_frames: int) -> CameraRig:
    height, width = _IMAGE_SIZE
    pose = np.eye(4)
    pose[:3, :3] = _travel_from_device(folder, num_frames) @ [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    pose[:3, :3] *= np.array([[1], [-1], [-1]])  # forward right down to forward left up
    pose[:3, 3] = _POSITION
    return CameraRig(
        names=("front",),
        image_size=_IMAGE_SIZE,
        intrinsics=np.array([[[_FOCAL, 0.0, width / 2], [0.0, _FOCAL, height / 2], [0.0, 0.0, 1.0]]]),
        extrinsics=pose[None],
    )


def _travel_from_device(folder: Path, num_frames: int) -> np.ndarray:
    """Return the rotation from the device (forward, right, down) to the same axes along the direction of travel."""
    if not ((folder / _ORIENTATIONS).is_file() and (folder / _VELOCITIES).is_file()):
        return np.eye(3)
    quaternions = _read_array(folder / _ORIENTATIONS, 2, (num_frames, 4))
    velocity = _read_array(folder / _VELOCITIES, 2, (num_frames, 3))
    device_to_earth = rotation_matrices(str(folder / _ORIENTATIONS), quaternions)
    travel = np.einsum("tji,tj->ti", device_to_earth, velocity)
    travel = travel[travel[:, 0] > _MIN_SPEED_FOR_MOUNT]
    if not len(travel):
        return np.eye(3)
    forward = np.median(travel / np.linalg.norm(travel, axis=1, keepdims=True), axis=0)
    forward /= np.linalg.norm(forward)
    down = np.cross(forward, [0.0, 1.0, 0.0])  # the device does not roll: its right stays level
    down /= np.linalg.norm(down)
    return np.stack([forward, np.cross(down, forward), down])


def _read_signal(folder: Path, at: np.ndarray) -> np.ndarray:
    times = _read_array(folder / "t", 1)
    values = _read_array(folder / "value", None)
    if len(times) == 0 or values.size != times.size:
        raise ValueError(
            f"{folder}: expected one value for each time, got {values.size} values and {times.size} times; the files "
            "are damaged, get them again"
        )
    order = np.argsort(times, kind="stable")
    times, values = times[order], values.reshape(-1)[order]
    after = np.searchsorted(times, at).clip(1, len(times) - 1) if len(times) > 1 else np.zeros(len(at), dtype=int)
    gap = np.minimum(np.abs(at - times[after]), np.abs(at - times[after - 1]))
    return np.where(gap <= _MAX_GAP, np.interp(at, times, values), np.nan)


def _read_array(path: Path, ndim: int | None, shape: tuple[int, ...] | None = None) -> np.ndarray:
    try:
        with path.open("rb") as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a numpy array file, got a damaged one ({error}); get it again") from error
    if array.dtype.kind not in "iuf" or not np.isfinite(array).all():
        raise ValueError(f"{path}: expected finite numbers, got NaN, infinite or other values; get the file again")
    if (ndim is not None and array.ndim != ndim) or (shape is not None and array.shape != shape):
        raise ValueError(f"{path}: expected shape {shape or '(k,)'}, got {array.shape}; get the file again")
    return array.astype(np.float64)
