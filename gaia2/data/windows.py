"""Which stretches of clips are trained on: windows apart in time, regions held out for validation (paper §3)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from gaia2.data.geo import inside_polygon
from gaia2.data.index import ClipEntry

__all__ = ["RegionSplit", "Windows", "cut_windows", "split_by_regions"]


@dataclass(frozen=True, eq=False)
class Windows:
    """Stretches of clips, `num_frames` frames each, every `frame_step`-th one of the clip.

    Attributes:
        clips: The clips.
        clip: (k,) index into `clips`.
        start: (k,) first frame.
        num_frames: Frames of a window.
        frame_step: Frames of the clip from one of the window to the next.
    """

    clips: tuple[ClipEntry, ...]
    clip: np.ndarray
    start: np.ndarray
    num_frames: int
    frame_step: int = 1

    def __len__(self) -> int:
        return len(self.clip)

    def frames(self, start: int) -> range:
        """The clip's frames of a window that begins at `start`."""
        return range(start, start + (self.num_frames - 1) * self.frame_step + 1, self.frame_step)

    def intervals(self) -> np.ndarray:
        """First and last moment (k, 2) in seconds of each log's clock."""
        begin = np.array([clip.interval[0] for clip in self.clips])[self.clip]
        step = np.array([clip.duration / max(1, clip.num_frames - 1) for clip in self.clips])[self.clip]
        last = self.start + (self.num_frames - 1) * self.frame_step
        return np.stack([begin + self.start * step, begin + last * step], axis=1)

    def take(self, rows: np.ndarray) -> Windows:
        """Some of the windows."""
        return replace(self, clip=self.clip[rows], start=self.start[rows])


def cut_windows(
    clips: Sequence[ClipEntry], num_frames: int, *, min_stride: float | None = None, frame_step: int = 1
) -> Windows:
    """Cut clips into windows whose beginnings lie at least `min_stride` seconds apart in a log.

    That holds across clips of one log as well, which may overlap. Windows of latents begin at whole latents.

    Args:
        clips: Of an index.
        num_frames: Frames of a window.
        min_stride: Seconds; None: windows of a clip lie end to end.
        frame_step: Take every so manieth frame.

    Raises:
        ValueError: No clip is long enough.

    Example:
        >>> clip = ClipEntry("a", "a.tar", "mp4", 20, ("front",), (8, 8), duration=1.9)
        >>> cut_windows([clip], 8, min_stride=0.5).start.tolist()
        [0, 5, 10]
    """
    span = (num_frames - 1) * frame_step + 1
    if num_frames < 1 or frame_step < 1 or (min_stride is not None and not min_stride >= 0):
        raise ValueError(
            f"windows: expected num_frames and frame_step of at least 1 and a min_stride of at least 0 s, got "
            f"{num_frames}, {frame_step} and {min_stride}"
        )
    by_log: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        by_log[clip.source.dataset, clip.source.log].append(index)
    rows: list[tuple[int, int]] = []
    for indices in by_log.values():
        known = all(clips[index].source.time is not None for index in indices)
        latest = -np.inf
        for index in sorted(indices, key=lambda index: clips[index].interval):
            latest = _cut(clips[index], index, span, min_stride, latest if known else -np.inf, rows)
    if not rows:
        longest = max((clip.num_frames for clip in clips), default=0)
        raise ValueError(
            f"windows: expected clips of at least {span} frames, got {len(clips)} of at most {longest}; build longer "
            "ones"
        )
    pairs = np.array(sorted(rows))
    return Windows(tuple(clips), pairs[:, 0], pairs[:, 1], num_frames, frame_step)


def _cut(
    clip: ClipEntry, index: int, span: int, min_stride: float | None, latest: float, rows: list[tuple[int, int]]
) -> float:
    """Append the windows of a clip; gives the latest beginning so far."""
    unit = clip.frames_per_latent
    if clip.contents == "latents" and span % unit:
        raise ValueError(f"windows: expected a multiple of {unit} frames, those of a latent of {clip.key}, got {span}")
    period = clip.duration / max(1, clip.num_frames - 1)
    begin = clip.interval[0]
    if min_stride is None:
        step, first = -(-span // unit) * unit, 0
    else:
        step = max(unit, _up(min_stride / period, unit) if period else unit)
        first = max(0, _up((latest + min_stride - begin) / period, unit)) if np.isfinite(latest) and period else 0
    starts = range(first, clip.num_frames - span + 1, step)
    rows.extend((index, start) for start in starts)
    return begin + starts[-1] * period if len(starts) else latest


def _up(frames: float, unit: int) -> int:
    """The next whole number of latents at or above, in frames."""
    return int(np.ceil(frames / unit - 1e-6)) * unit


@dataclass(frozen=True, eq=False)
class RegionSplit:
    """Clips by region.

    Attributes:
        train: Those that never touch a region.
        validation: Those that touch one.
        dropped: Those that do not, but overlap in time with one of the same log that does.
    """

    train: tuple[ClipEntry, ...]
    validation: tuple[ClipEntry, ...]
    dropped: tuple[ClipEntry, ...]


def split_by_regions(clips: Sequence[ClipEntry], regions: Sequence[npt.ArrayLike]) -> RegionSplit:
    """Hold out for validation what was recorded in some regions (paper §3, "geographically held-out").

    Args:
        clips: Of an index, each with at least one position.
        regions: Polygons, each (p, 2) latitude and longitude in degrees.

    Raises:
        ValueError: A clip has no position, or a polygon has less than three corners.

    Example:
        >>> from gaia2.data.source import Source
        >>> def clip(key, place):
        ...     source = Source(log=key, positions=[place])
        ...     return ClipEntry(key, "a.tar", "mp4", 8, ("front",), (8, 8), 0.7, source=source)
        >>> clips = [clip("a", (48.1, 11.5)), clip("b", (51.5, -0.1))]
        >>> split = split_by_regions(clips, [[(48, 11), (48, 12), (49, 11.5)]])
        >>> [entry.key for entry in split.validation], [entry.key for entry in split.train]
        (['a'], ['b'])
    """
    without = next((clip for clip in clips if not clip.source.positions), None)
    if without is not None:
        raise ValueError(
            f"clip {without.key}: expected the latitude and longitude of every clip, got none; leave such clips out, "
            "or build them with places"
        )
    counts = [len(clip.source.positions) for clip in clips]
    places = np.array([place for clip in clips for place in clip.source.positions]).reshape(-1, 2)
    inside = np.zeros(len(places), dtype=bool)
    for region in regions:
        inside |= inside_polygon(places, np.asarray(region))
    edges = np.cumsum([0, *counts])
    held = np.array([inside[begin:end].any() for begin, end in pairwise(edges)], dtype=bool)
    busy: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    for clip, out in zip(clips, held, strict=True):
        if out:
            busy[clip.source.dataset, clip.source.log].append(clip.interval)
    train: list[ClipEntry] = []
    dropped: list[ClipEntry] = []
    for clip, out in zip(clips, held, strict=True):
        if not out:
            begin, end = clip.interval
            taken = busy.get((clip.source.dataset, clip.source.log), ())
            overlaps = any(begin <= last and first <= end for first, last in taken)
            (dropped if overlaps else train).append(clip)
    validation = [clip for clip, out in zip(clips, held, strict=True) if out]
    return RegionSplit(tuple(train), tuple(validation), tuple(dropped))
