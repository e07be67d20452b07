"""Camera rigs drawn at random: low and high vehicles, one to six cameras of any width, with and without distortion."""

from __future__ import annotations

import numpy as np

from gaia2._checks import whole_number
from gaia2.scene import CameraRig
from gaia2.scene.rig_fields import check_image_size

__all__ = ["MAX_CAMERAS", "random_rig"]

MAX_CAMERAS = 6
"""Cameras that a random rig has at most."""

_HEADINGS = (
    (0.0,),
    (0.0, 180.0),
    (0.0, 60.0, -60.0),
    (0.0, 90.0, -90.0, 180.0),
    (0.0, 58.0, -58.0, 132.0, -132.0),
    (0.0, 55.0, -55.0, 110.0, -110.0, 180.0),
)
_VEHICLES = ((1.0, 1.7, 1.7, 0.85), (1.4, 2.1, 1.9, 0.9), (1.9, 3.5, 2.3, 0.95))
"""Car, SUV, van: lowest and highest mount, reach to the front and to the side (metres)."""
_MAX_PITCH, _MAX_ROLL = 12.0, 2.0
_FIELD_OF_VIEW = (45.0, 110.0)


def random_rig(seed: int, num_cameras: int, image_size: tuple[int, int]) -> CameraRig:
    """Draw a rig.

    Pitch within 12 degrees, mounts 1 to 3.5 m high, 45 to 110 degrees wide. Half of the rigs have no distortion, a
    quarter a pinhole lens with some, a quarter fisheye lenses.

    Args:
        seed: A seed always gives the same rig.
        num_cameras: 1 to 6; the first looks ahead, the others around, a pair of two looks ahead and back.
        image_size: Height and width in pixels.

    Returns:
        Cameras "camera_0" and so on.

    Raises:
        ValueError: If the number of cameras is not 1 to 6.

    Example:
        >>> rig = random_rig(3, num_cameras=4, image_size=(64, 128))
        >>> rig.num_cameras, bool((rig.extrinsics[:, 2, 3] >= 1.0).all())
        (4, True)
    """
    whole_number("num_cameras", num_cameras, 1, MAX_CAMERAS)
    whole_number("seed", seed, 0)
    rng = np.random.default_rng([0x52494753, seed])
    n = num_cameras
    low, high, front, side = _VEHICLES[rng.integers(len(_VEHICLES))]
    height = rng.uniform(low, high)
    yaw = np.array(_HEADINGS[n - 1]) + rng.uniform(-12.0, 12.0) * (n > 1) + rng.uniform(-10.0, 10.0, n)
    yaw[0] += rng.uniform(-180.0, 180.0) * (n == 1) * (rng.random() < 0.5)  # a lone camera looks anywhere
    pitch = np.clip(rng.uniform(-9.0, 9.0) + rng.uniform(-3.0, 3.0, n), -_MAX_PITCH, _MAX_PITCH)
    roll = rng.uniform(-_MAX_ROLL, _MAX_ROLL, n)
    view = np.clip(rng.uniform(50.0, 100.0) + rng.uniform(-15.0, 15.0, n), *_FIELD_OF_VIEW)
    kind = rng.choice(["none", "pinhole", "fisheye"], p=[0.5, 0.25, 0.25])
    extrinsics = np.tile(np.eye(4), (n, 1, 1))
    extrinsics[:, :3, :3] = _rotations(*np.deg2rad([yaw, pitch, roll]))
    along = np.cos(np.deg2rad(yaw))
    extrinsics[:, 0, 3] = np.where(along > 0, front * along, 1.0 * along) + rng.uniform(-0.15, 0.15, n)
    extrinsics[:, 1, 3] = side * np.sin(np.deg2rad(yaw)) + rng.uniform(-0.1, 0.1, n)
    extrinsics[:, 2, 3] = np.clip(height + rng.uniform(-0.1, 0.1, n), 1.0, 3.5)
    rows, columns = check_image_size(image_size, 1)[0].tolist()
    half = np.deg2rad(view / 2)
    focal = columns / 2 / (half if kind == "fisheye" else np.tan(half))
    intrinsics = np.tile(np.eye(3), (n, 1, 1))
    intrinsics[:, 0, 0] = focal
    intrinsics[:, 1, 1] = focal * rng.uniform(0.98, 1.02)
    intrinsics[:, 0, 2] = columns / 2 * (1 + rng.uniform(-0.04, 0.04, n))
    intrinsics[:, 1, 2] = rows / 2 * (1 + rng.uniform(-0.08, 0.08, n))
    distortion = np.zeros((n, 8))
    if kind == "pinhole":
        distortion[:, 0] = rng.uniform(-0.12, 0.03, n)
        distortion[:, 1] = rng.uniform(0.0, 0.02, n)
        distortion[:, 2:4] = rng.uniform(-0.001, 0.001, (n, 2))
    elif kind == "fisheye":
        distortion[:, 0] = rng.uniform(-0.04, 0.04, n)
        distortion[:, 1] = rng.uniform(-0.005, 0.005, n)
    return CameraRig(
        names=tuple(f"camera_{index}" for index in range(n)),
        image_size=image_size,
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        distortion=distortion,
        distortion_model="fisheye" if kind == "fisheye" else "pinhole",
    )


def _rotations(yaw: np.ndarray, pitch_down: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Camera to ego `(n, 3, 3)`; yaw 0 looks ahead and grows to the left, roll turns about the optical axis (rad)."""
    forward = np.stack([np.cos(yaw) * np.cos(pitch_down), np.sin(yaw) * np.cos(pitch_down), -np.sin(pitch_down)], -1)
    right = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], -1)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([c * right + s * down, c * down - s * right, forward], axis=-1)
