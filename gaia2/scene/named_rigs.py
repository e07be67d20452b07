"""A few camera rigs as data, and the two functions to write down another one.

All mounts are relative to the ego origin: on the ground below the middle of the rear axle, x forward, y left, z up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gaia2._checks import real_number
from gaia2.scene.camera_rig import CameraRig
from gaia2.scene.rig_fields import check_image_size
from gaia2.scene.validation import as_floats, check_shape, nearest

__all__ = ["RIG_NAMES", "camera_extrinsics", "named_rig", "pinhole_intrinsics"]


class _Mount(NamedTuple):
    position: tuple[float, float, float]
    yaw: float
    pitch_down: float
    hfov: float


_IMAGE_SIZE = (448, 960)

_CAR: dict[str, _Mount] = {
    "front": _Mount((1.70, 0.00, 1.52), 0.0, 0.0, 70.0),
    "front_left": _Mount((1.60, 0.50, 1.50), 60.0, 0.0, 80.0),
    "front_right": _Mount((1.60, -0.50, 1.50), -60.0, 0.0, 80.0),
    "rear_left": _Mount((1.00, 0.55, 1.50), 130.0, 0.0, 80.0),
    "rear_right": _Mount((1.00, -0.55, 1.50), -130.0, 0.0, 80.0),
}

_VAN: dict[str, _Mount] = {
    "front": _Mount((2.30, 0.00, 2.20), 0.0, 4.0, 60.0),
    "front_left": _Mount((2.20, 0.85, 2.40), 55.0, 5.0, 90.0),
    "front_right": _Mount((2.20, -0.85, 2.40), -55.0, 5.0, 90.0),
    "rear_left": _Mount((1.40, 0.90, 2.60), 140.0, 6.0, 75.0),
    "rear_right": _Mount((1.40, -0.90, 2.60), -140.0, 6.0, 75.0),
}

_RIGS: dict[str, dict[str, _Mount]] = {
    "surround": _CAR,
    "surround3": {name: _CAR[name] for name in ("front", "front_left", "front_right")},
    "front": {"front": _CAR["front"]},
    "van": _VAN,
}

RIG_NAMES = tuple(_RIGS)
"""Names that `named_rig` knows."""


def named_rig(name: str, image_size: tuple[int, int] | None = None) -> CameraRig:
    """Return one of the rigs that come with the library.

    * "surround": 5 cameras on a car at 1.5 m: front (70 degrees wide), front_left, front_right, rear_left and
      rear_right (80 degrees wide).
    * "surround3": its three forward cameras.
    * "front": its front camera alone.
    * "van": 5 cameras at 2.2 to 2.6 m, 60 to 90 degrees wide, looking 4 to 6 degrees down.

    Args:
        name: One of `RIG_NAMES`.
        image_size: (height, width) in pixels; the 448 x 960 images are cropped to its aspect ratio and resized.

    Returns:
        The rig.

    Raises:
        ValueError: The name is unknown or the image size is not two positive integers.

    Example:
        >>> named_rig("surround").names
        ('front', 'front_left', 'front_right', 'rear_left', 'rear_right')
        >>> named_rig("van", image_size=(64, 128)).image_size[0].tolist()
        [64, 128]
    """
    if not isinstance(name, str) or name not in _RIGS:
        raise ValueError(
            f"rig: unknown name {name!r}; did you mean {nearest(name, RIG_NAMES)!r}? "
            f"Expected one of: {', '.join(RIG_NAMES)}"
        )
    mounts = _RIGS[name]
    rig = CameraRig(
        names=tuple(mounts),
        image_size=_IMAGE_SIZE,
        intrinsics=np.stack([pinhole_intrinsics(m.hfov, _IMAGE_SIZE) for m in mounts.values()]),
        extrinsics=np.stack([camera_extrinsics(m.position, m.yaw, m.pitch_down) for m in mounts.values()]),
    )
    return rig if image_size is None else rig.fit(image_size=image_size)


def pinhole_intrinsics(hfov: float, image_size: tuple[int, int]) -> np.ndarray:
    """Return the intrinsics of a camera with square pixels and the principal point at the image centre.

    Args:
        hfov: Horizontal field of view, degrees, between 0 and 180.
        image_size: (height, width) in pixels.

    Returns:
        (3, 3) intrinsics in pixels.

    Raises:
        ValueError: The field of view is not between 0 and 180 degrees.

    Example:
        >>> pinhole_intrinsics(90.0, (100, 200)).round(6).tolist()
        [[100.0, 0.0, 100.0], [0.0, 100.0, 50.0], [0.0, 0.0, 1.0]]
    """
    hint = "wider lenses need a fisheye model"
    real_number("hfov", hfov, above=0, below=180, what="degrees", hint=hint)
    height, width = check_image_size(image_size, 1)[0].tolist()
    focal = width / 2 / math.tan(math.radians(hfov) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=np.float64)


def camera_extrinsics(position: tuple[float, float, float], yaw: float = 0.0, pitch_down: float = 0.0) -> np.ndarray:
    """Return the camera-to-ego pose of a camera without roll.

    Args:
        position: X forward, y left, z up in the ego frame, metres.
        yaw: Where it looks, degrees: 0 forward, 90 left, -90 right.
        pitch_down: Degrees below the horizon.

    Returns:
        (4, 4) pose from the camera (x right, y down, z forward) to the ego frame.

    Raises:
        ValueError: The position is not three finite numbers, or an angle is none.

    Example:
        >>> (camera_extrinsics((1.0, 0.0, 1.5), yaw=90.0) @ [0, 0, 10, 1]).round(6).tolist()  # 10 m ahead of it
        [1.0, 10.0, 1.5, 1.0]
    """
    place = as_floats("position", position)
    check_shape("position", place, ("3",), (3,))
    for name, angle in (("yaw", yaw), ("pitch_down", pitch_down)):
        real_number(name, angle, -1e4, 1e4, what="degrees")
    cos_yaw, sin_yaw = math.cos(math.radians(yaw)), math.sin(math.radians(yaw))
    cos_pitch, sin_pitch = math.cos(math.radians(pitch_down)), math.sin(math.radians(pitch_down))
    forward = np.array([cos_yaw * cos_pitch, sin_yaw * cos_pitch, -sin_pitch])
    right = np.array([sin_yaw, -cos_yaw, 0.0])
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward], axis=1)
    pose[:3, 3] = place
    return pose
