"""Whether what a video shows stays in being: corners that can be followed, and change where nothing should move.

Axes: tv video frames, hv wv pixels.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

CORNERS = 60
"""Corners of a frame that are followed at most."""
_RETURN = 1.0
"""Pixels from where it began at which a corner may end that is followed there and back."""


def corner_survival(video: torch.Tensor, *, span: int = 8) -> float:
    """Share of the corners that can be followed over `span` frames, and back to where they began.

    Corners of frames 0, span, 2 span, ... are followed by pyramidal Lucas-Kanade optical flow. Texture that is made
    anew in every frame loses them. What leaves the picture is lost in genuine video, too: compare with that.

    Args:
        video: `(tv, 3, hv, wv)` uint8.
        span: Frames over which corners are followed.

    Returns:
        Between 0 and 1; NaN for a video that has no corners.

    Raises:
        ValueError: If the video has other axes, or no more than `span` frames.
        ImportError: If OpenCV is not installed.

    Example:
        >>> picture = torch.randint(0, 256, (1, 3, 64, 128), dtype=torch.uint8, generator=torch.manual_seed(0))
        >>> corner_survival(picture.expand(9, -1, -1, -1))
        1.0
    """
    if video.ndim != 4 or video.shape[1] != 3 or video.dtype != torch.uint8 or not 0 < span < len(video):
        raise ValueError(
            f"video: expected (tv, 3, hv, wv) uint8 with tv above span={span}, got {video.dtype} {tuple(video.shape)}; "
            "give a longer video, or a shorter span"
        )
    try:
        import cv2
    except ImportError as error:
        raise ImportError(
            "corners: expected OpenCV, which is not installed; pip install 'gaia2[metrics]' brings it"
        ) from error
    weights = torch.tensor([0.299, 0.587, 0.114])
    grey = torch.einsum("tchw,c->thw", video.float().cpu(), weights).round().byte().numpy()
    kept = there = 0
    for start in range(0, len(grey) - span, span):
        corners = cv2.goodFeaturesToTrack(grey[start], maxCorners=CORNERS, qualityLevel=0.02, minDistance=4)
        if corners is None:
            continue
        at, found = corners, np.ones(len(corners), bool)
        path = [*range(start, start + span + 1), *range(start + span - 1, start - 1, -1)]
        for now, then in itertools.pairwise(path):
            at, state, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # its stubs ask for a first guess
                grey[now], grey[then], at, None, winSize=(9, 9), maxLevel=2
            )
            found &= state[:, 0] > 0
        away = np.linalg.norm((at - corners)[:, 0], axis=-1)
        kept += int((found & (away < _RETURN)).sum())
        there += len(corners)
    return kept / there if there else float("nan")


def frame_change(video: torch.Tensor) -> float:
    """Mean absolute difference of neighbouring frames, in 8-bit levels.

    Where the ego stands still, only agents and rain move: all other change is flicker.

    Args:
        video: `(tv, ...)` uint8, two frames or more.

    Raises:
        ValueError: If there are fewer.

    Example:
        >>> frame_change(torch.tensor([[0], [4], [4]], dtype=torch.uint8))
        2.0
    """
    if len(video) < 2:
        raise ValueError(f"video: expected two frames or more, got {len(video)}; give a longer one")
    return float(video.float().diff(dim=0).abs().mean())
