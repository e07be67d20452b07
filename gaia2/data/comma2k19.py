"""comma2k19 segments: https://github.com/commaai/comma2k19, one front camera at 20 Hz, motion from the CAN bus."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gaia2.data.comma2k19_vehicles import Vehicle, find_vehicle, steering_offset, steering_to_curvature
from gaia2.data.frame_readers import VideoFile
from gaia2.data.geo import latlon_from_ecef
from gaia2.data.log_files import check_log_folder, cut_scene, find_logs, rotation_matrices
from gaia2.data.recording import Camera, Recording
from gaia2.data.source import Source
from gaia2.scene import CameraRig, Scene

__all__ = ["list_logs", "load_comma2k19", "read_log"]

# comma EON: 1164 x 874 pixels, focal length 910, principal point in the middle, no distortion given. Mounted at the
# windscreen, 1.22 m above the road (openpilot's nominal height), about 1.5 m ahead of the rear axle.
_IMAGE_SIZE = (874, 1164)
_FOCAL = 910.0
_POSITION = (1.5, 0.0, 1.22)

_FRAME_TIMES = "global_pose/frame_times"
_ORIENTATIONS = "global_pose/frame_orientations"
_POSITIONS = "global_pose/frame_positions"
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
    (`steering_to_curvature`) less its offset, which the headings of the global poses give (`steering_offset`); both are
    absent where the log has no message within 0.25 s. The camera's yaw and pitch are measured: they turn its median
    direction of travel above 5 m/s (global poses) into straight ahead; without such poses it looks straight ahead, and
    the offset is 0. There are no agents. The ego origin is on the ground below the rear axle.

    Args:
        segment_dir: A segment folder, `<dongle_id>|<start_time>/<segment>`; the video is not read.
        frame_rate: Frames a second; the video's own rate takes its frames as they are, another one resamples.
        start: Seconds from the first frame.
        num_frames: Number of frames; None: all from `start`.
        vehicle: A name of `COMMA2K19_VEHICLES` or its own constants; None: known from the dongle id.

    Returns:
        The scene, its timestamps in seconds from its first frame.

    Raises:
        FileNotFoundError: The folder or one of its files is missing.
        ValueError: A file is damaged, the vehicle is unknown, or the segment does not have the time asked for.

    Example:
        >>> scene = load_comma2k19("Chunk_1/b0c9d2329ad1606b|2018-08-02--08-34-47/40")  # doctest: +SKIP
        >>> scene.resample(frame_rate=10.0, num_frames=24)  # doctest: +SKIP
    """
    scene, _ = _read_scene(check_log_folder(segment_dir, _FILES, _LAYOUT), vehicle)
    return cut_scene(scene, frame_rate=frame_rate, start=start, num_frames=num_frames)


def list_logs(root: str | os.PathLike[str]) -> list[str]:
    """Return the names of the segments below a folder, "." if it is itself one.

    Raises:
        FileNotFoundError: There are none.
    """
    logs = [Path(log) for log in find_logs(root, _FRAME_TIMES, _LAYOUT)]
    return [log.as_posix() for log in sorted(logs, key=lambda log: (log.parent, log.name.zfill(4)))]


def read_log(
    root: str | os.PathLike[str],
    log: str,
    *,
    cameras: Sequence[str] | None = None,
    frame_step: int = 1,
    vehicle: str | Vehicle | None = None,
) -> Recording:
    """Return a segment with its pictures, `video.hevc`; see `load_comma2k19`.

    Args:
        root: Folder of the segments.
        log: One of `list_logs(root)`.
        cameras: "front" or None, there is one.
        frame_step: Take every so manieth frame.
        vehicle: As in `load_comma2k19`.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file is damaged.
    """
    folder = check_log_folder(Path(root) / log, _FILES, _LAYOUT)
    scene, offset = _read_scene(folder, vehicle)
    rig = scene.rig if cameras is None else scene.rig.select(cameras)
    times = scene.timestamps[:, 0]
    route = folder.resolve().parts[-2:]
    places = None
    if (folder / _POSITIONS).is_file():
        places = (times, latlon_from_ecef(_read_array(folder / _POSITIONS, 2, (len(times), 3))))
    return Recording.assemble(
        rig,
        [Camera(times, VideoFile(folder / "video.hevc", len(times)))],
        motion=(times, scene.speed, scene.curvature),
        metadata={"country": "us"},
        source=Source("comma2k19", "/".join(route), 0.0, notes={"steering_offset_degrees": round(offset, 4)}),
        places=places,
        frame_step=frame_step,
    )


def _read_scene(folder: Path, vehicle: str | Vehicle | None) -> tuple[Scene, float]:
    """The scene, and the steering's offset in degrees."""
    constants = find_vehicle(folder, vehicle)
    times = _read_array(folder / _FRAME_TIMES, 1)
    speed = _read_signal(folder / _SPEED, times)
    angle = np.radians(_read_signal(folder / _STEERING, times))
    offset = 0.0
    if (folder / _POSITIONS).is_file() and (folder / _ORIENTATIONS).is_file():
        offset = steering_offset(times, angle, speed, _heading(folder, len(times)), constants)
    curvature = steering_to_curvature(angle - offset, speed, constants)
    scene = Scene(rig=_make_rig(folder, len(times)), timestamps=times, speed=speed, curvature=curvature)
    return scene, float(np.degrees(offset))


def _heading(folder: Path, num_frames: int) -> np.ndarray:
    """Yaw (tv,) of the device about the vertical of the place, in radians and not wrapped."""
    quaternions = _read_array(folder / _ORIENTATIONS, 2, (num_frames, 4))
    up = _read_array(folder / _POSITIONS, 2, (num_frames, 3)).mean(axis=0)
    up /= np.linalg.norm(up)
    east = np.cross([0.0, 0.0, 1.0], up)
    east /= np.linalg.norm(east)
    forward = rotation_matrices(str(folder / _ORIENTATIONS), quaternions)[:, :, 0]
    return np.unwrap(np.arctan2(forward @ np.cross(up, east), forward @ east))


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
