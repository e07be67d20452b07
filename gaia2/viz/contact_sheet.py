"""A clip in one still picture: times down, cameras across."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike

import numpy as np
from einops import rearrange

from gaia2._checks import real_number, refuse, whole_number
from gaia2.viz._tiles import check_camera_frames, draw_label, enlarge, label_height
from gaia2.viz.png import save_png


def contact_sheet(
    path: str | PathLike[str],
    frames: np.ndarray,
    names: Sequence[str],
    *,
    rows: int = 4,
    frame_rate: float | None = None,
    scale: int = 1,
) -> np.ndarray:
    """Save a png with one row per time and one column per camera.

    The rows are spread evenly over the clip, the first frame and the last among them. The cameras' names stand in the
    first row; the time, or the frame's number, stands at the left of each. The file appears only when it is complete.

    Args:
        path: The png file to write; an existing one is replaced, missing folders are made.
        frames: `(tv, n, hv, wv, 3)` uint8 RGB.
        names: One per camera, which stand in this order.
        rows: How many times to show, at most `tv`.
        frame_rate: Frames per second, to label the rows with seconds; None labels them with the frame's number.
        scale: Integer factor by which small images are enlarged, with cubic interpolation.

    Returns:
        The picture, `(rows * hv * scale, n * wv * scale, 3)` uint8.

    Raises:
        ValueError: If `frames` has another shape or type, the number of names is not the number of cameras, or
            `rows` or `scale` is less than 1.

    Example:
        >>> import tempfile
        >>> frames = np.zeros((24, 3, 64, 128, 3), dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     contact_sheet(f"{folder}/a.png", frames, ["left", "front", "right"], frame_rate=10.0).shape
        (256, 384, 3)
    """
    if not isinstance(names, list | tuple):
        raise refuse("names", "a name for each camera", names)
    names = tuple(names)
    check_camera_frames(frames, names)
    whole_number("rows", rows, 1, 10_000)
    if frame_rate is not None:
        real_number("frame_rate", frame_rate, above=0, what="frames per second")
    shown = np.rint(np.linspace(0, len(frames) - 1, min(rows, len(frames)))).astype(int)
    tiles = enlarge(frames[shown], scale).copy()
    height = label_height(tiles.shape[2])
    for camera, name in enumerate(names):
        draw_label(tiles[0, camera], name, height)
    for row, index in enumerate(shown):
        time = f"frame {index}" if frame_rate is None else f"{index / frame_rate:.1f} s"
        draw_label(tiles[row, 0], time, height, bottom=True)
    sheet = rearrange(tiles, "row camera h w c -> (row h) (camera w) c")
    save_png(path, sheet)
    return sheet
