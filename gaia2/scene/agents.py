"""`Agents`: the other road users as 3D boxes, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2._checks import whole_number
from gaia2.scene.validation import (
    FrozenRecord,
    as_floats,
    as_integers,
    check_keys,
    check_shape,
    check_within,
    first_index,
    to_json_value,
)

__all__ = ["AGENT_CATEGORIES", "BOX_FIELDS", "Agents"]

AGENT_CATEGORIES = ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian", "other")
"""What an agent can be. id = index, absent = -1."""

BOX_FIELDS = ("x", "y", "z", "length", "width", "height", "yaw")
"""The last axis of `Agents.boxes`."""


_LIMITS = (
    (slice(0, 3), 1e5, "a centre in metres of the ego frame", "boxes in world coordinates are to be moved to it"),
    (slice(3, 6), 1e3, "a size in metres", "divide centimetres by 100"),
    (slice(6, 7), 1e4, "a yaw in radians", "wrap it to one turn"),
)
"""Fields of a box, and the magnitudes beyond which they are taken for a mistake."""


@dataclass(frozen=True, eq=False)
class Agents(FrozenRecord):
    """3D boxes of the other road users. Frozen, its arrays read-only.

    Args:
        boxes: (tv, m, 7), x y z of the box centre (metres), length width height (metres) and yaw (radians, 0 ahead,
            counter-clockwise positive), in the ego frame (x forward, y left, z up) at that frame. NaN: that feature is
            absent.
        category: (tv, m) int, index into `AGENT_CATEGORIES`; -1: there is no agent in that row, and its box and
            track id are set to NaN and -1.
        track_id: (tv, m) int, the same for the same agent in every frame; -1, the default: unknown.

    Raises:
        ValueError: A shape does not fit, a value is infinite or beyond what can be meant, a size is not positive, a
            category is out of range, or a track id occurs twice in a frame.

    Example:
        >>> agents = Agents(boxes=[[[12.0, -3.5, 0.8, 4.5, 1.9, 1.6, 0.0]]] * 8, category=[[0]] * 8)
        >>> agents.num_frames, agents.window(2, 5).boxes.shape
        (8, (3, 1, 7))
    """

    boxes: np.ndarray
    category: np.ndarray
    track_id: np.ndarray

    def __init__(self, boxes: npt.ArrayLike, category: npt.ArrayLike, track_id: npt.ArrayLike | None = None) -> None:
        checked = as_floats("boxes", boxes, allow_nan=True)
        check_shape("boxes", checked, ("tv", "m", "7"), (None, None, 7))
        tv, m = checked.shape[:2]
        categories = as_integers("category", category)
        check_shape("category", categories, ("tv", "m"), (tv, m))
        outside = (categories < -1) | (categories >= len(AGENT_CATEGORIES))
        if outside.any():
            frame, row = first_index(outside)
            names = ", ".join(f"{i} {name}" for i, name in enumerate(AGENT_CATEGORIES))
            raise ValueError(
                f"category: expected -1 (absent) or one of {names}, got {categories[frame, row]} at frame {frame}, "
                f"row {row}; use {AGENT_CATEGORIES.index('other')} for anything else"
            )
        if track_id is None:
            tracks = np.full((tv, m), -1, dtype=np.int64)
        else:
            tracks = as_integers("track_id", track_id)
            check_shape("track_id", tracks, ("tv", "m"), (tv, m))
        absent = categories == -1
        checked[absent] = np.nan
        tracks[absent] = -1
        _check_tracks(tracks)
        for fields, limit, unit, hint in _LIMITS:
            check_within("boxes", checked[..., fields], limit, unit, hint)
        flat = checked[..., 3:6] <= 0
        if flat.any():
            frame, row, field = first_index(flat)
            raise ValueError(
                f"boxes: expected a positive {BOX_FIELDS[3 + field]} in metres, got {checked[frame, row, 3 + field]:g} "
                f"at frame {frame}, row {row}; use NaN for an unknown size or category -1 for no agent"
            )
        self._set(boxes=checked, category=categories, track_id=tracks)

    def __repr__(self) -> str:
        return f"Agents({self.num_frames} frames, up to {self.most_at_once} agents)"

    @classmethod
    def empty(cls, num_frames: int) -> Agents:
        """Return `num_frames` frames without agents.

        Example:
            >>> Agents.empty(24).boxes.shape
            (24, 0, 7)
        """
        whole_number("num_frames", num_frames, 0, 1_000_000)
        return cls(np.zeros((num_frames, 0, 7)), np.zeros((num_frames, 0), dtype=np.int64))

    @property
    def num_frames(self) -> int:
        """Number of frames tv."""
        return self.boxes.shape[0]

    @property
    def max_agents(self) -> int:
        """Number of rows m of each frame, absent ones included."""
        return self.boxes.shape[1]

    @property
    def most_at_once(self) -> int:
        """Number of agents of the frame that has most of them."""
        return int((self.category >= 0).sum(axis=1).max(initial=0))

    def take(self, frames: npt.ArrayLike) -> Agents:
        """Return the agents of the given frames, in that order.

        Args:
            frames: (k,) int, frame indices; one may occur more than once.

        Raises:
            ValueError: An index is not a frame.

        Example:
            >>> Agents.empty(8).take([0, 0, 3]).num_frames
            3
        """
        index = as_integers("frames", frames)
        check_shape("frames", index, ("k",), (None,))
        if ((index < 0) | (index >= self.num_frames)).any():
            raise ValueError(f"frames: expected indices from 0 to {self.num_frames - 1}, got {index.tolist()}")
        return Agents(self.boxes[index], self.category[index], self.track_id[index])

    def window(self, start: int, stop: int) -> Agents:
        """Return frames `start` to `stop`, the last one left out.

        Raises:
            ValueError: Not 0 <= start < stop <= num_frames.

        Example:
            >>> Agents.empty(24).window(8, 16).num_frames
            8
        """
        for name, value in (("start", start), ("stop", stop)):
            whole_number(name, value, None, hint="a window is a first frame, and the one after its last")
        if not 0 <= start < stop <= self.num_frames:
            raise ValueError(
                f"window: expected 0 <= start < stop <= {self.num_frames} (the number of frames), got start={start}, "
                f"stop={stop}"
            )
        return self.take(np.arange(start, stop))

    def to_dict(self) -> dict[str, Any]:
        """Return the agents as JSON values, None for NaN. `from_dict` gives them back exactly."""
        return {
            "boxes": to_json_value(self.boxes),
            "category": to_json_value(self.category),
            "track_id": to_json_value(self.track_id),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Agents:
        """Return the agents that `to_dict` wrote; `track_id` may be left out.

        Raises:
            ValueError: A key is missing or unknown, or a value is not valid.

        Example:
            >>> Agents.from_dict(Agents.empty(3).to_dict()) == Agents.empty(3)
            True
        """
        values = check_keys("agents", data, ("boxes", "category"), ("track_id",))
        boxes = as_floats("boxes", values["boxes"], allow_nan=True)
        if boxes.size == 0 and boxes.ndim == 2:  # JSON lists have lost the last axis of (tv, 0, 7)
            boxes = boxes.reshape(boxes.shape[0], 0, 7)
        return cls(boxes, values["category"], values.get("track_id"))


def _check_tracks(tracks: np.ndarray) -> None:
    """Check that ids `(tv, m)` are -1 or more, and that no two agents of a frame share one."""
    if (tracks < -1).any():
        frame, row = first_index(tracks < -1)
        raise ValueError(
            f"track_id: expected 0 or more, or -1 where unknown, got {tracks[frame, row]} at frame {frame}, row {row}"
        )
    ordered = np.sort(tracks, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        frame, place = first_index(twice)
        rows = np.flatnonzero(tracks[frame] == ordered[frame, place]).tolist()
        raise ValueError(
            f"track_id: expected each id once in a frame, got {ordered[frame, place]} in the rows {rows} of frame "
            f"{frame}; number the agents apart, or give -1 where unknown"
        )
