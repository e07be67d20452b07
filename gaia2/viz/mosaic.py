"""All cameras of a clip in one picture, each with its name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gaia2._checks import refuse, whole_number
from gaia2.viz._tiles import BACKGROUND, check_camera_frames, draw_label, enlarge, label_height

_ROWS = {"front": 0, "side": 1, "rear": 2, "back": 2}
_COLUMNS = {"left": 0, "right": 2}


def mosaic_grid(names: Sequence[str], columns: int | None = None) -> list[list[int]]:
    """Which camera stands where.

    Cameras that say where they look (`front_left`, `rear`, `CAM_BACK_RIGHT`, `ring_side_left`) stand as around
    the car: front above side above rear, left to right. Others, and two that claim one place, stand in the order given.

    Args:
        names: One per camera.
        columns: Cameras in a row, in the order given; None places by name, or in a nearly square grid.

    Returns:
        The rows from top to bottom, each the indices of its cameras from left to right.

    Raises:
        ValueError: If `columns` is less than 1.

    Example:
        >>> mosaic_grid(["front", "front_left", "front_right", "rear_left", "rear_right"])
        [[1, 0, 2], [3, 4]]
        >>> mosaic_grid(["a", "b", "c", "d"])
        [[0, 1], [2, 3]]
    """
    if columns is not None:
        whole_number("columns", columns, 1, 10_000)
    if columns is None:
        words = [name.lower().split("_") for name in names]
        rows = [next((_ROWS[word] for word in camera if word in _ROWS), -1) for camera in words]
        places = list(zip(rows, [next((_COLUMNS[word] for word in camera if word in _COLUMNS), 1) for camera in words]))
        if -1 not in rows and len(set(places)) == len(places):
            order = sorted(range(len(names)), key=places.__getitem__)
            return [[i for i in order if rows[i] == row] for row in sorted(set(rows))]
        columns = math.ceil(math.sqrt(len(names)))
    return [list(range(i, min(i + columns, len(names)))) for i in range(0, len(names), columns)]


def mosaic(frames: np.ndarray, names: Sequence[str], columns: int | None = None, scale: int = 1) -> np.ndarray:
    """Put the cameras of a clip into one video, each with its name in the top left corner.

    Args:
        frames: `(tv, n, hv, wv, 3)` uint8 RGB.
        names: One per camera.
        columns: Cameras in a row; None places them by name (see `mosaic_grid`). A row with fewer cameras than
            the widest is centred.
        scale: Integer factor by which small images are enlarged, with cubic interpolation.

    Returns:
        `(tv, rows * hv * scale, columns * wv * scale, 3)` uint8.

    Raises:
        ValueError: If `frames` has another shape or type, the number of names is not the number of cameras, or
            `columns` or `scale` is less than 1.

    Example:
        >>> frames = np.zeros((24, 5, 64, 128, 3), dtype=np.uint8)
        >>> names = ["front", "front_left", "front_right", "rear_left", "rear_right"]
        >>> mosaic(frames, names, scale=2).shape
        (24, 256, 768, 3)
    """
    if not isinstance(names, list | tuple):
        raise refuse("names", "a name for each camera", names)
    names = tuple(names)
    check_camera_frames(frames, names)
    grid = mosaic_grid(names, columns)
    tiles = enlarge(frames, scale)
    height, width = tiles.shape[2:4]
    full = max(len(row) for row in grid) * width
    canvas = np.full((len(tiles), len(grid) * height, full, 3), BACKGROUND, dtype=np.uint8)
    for top, row in enumerate(grid):
        left = (full - len(row) * width) // 2
        for place, camera in enumerate(row):
            tile = canvas[:, top * height :, left + place * width :][:, :height, :width]
            tile[...] = tiles[:, camera]
            draw_label(tile, names[camera], label_height(height))
    return canvas
