"""Frames of any size brought to a model's size the way `CameraRig.fit` brings their cameras to it."""

from __future__ import annotations

import numpy as np
from PIL import Image

from gaia2._checks import refuse, whole_number

MAX_SIDE = 65_536


def fit_frames(frames: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Crop frames about their centre to an aspect ratio, then scale them.

    Args:
        frames: `(tv, hv, wv, 3)` uint8.
        image_size: Pixels `(height, width)` to give.

    Returns:
        `(tv, height, width, 3)` uint8.

    Raises:
        ValueError: If the frames or the size are something else.

    Example:
        >>> fit_frames(np.zeros((2, 100, 150, 3), np.uint8), (64, 128)).shape
        (2, 64, 128, 3)
    """
    if not isinstance(frames, np.ndarray) or frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise refuse("frames", "a NumPy array (tv, hv, wv, 3) uint8", frames)
    if not frames.size:
        raise refuse("frames", "at least one frame", frames)
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise refuse("image_size", "a height and a width in pixels", image_size)
    height, width = (whole_number("image_size", side, 1, MAX_SIDE) for side in image_size)
    hv, wv = frames.shape[1:3]
    scale = min(hv / height, wv / width)
    crop_height, crop_width = min(hv, height * scale), min(wv, width * scale)  # rounding may go beyond the picture
    top, left = (hv - crop_height) / 2, (wv - crop_width) / 2
    box = (left, top, left + crop_width, top + crop_height)
    resized = [Image.fromarray(f).resize((width, height), Image.Resampling.BOX, box=box) for f in frames]
    return np.stack([np.asarray(image) for image in resized])
