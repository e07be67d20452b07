"""Fréchet Video Motion Distance (Liu et al. 2024): how far the motion of two sets of videos is apart.

Points on a grid are tracked; their velocities and accelerations, in histograms of direction weighted by magnitude, are
the features of a Fréchet distance.

Axes: b videos, tv video frames, s segments, f frames of a segment, p points, hv wv pixels, d features.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, reduce

from gaia2.metrics.frechet import FrechetStatistics, frechet_distance


class PointTracker(Protocol):
    """Follows points through a video. `name` stands beside each figure that comes of it."""

    name: str

    def __call__(self, video: torch.Tensor, points: torch.Tensor, starts: Sequence[int], length: int) -> torch.Tensor:
        """Track points from several frames on.

        Args:
            video: `(tv, 3, hv, wv)` uint8.
            points: `(p, 2)` x and y in pixels, the same at each start.
            starts: Frames at which segments begin.
            length: Frames f of a segment.

        Returns:
            `(s, f, p, 2)` x and y in pixels.
        """
        ...


class OpticalFlowTracker:
    """Moves points along OpenCV's dense inverse search optical flow; nothing is downloaded.

    Raises:
        ImportError: If OpenCV is not installed.

    Example:
        >>> tracker = OpticalFlowTracker()
        >>> tracks = tracker(torch.zeros(4, 3, 32, 64, dtype=torch.uint8), torch.tensor([[8.0, 8.0]]), [0], 4)
        >>> tracker.name, tracks.shape, tracks[0, -1].tolist()
        ('opencv DIS optical flow', torch.Size([1, 4, 1, 2]), [[8.0, 8.0]])
    """

    name = "opencv DIS optical flow"

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise ImportError(
                "optical flow: expected OpenCV, which is not installed; pip install 'gaia2[metrics]', or give a tracker"
            ) from error
        self._flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)  # type: ignore[attr-defined]

    def __call__(self, video: torch.Tensor, points: torch.Tensor, starts: Sequence[int], length: int) -> torch.Tensor:
        """See `PointTracker`."""
        weights = torch.tensor([0.299, 0.587, 0.114])
        grey = torch.einsum("tchw,c->thw", video.float().cpu(), weights).round().byte().numpy()
        flows = [self._flow.calc(a, b, None) for a, b in itertools.pairwise(grey)]
        flow = rearrange(torch.from_numpy(np.stack(flows)), "t h w c -> t c h w")
        scale = torch.tensor([2 / video.shape[-1], 2 / video.shape[-2]])
        at = points.float().expand(len(starts), -1, -1)
        tracks = [at]
        begin = torch.as_tensor(list(starts))
        for step in range(length - 1):
            unit = (at * scale - 1)[:, None]
            moved = F.grid_sample(flow[begin + step], unit, padding_mode="border", align_corners=False)
            at = at + rearrange(moved, "s c 1 p -> s p c")
            tracks.append(at)
        return torch.stack(tracks, dim=1)


class FrechetVideoMotionDistance:
    """Gathers two sets of videos and gives their motion distance.

    Args:
        tracker: Follows the points; `OpticalFlowTracker` by default, whose figures are not those of the learned tracker
            of the paper (PIPs++). The name belongs to the figure.
        segment_frames: Frames that points are tracked for.
        stride: Frames from the beginning of one segment to that of the next.
        grid: Points along each side of the image.
        cube: Frames, and points along both sides, that share a histogram.
        bins: Directions of a histogram.

    Raises:
        ValueError: If the cubes do not fill segments and grid.

    Example:
        >>> distance = FrechetVideoMotionDistance(stride=4)
        >>> videos = torch.randint(0, 256, (2, 24, 3, 32, 64), dtype=torch.uint8)
        >>> distance.update(videos, real=True)
        >>> distance.update(videos, real=False)
        >>> distance.compute() < 1e-3
        True
    """

    def __init__(
        self,
        tracker: PointTracker | None = None,
        *,
        segment_frames: int = 16,
        stride: int = 1,
        grid: int = 20,
        cube: tuple[int, int, int] = (4, 5, 5),
        bins: int = 8,
    ) -> None:
        if segment_frames % cube[0] or grid % cube[1] or grid % cube[2] or min(segment_frames, stride, grid, bins) < 1:
            raise ValueError(
                f"cube: expected sizes that divide segment_frames={segment_frames} and grid={grid}, got {cube}; use "
                "such as (4, 5, 5)"
            )
        self.tracker = OpticalFlowTracker() if tracker is None else tracker
        self.segment_frames, self.stride, self.grid, self.cube, self.bins = segment_frames, stride, grid, cube, bins
        self._sets: dict[bool, FrechetStatistics | None] = {True: None, False: None}
        self._size: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """Names the figure: the distance and its tracker."""
        return f"FVMD ({self.tracker.name})"

    def update(self, videos: torch.Tensor, *, real: bool) -> None:
        """Add videos `(b, tv, 3, hv, wv)` uint8 to one of the sets.

        Raises:
            ValueError: If the axes are others, the videos are shorter than a segment, or of another size than before.
        """
        size = (int(videos.shape[-2]), int(videos.shape[-1])) if videos.ndim == 5 else (0, 0)
        if self._size not in (None, size):
            raise ValueError(f"videos: expected frames of {self._size} as before, got {size}; resize one of the sets")
        statistics = FrechetStatistics.of(self.features(videos))
        self._size = size
        before = self._sets[real]
        self._sets[real] = statistics if before is None else before + statistics

    def compute(self) -> float:
        """The distance between both sets.

        Raises:
            ValueError: If a set has fewer than two segments.
        """
        real, made = self._sets[True], self._sets[False]
        if real is None or made is None:
            raise ValueError("update: expected videos in both sets, got none in one; call it with real=True and False")
        return frechet_distance(real, made)

    def merge(self, other: FrechetVideoMotionDistance) -> None:
        """Add what another process has gathered with the same settings."""
        for real, statistics in other._sets.items():
            own = self._sets[real]
            self._sets[real] = statistics if own is None else own if statistics is None else own + statistics

    def features(self, videos: torch.Tensor) -> torch.Tensor:
        """Histograms of velocity and acceleration of each segment of videos `(b, tv, 3, hv, wv)`, `(b s, d)`.

        Raises:
            ValueError: If the axes are others, or the videos are shorter than a segment.
        """
        if videos.ndim != 5 or videos.shape[2] != 3 or videos.shape[1] < self.segment_frames:
            raise ValueError(
                f"videos: expected (b, tv, 3, hv, wv) with tv at least {self.segment_frames}, got "
                f"{tuple(videos.shape)}; give longer videos, or shorter segments"
            )
        height, width = videos.shape[-2:]
        along = (torch.arange(self.grid) + 0.5) / self.grid
        y, x = torch.meshgrid(along * height, along * width, indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], dim=-1)
        starts = range(0, videos.shape[1] - self.segment_frames + 1, self.stride)
        tracks = torch.cat([self.tracker(video, points, starts, self.segment_frames) for video in videos])
        velocity = F.pad(tracks.diff(dim=1), (0, 0, 0, 0, 1, 0))
        acceleration = F.pad(velocity.diff(dim=1), (0, 0, 0, 0, 1, 0))
        return torch.cat([self._histograms(velocity), self._histograms(acceleration)], dim=1)

    def _histograms(self, vectors: torch.Tensor) -> torch.Tensor:
        """Magnitudes by direction in each cube, `(s, d)`, of vectors `(s, f, p, 2)`."""
        length = vectors.norm(dim=-1)
        angle = torch.atan2(vectors[..., 1], vectors[..., 0])
        direction = ((angle / (2 * math.pi) * self.bins).floor().long() % self.bins)[..., None]
        weights = torch.zeros(*length.shape, self.bins).scatter_(-1, direction, length[..., None])
        frames, rows, columns = self.cube
        return reduce(
            weights,
            "s (f df) (h dh w dw) k -> s (f h w k)",
            "sum",
            df=frames,
            dh=rows,
            dw=columns,
            h=self.grid // rows,
            w=self.grid // columns,
        )
