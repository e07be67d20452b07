"""Fréchet Video Motion Distance (Liu et al. 2024): how far the motion of two sets of videos is apart.

Points on a grid are tracked; their velocities and accelerations, in histograms of direction weighted by the logarithm
of the magnitude, are the features of a Fréchet distance. The layout is that of the authors' package `fvmd` 1.0.0 and
of their paper: frames of 256 x 256 pixels, whatever their shape; segments of 16 frames, one from each frame on; 20 x 20
points, 8 pixels from the border; histograms of 8 directions over 4 frames and 5 x 5 points; magnitudes from 0 to 255
pixels a frame in nine steps of their logarithm; 1,024 features, velocities first. Three things differ:

- The tracker, unless PIPs++ is given: the name stands beside each figure.
- Accelerations are the paper's, differences of the velocities that begin with a zero. The package gives the function
  that makes them the places instead of the velocities, so that its second half holds velocities again.
- The Fréchet distance is exact for singular covariances, where the package adds 1e-5 to the diagonals.

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

_BORDER = 8
"""Pixels between the border of a frame and the outermost points."""
_LARGEST = 256
"""Magnitudes are below this."""


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
        stride: Frames from the beginning of one segment to that of the next; 1 in the paper.
        grid: Points along each side of the image.
        cube: Frames, and points along both sides, that share a histogram.
        bins: Directions of a histogram.
        side: Height and width (pixels) that frames are resized to; magnitudes are pixels of these.

    Raises:
        ValueError: If the cubes do not fill segments and grid, or the frames have no room for the grid.

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
        side: int = 256,
    ) -> None:
        if segment_frames % cube[0] or grid % cube[1] or grid % cube[2] or min(segment_frames, stride, grid, bins) < 1:
            raise ValueError(
                f"cube: expected sizes that divide segment_frames={segment_frames} and grid={grid}, got {cube}; use "
                "such as (4, 5, 5)"
            )
        if side <= 2 * _BORDER:
            raise ValueError(f"side: expected more than {2 * _BORDER} pixels, twice the border, got {side}; use 256")
        self.tracker = OpticalFlowTracker() if tracker is None else tracker
        self.side = side
        self.segment_frames, self.stride, self.grid, self.cube, self.bins = segment_frames, stride, grid, cube, bins
        self._sets: dict[bool, FrechetStatistics | None] = {True: None, False: None}
        self._size: tuple[int, int] | None = None
        self._rate: float | None = None

    @property
    def name(self) -> str:
        """Names the figure: the distance and its tracker."""
        return f"FVMD ({self.tracker.name})"

    def update(self, videos: torch.Tensor, *, real: bool, frame_rate: float | None = None) -> None:
        """Add videos `(b, tv, 3, hv, wv)` uint8 to one of the sets.

        Args:
            videos: Of one size and rate throughout.
            real: To which of the sets.
            frame_rate: Frames a second; where it is told, all that is told must agree.

        Raises:
            ValueError: If the axes are others, the videos are shorter than a segment, or of another size or rate than
                before.
        """
        if frame_rate is not None and self._rate not in (None, frame_rate):
            raise ValueError(
                f"videos: expected {self._rate:g} frames a second as before, got {frame_rate:g}; motion is measured "
                "from frame to frame: resample one of the sets"
            )
        size = (int(videos.shape[-2]), int(videos.shape[-1])) if videos.ndim == 5 else (0, 0)
        if self._size not in (None, size):
            raise ValueError(f"videos: expected frames of {self._size} as before, got {size}; resize one of the sets")
        statistics = FrechetStatistics.of(self.features(videos))
        self._size, self._rate = size, self._rate if frame_rate is None else frame_rate
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
        along = torch.linspace(_BORDER, self.side - _BORDER, self.grid)
        y, x = torch.meshgrid(along, along, indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], dim=-1)
        starts = range(0, videos.shape[1] - self.segment_frames + 1, self.stride)
        tracks = torch.cat([self.tracker(self._resized(v), points, starts, self.segment_frames) for v in videos])
        velocity = F.pad(tracks.diff(dim=1), (0, 0, 0, 0, 1, 0))
        acceleration = F.pad(velocity.diff(dim=1), (0, 0, 0, 0, 1, 0))
        return torch.cat([self._histograms(velocity), self._histograms(acceleration)], dim=1)

    def _resized(self, video: torch.Tensor) -> torch.Tensor:
        if video.shape[-2:] == (self.side, self.side):
            return video
        size = (self.side, self.side)
        return F.interpolate(video.float(), size=size, mode="bilinear", antialias=True).round().clamp(0, 255).byte()

    def _histograms(self, vectors: torch.Tensor) -> torch.Tensor:
        """Steps of magnitude by direction in each cube, `(s, d)`, of vectors `(s, f, p, 2)`."""
        vectors = vectors.double()
        step = (1 + vectors.norm(dim=-1).clamp(max=_LARGEST - 1)).log2().ceil() / math.log2(_LARGEST)
        angle = torch.atan2(vectors[..., 0], vectors[..., 1])  # from the y axis on, as the authors have it
        direction = ((angle + math.pi) / (2 * math.pi) * self.bins).floor().long().clamp(0, self.bins - 1)[..., None]
        weights = torch.zeros(*step.shape, self.bins).scatter_(-1, direction, step.float()[..., None])
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
