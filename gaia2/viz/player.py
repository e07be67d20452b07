"""Videos within a page, such as a notebook's: nothing but HTML, with the video in it."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from gaia2.video.files import write_video

MIN_WIDTH = 640  # pixels on the page; small pictures are enlarged by the browser


def players(videos: Sequence[np.ndarray], frame_rates: Sequence[float], *, left_out: int = 0) -> str:
    """HTML that plays videos, one below the other.

    Args:
        videos: `(tv, h, w, 3)` uint8 RGB each.
        frame_rates: Frames a second of each.
        left_out: How many more there are, which the page then says.

    Example:
        >>> html = players([np.zeros((2, 16, 32, 3), np.uint8)], [10.0])
        >>> html.startswith('<video controls loop muted autoplay width="640" src="data:video/mp4;base64,')
        True
    """
    parts = [_player(frames, rate) for frames, rate in zip(videos, frame_rates, strict=True)]
    if left_out > 0:
        parts.append(f"<p>{escape(f'and {left_out} more')}</p>")
    return "\n".join(parts)


def _player(frames: np.ndarray, frame_rate: float) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames, frame_rate)
        data = base64.b64encode(path.read_bytes()).decode()
    width = max(MIN_WIDTH, frames.shape[2])
    return f'<video controls loop muted autoplay width="{width}" src="data:video/mp4;base64,{data}"></video>'
