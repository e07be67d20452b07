"""Pixels and rig cut together, and scenes of chosen frames and cameras."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gaia2.data.clip import Clip
from gaia2.scene import CameraRig, Scene

__all__ = ["crop_clip", "crop_rig", "select_cameras", "take_frames"]


def crop_rig(rig: CameraRig, top: int, left: int, height: int, width: int) -> CameraRig:
    """Return the rig of the same cameras whose images are cut to a part.

    The principal point moves by the cut, so that what was at pixel (x, y) is at (x - left, y - top).

    Args:
        rig: The cameras.
        top: First row of the part, the same for all cameras.
        left: Its first column.
        height: Its rows.
        width: Its columns.

    Raises:
        ValueError: The part is empty or reaches out of an image.

    Example:
        >>> from gaia2.scene import named_rig
        >>> rig = named_rig("front", image_size=(64, 128))
        >>> part = crop_rig(rig, top=10, left=20, height=32, width=64)
        >>> (rig.intrinsics - part.intrinsics)[0, :2, 2].tolist(), part.image_size.tolist()
        ([20.0, 10.0], [[32, 64]])
    """
    room = rig.image_size - (top + height, left + width)
    if min(top, left) < 0 or min(height, width) < 1 or (room < 0).any():
        camera = int((room < 0).any(axis=1).argmax())
        raise ValueError(
            f"crop: expected a part within the image {rig.image_size[camera].tolist()} of {rig.names[camera]}, got "
            f"top={top}, left={left}, height={height}, width={width}; store larger clips or cut smaller parts"
        )
    shift = np.zeros((3, 3))
    shift[0, 2], shift[1, 2] = left, top
    return rig.replace(image_size=(height, width), intrinsics=rig.intrinsics - shift)


def crop_clip(clip: Clip, top: int, left: int, height: int, width: int) -> Clip:
    """Return the clip cut to a part of its images, with the rig that belongs to it. The pixels are not copied.

    Args:
        clip: Any clip.
        top: First row of the part, the same for all cameras.
        left: Its first column.
        height: Its rows.
        width: Its columns.

    Raises:
        ValueError: The part is empty or reaches out of the image.

    Example:
        >>> from gaia2.scene import named_rig
        >>> scene = Scene.create(named_rig("front", (64, 128)), num_frames=4)
        >>> crop_clip(Clip(scene, np.zeros((4, 1, 3, 64, 128), np.uint8)), 0, 64, 64, 64).frames.shape
        (4, 1, 3, 64, 64)
    """
    scene = clip.scene.replace(rig=crop_rig(clip.scene.rig, top, left, height, width))
    return Clip(scene, clip.frames[..., top : top + height, left : left + width], clip.source)


def take_frames(scene: Scene, frames: Sequence[int] | np.ndarray) -> Scene:
    """Return the scene of the given frames, in increasing order.

    Raises:
        ValueError: An index is not a frame, or they do not increase.

    Example:
        >>> take_frames(Scene.create("front", num_frames=8), [0, 2, 4]).num_frames
        3
    """
    index = np.asarray(frames)
    agents = scene.agents.take(index)
    return scene.replace(
        timestamps=scene.timestamps[index],
        speed=scene.speed[index],
        curvature=scene.curvature[index],
        agents=agents,
        extra={name: array.take("tv", index) for name, array in scene.extra.items()},
    )


def select_cameras(scene: Scene, cameras: Sequence[str]) -> Scene:
    """Return the scene of some of its cameras, in the order asked for.

    Example:
        >>> select_cameras(Scene.create("surround", num_frames=8), ["rear_left"]).timestamps.shape
        (8, 1)
    """
    rig = scene.rig.select(cameras)
    index = [scene.rig.names.index(name) for name in rig.names]
    extra = {name: array.take("n", index) for name, array in scene.extra.items()}
    return scene.replace(rig=rig, timestamps=scene.timestamps[:, index], extra=extra)
