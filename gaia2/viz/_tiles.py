"""Pictures on a canvas: enlarging, text labels and placing, shared by the mosaic and the contact sheet."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gaia2._checks import refuse, whole_number

MAX_SCALE = 64

#: grey level behind the tiles
BACKGROUND = 16


def check_camera_frames(frames: np.ndarray, names: tuple[str, ...]) -> None:
    """Raise `ValueError` unless `frames` is `(tv, n, hv, wv, 3)` uint8 with one name per camera."""
    if not isinstance(frames, np.ndarray):
        raise refuse("frames", "a NumPy array (tv, n, hv, wv, 3) uint8", frames)
    if not all(isinstance(name, str) for name in names):
        raise refuse("names", "a name for each camera", names)
    if frames.ndim != 5 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise ValueError(
            f"frames: expected (tv, n, hv, wv, 3) uint8, got {frames.shape} {frames.dtype}; "
            "move the colour channel last and scale to 0..255"
        )
    if len(names) != frames.shape[1]:
        raise ValueError(f"names: expected one for each of the {frames.shape[1]} cameras of frames, got {len(names)}")


def enlarge(images: np.ndarray, scale: int) -> np.ndarray:
    """Enlarge images by an integer factor with cubic (Catmull-Rom) interpolation.

    Args:
        images: `(..., h, w, 3)` uint8.
        scale: Factor for both sides, at least 1.

    Returns:
        `(..., h * scale, w * scale, 3)` uint8.

    Raises:
        ValueError: If `scale` is not a positive integer.
    """
    whole_number("scale", scale, 1, MAX_SCALE)
    if scale == 1:
        return images
    rows = _cubic_matrix(images.shape[-3], int(scale))
    columns = _cubic_matrix(images.shape[-2], int(scale))
    flat = images.astype(np.float32).reshape(*images.shape[:-2], -1)
    tall = (rows @ flat).reshape(*images.shape[:-3], -1, *images.shape[-2:])
    return np.clip(np.rint(columns @ tall), 0, 255).astype(np.uint8)


def _cubic_matrix(size: int, scale: int) -> np.ndarray:
    """`(size * scale, size)` weights of each source pixel in each enlarged one; the border repeats."""
    position = (np.arange(size * scale) + 0.5) / scale - 0.5
    taps = np.floor(position).astype(int)[:, None] + np.arange(-1, 3)
    distance = np.abs(position[:, None] - taps)
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1.0
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4.0 * distance + 2.0
    matrix = np.zeros((size * scale, size), dtype=np.float32)
    np.add.at(matrix, (np.arange(size * scale)[:, None], taps.clip(0, size - 1)), np.where(distance <= 1.0, near, far))
    return matrix


@lru_cache(maxsize=256)
def label_mask(text: str, height: int) -> np.ndarray:
    """`(height, width)` coverage 0..1 of one line of text with a margin; drawn once for each text and height."""
    font = ImageFont.load_default(size=max(1, round(height * 0.7)))
    margin = max(2, height // 4)
    canvas = Image.new("L", (max(1, round(font.getlength(text))) + 2 * margin, height))
    ImageDraw.Draw(canvas).text((margin, height / 2), text, fill=255, font=font, anchor="lm")
    mask = np.asarray(canvas, dtype=np.float32) / 255.0
    mask.flags.writeable = False
    return mask


def label_height(tile_height: int) -> int:
    """Pixels of a label's strip on a tile of the given height."""
    return min(max(tile_height // 10, 11), 32)


def draw_label(tiles: np.ndarray, text: str, height: int, *, bottom: bool = False) -> None:
    """Write white text on a darkened strip at the left of the top (or bottom) edge, in place.

    Args:
        tiles: `(..., h, w, 3)` uint8, a view to draw on; the strip is cut where it does not fit.
        text: One line.
        height: Of the strip, in pixels.
        bottom: At the bottom edge instead of the top.
    """
    rows = slice(-height, None) if bottom else slice(None, height)
    mask = label_mask(text, height)
    strip = tiles[..., rows, : mask.shape[1], :]
    mask = mask[: strip.shape[-3], : strip.shape[-2], None]
    strip[...] = np.rint(strip * (0.35 * (1.0 - mask)) + 255.0 * mask).astype(np.uint8)
