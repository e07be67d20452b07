"""How a long video changes from its beginning to its end in what should stay: contrast, sharpness, sky.

Axes: tv video frames, n cameras, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange

from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judges import Judge
from gaia2.metrics.measure import Measure, ratio_of_sums


@torch.no_grad()
def window_looks(frames: torch.Tensor, judge: Judge, window: int = 24) -> dict[str, list[float]]:
    """Contrast, sharpness and sky of each window of a video.

    Args:
        frames: `(tv, n, 3, hv, wv)` uint8.
        judge: Says which parts are sky.
        window: Frames of a window; a rest at the end does not count.

    Returns:
        By name a number a window: `contrast`, the standard deviation of the brightness of a frame; `sharpness`, the
        mean absolute difference of neighbouring pixels; `sky`, the share of the parts that are sky. Brightness is in
        [0, 1].

    Raises:
        ValueError: If there are not two windows.
    """
    if len(frames) < 2 * window:
        raise ValueError(f"frames: expected at least {2 * window}, two windows, got {len(frames)}; give a longer video")
    looks: dict[str, list[float]] = {"contrast": [], "sharpness": [], "sky": []}
    for part in frames.split(window):
        if len(part) < window:
            break
        grey = part.float().mean(dim=2) / 255
        looks["contrast"].append(float(grey.std(dim=(-2, -1)).mean()))
        edges = grey.diff(dim=-1).abs().mean() + grey.diff(dim=-2).abs().mean()
        looks["sharpness"].append(float(edges / 2))
        few = rearrange(part[:: max(1, window // 3)], "t n c h w -> (t n) c h w").float() / 255
        sky = torch.cat(
            [judge(images).classes.float().softmax(dim=1)[:, CLASSES.index("sky")] for images in few.split(32)]
        )
        looks["sky"].append(float(sky.mean()))
    return looks


def drift(videos: Sequence[dict[str, list[float]]]) -> dict[str, Measure]:
    """What is kept of each look, over videos: the sum of their last windows as a share of that of their first.

    Args:
        videos: What `window_looks` gives for each.

    Returns:
        By name a figure: 1 is no drift.

    Example:
        >>> kept = drift([{"contrast": [0.2, 0.1]}, {"contrast": [0.2, 0.2]}])
        >>> round(kept["contrast"].value(), 2)
        0.75
    """
    return {
        name: Measure([np.array([[video[name][-1], video[name][0]]]) for video in videos], ratio_of_sums)
        for name in videos[0]
    }
