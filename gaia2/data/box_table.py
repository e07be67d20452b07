"""`BoxTable`: labelled 3D boxes as datasets have them, one a row, and the `Agents` of any frames made from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gaia2.data.ego import EgoPoses
from gaia2.scene import AGENT_CATEGORIES, Agents

__all__ = ["BoxTable", "category_ids"]

_SAME_TIME = 1e-6


@dataclass(frozen=True, eq=False)
class BoxTable:
    """3D boxes in a world frame that does not move.

    Args:
        times: (k,) seconds at which the boxes hold.
        track: (k,) what tells the objects apart, numbers or strings; None: unknown, then boxes are not interpolated.
        category: (k,) index into `AGENT_CATEGORIES`.
        centre: (k, 3) metres.
        size: (k, 3) length, width, height in metres.
        heading: (k, 3) where the boxes' fronts point, of length 1.

    Raises:
        ValueError: The shapes do not fit.
    """

    times: np.ndarray
    track: np.ndarray | None
    category: np.ndarray
    centre: np.ndarray
    size: np.ndarray
    heading: np.ndarray

    def __post_init__(self) -> None:
        k = len(self.times)
        columns = {"category": (k,), "centre": (k, 3), "size": (k, 3), "heading": (k, 3)}
        for name, shape in columns.items():
            if getattr(self, name).shape != shape:
                raise ValueError(f"boxes: expected {name} {shape}, got {getattr(self, name).shape}")
        if self.track is not None and len(self.track) != k:
            raise ValueError(f"boxes: expected a track for each of {k} boxes, got {len(self.track)}")

    @classmethod
    def from_ego(
        cls,
        poses: EgoPoses,
        times: npt.ArrayLike,
        track: npt.ArrayLike | None,
        category: npt.ArrayLike,
        boxes: npt.ArrayLike,
    ) -> BoxTable:
        """Return the table of boxes (k, 7) in the ego frame at their times: x y z length width height yaw.

        Args:
            poses: Of the ego vehicle.
            times: (k,) seconds.
            track: (k,), or None.
            category: (k,).
            boxes: (k, 7), as in `Agents`.
        """
        stamps, values = np.asarray(times, dtype=np.float64), np.asarray(boxes, dtype=np.float64).reshape(-1, 7)
        position, rotation = poses.at(stamps)
        ahead = np.stack([np.cos(values[:, 6]), np.sin(values[:, 6]), np.zeros(len(values))], axis=1)
        return cls(
            times=stamps,
            track=None if track is None else np.asarray(track),
            category=np.asarray(category, dtype=np.int64),
            centre=position + np.einsum("kij,kj->ki", rotation, values[:, :3]),
            size=values[:, 3:6],
            heading=np.einsum("kij,kj->ki", rotation, ahead),
        )

    def agents(self, poses: EgoPoses, times: npt.ArrayLike) -> Agents:
        """Return the agents at given times, in the ego frame there, the nearest first.

        A tracked box moves linearly from label to label, and half a label period on from its first and last one (a
        whole period at the ends of the drive); where labels of a track are missing for longer than one and a half
        periods, it is absent. Untracked boxes are those of the labels nearest in time.

        Args:
            poses: Of the ego vehicle.
            times: (tv,) seconds, increasing.
        """
        when = np.asarray(times, dtype=np.float64)
        if len(self.times) == 0:
            return Agents.empty(len(when))
        first, second, frame = self._pieces(when)
        share = (when[frame] - self.times[first]) / np.where(first == second, 1, self.times[second] - self.times[first])
        share = np.where(first == second, 0, share)[:, None]
        position, rotation = poses.at(when)
        back = rotation.transpose(0, 2, 1)[frame]
        centre = self.centre[first] + share * (self.centre[second] - self.centre[first]) - position[frame]
        heading = self.heading[first] + share * (self.heading[second] - self.heading[first])
        centre, heading = (np.einsum("kij,kj->ki", back, vector) for vector in (centre, heading))
        nearer = np.where(share[:, 0] < 0.5, first, second)
        boxes = np.concatenate([centre, self.size[nearer], np.arctan2(heading[:, 1], heading[:, 0])[:, None]], axis=1)
        return _padded(len(when), frame, boxes, self.category[nearer], self._ids()[nearer])

    def _ids(self) -> np.ndarray:
        if self.track is None:
            return np.full(len(self.times), -1)
        return np.unique(self.track, return_inverse=True)[1]

    def _pieces(self, when: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows between which a box lies, and the frame where: three `(pieces,)` index arrays."""
        labels = np.unique(self.times)
        period = float(np.median(np.diff(labels))) if len(labels) > 1 else 0.1
        ids = np.arange(len(self.times)) if self.track is None else self._ids()
        order = np.lexsort((self.times, ids))
        kept = np.ones(len(order), dtype=bool)
        kept[1:] = (np.diff(ids[order]) != 0) | (np.diff(self.times[order]) > _SAME_TIME)  # one label a time
        order = order[kept]
        time, track = self.times[order], ids[order]
        joined = (np.diff(track) == 0) & (np.diff(time) <= 1.5 * period + _SAME_TIME)
        opens, closes = np.r_[True, ~joined], np.r_[~joined, True]
        rows = np.arange(len(order))
        after, before = np.where(closes, rows, rows + 1), np.where(opens, rows, rows - 1)
        hold = period / 2
        end = hold + (2 * _SAME_TIME if self.track is not None else 0)  # untracked: where the next label begins
        inner, head, tail = rows[~closes], rows[opens], rows[closes]
        starts = np.r_[time[inner], time[head] - hold, time[tail]] - _SAME_TIME
        stops = np.r_[time[after[inner]], time[head], time[tail] + end] - _SAME_TIME
        first, second = np.r_[inner, head, before[tail]], np.r_[after[inner], after[head], tail]
        inside = when.clip(labels[0], labels[-1])  # what is labelled at an end of the drive is there a period on
        clock = np.where(np.abs(when - inside) <= period + _SAME_TIME, inside, when)
        low, high = np.searchsorted(clock, starts, side="left"), np.searchsorted(clock, stops, side="left")
        counts = high - low
        frame = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - low, counts)
        return order[np.repeat(first, counts)], order[np.repeat(second, counts)], frame


def _padded(tv: int, frame: np.ndarray, boxes: np.ndarray, category: np.ndarray, track: np.ndarray) -> Agents:
    """Agents of rows `(k, 7)` that belong to frames `(k,)`, in each the nearest first."""
    order = np.lexsort((np.hypot(boxes[:, 0], boxes[:, 1]), frame))
    frame, boxes, category, track = frame[order], boxes[order], category[order], track[order]
    counts = np.bincount(frame, minlength=tv)
    row = np.arange(len(frame)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (tv, int(counts.max(initial=0)))
    padded, ids, tracks = np.full((*shape, 7), np.nan), np.full(shape, -1), np.full(shape, -1)
    padded[frame, row], ids[frame, row], tracks[frame, row] = boxes, category, track
    return Agents(padded, ids, tracks)


def category_ids(names: Iterable[str], mapping: Mapping[str, str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return indices into `AGENT_CATEGORIES` (k,) of a dataset's own names, and the names that it does not map.

    Those that are not mapped are "other", unless they are the name of one of our categories.

    Example:
        >>> category_ids(["van", "ufo", "bus"], {"van": "car"})
        (array([0, 6, 2]), ('ufo',))
    """
    given = np.asarray(list(names), dtype=object)
    known, inverse = np.unique(given.astype(str), return_inverse=True)
    ours = [mapping.get(name, name if name in AGENT_CATEGORIES else "other") for name in known]
    unknown = tuple(name for name in known.tolist() if name not in mapping and name not in AGENT_CATEGORIES)
    return np.array([AGENT_CATEGORIES.index(name) for name in ours], dtype=np.int64)[inverse], unknown
