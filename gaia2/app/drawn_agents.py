"""Agents as they are drawn: where each begins, and how it moves on; to boxes in the ego frame of every frame and back.

Places are metres and radians in the ego frame of the first frame (x forward, y left), which is the world here.

Axes: tv frames, m agents.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gaia2._checks import one_of, real_number, refuse
from gaia2.scene import AGENT_CATEGORIES, Agents, ego_poses
from gaia2.scene.scene_fields import MAX_CURVATURE, MAX_FRAMES, MAX_SPEED
from gaia2.scene.validation import check_keys

SIZES: dict[str, tuple[float, float, float]] = {
    "car": (4.5, 1.9, 1.6),
    "truck": (8.0, 2.5, 3.2),
    "bus": (11.0, 2.6, 3.2),
    "motorcycle": (2.1, 0.8, 1.5),
    "bicycle": (1.8, 0.6, 1.6),
    "pedestrian": (0.6, 0.6, 1.75),
    "other": (2.0, 1.5, 1.5),
}
"""Length, width and height in metres that an agent is drawn with where nothing else is said."""

_FARTHEST = 1e4
_SAME = 1e-3  # metres and radians by which a track may differ from an even motion and still be told as one


@dataclass(frozen=True)
class DrawnAgent:
    """One agent of the drawing.

    Attributes:
        category: One of `AGENT_CATEGORIES`.
        x: Metres ahead of the ego vehicle at the first frame, or at the first frame that has the agent.
        y: Metres to the left.
        yaw: Radians, 0 ahead, counter-clockwise positive.
        speed: M/s along its yaw, negative backwards; not used where there is a track.
        curvature: 1/m of its path, positive to the left; not used where there is a track.
        size: Length, width and height in metres, NaN where unknown; None is that of its category.
        z: Metres of its centre above the road; None is half of its height.
        track: Its poses x, y and yaw relative to the first one, spread evenly over the video, None where it is not
            there; None is an even motion.

    Raises:
        ValueError: If a value cannot be meant.

    Example:
        >>> DrawnAgent("car", x=20.0, y=-3.5).box
        (4.5, 1.9, 1.6, 0.8)
    """

    category: str
    x: float
    y: float
    yaw: float = 0.0
    speed: float = 0.0
    curvature: float = 0.0
    size: tuple[float, float, float] | None = None
    z: float | None = None
    track: tuple[tuple[float, float, float] | None, ...] | None = None

    def __post_init__(self) -> None:
        one_of("category", self.category, AGENT_CATEGORIES)
        for name in ("x", "y"):
            real_number(name, getattr(self, name), -_FARTHEST, _FARTHEST, what="metres")
        real_number("yaw", self.yaw, -_FARTHEST, _FARTHEST, what="radians")
        real_number("speed", self.speed, -MAX_SPEED, MAX_SPEED, what="m/s")
        real_number("curvature", self.curvature, -MAX_CURVATURE, MAX_CURVATURE, what="1/m")

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Length, width, height, and the height of the centre above the road, in metres."""
        length, width, height = SIZES[self.category] if self.size is None else self.size
        return length, width, height, height / 2 if self.z is None else self.z

    def poses(self, times: np.ndarray) -> np.ndarray:
        """Where it is: `(tv, 3)` x, y and yaw in the ego frame of the first frame, NaN where it is not there.

        Args:
            times: `(tv,)` seconds, rising.
        """
        start = np.array([self.x, self.y, self.yaw])
        if self.track is None:
            even = np.ones(len(times))
            return placed(start, ego_poses(times - times[0], self.speed * even, self.curvature * even))
        rows = np.array([(math.nan,) * 3 if pose is None else pose for pose in self.track])
        nearest = np.rint(np.linspace(0, len(rows) - 1, len(times))).astype(int)
        return placed(start, rows[nearest])

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without what is left to the default; `from_dict` gives it back."""
        values = {"category": self.category, "x": self.x, "y": self.y, "yaw": self.yaw}
        if self.track is None:
            values |= {"speed": self.speed, "curvature": self.curvature}
        else:
            values["track"] = [None if pose is None else list(pose) for pose in self.track]
        if self.size is not None:
            values["size"] = [None if math.isnan(side) else side for side in self.size]
        if self.z is not None:
            values["z"] = None if math.isnan(self.z) else self.z
        return values

    @classmethod
    def from_dict(cls, data: Any) -> DrawnAgent:
        """The agent of JSON values; all but `category`, `x` and `y` may be left out.

        Raises:
            ValueError: If a key is unknown or missing, or a value cannot be meant.

        Example:
            >>> DrawnAgent.from_dict({"category": "bus", "x": 30, "y": 4}).x
            30
        """
        optional = ("yaw", "speed", "curvature", "size", "z", "track")
        values = check_keys("agent", data, ("category", "x", "y"), optional)
        if "z" in values:
            values["z"] = _number("z", values["z"], -_FARTHEST, _FARTHEST)
        if values.get("size") is not None:
            values["size"] = _row("size", values["size"], 0.01, 100.0)
        if values.get("track") is not None:
            values["track"] = _track(values["track"])
        return cls(**values)


def _number(name: str, value: Any, low: float, high: float) -> float:
    return math.nan if value is None else real_number(name, value, low, high)


def _row(name: str, value: Any, low: float, high: float) -> tuple[float, float, float]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise refuse(name, "three numbers", value)
    first, second, third = (_number(name, number, low, high) for number in value)
    return first, second, third


def _track(rows: Any) -> tuple[tuple[float, float, float] | None, ...]:
    if not isinstance(rows, list | tuple) or not 0 < len(rows) <= MAX_FRAMES:
        raise refuse("track", "poses x, y and yaw in a list", rows)
    poses = tuple(None if row is None else _row("track", row, -_FARTHEST, _FARTHEST) for row in rows)
    if any(pose is not None and any(map(math.isnan, pose)) for pose in poses):
        raise refuse("track", "poses of three numbers, or null where it is not there", rows)
    return poses


def placed(start: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Poses `(..., 3)` x, y, yaw that are told from `start`, in the frame in which `start` is told.

    Example:
        >>> placed(np.array([10.0, 0.0, np.pi / 2]), np.array([[2.0, 0.0, 0.0]])).round(6).tolist()
        [[10.0, 2.0, 1.570796]]
    """
    x, y, yaw = np.moveaxis(np.asarray(poses, dtype=np.float64), -1, 0)
    x0, y0, yaw0 = np.moveaxis(np.asarray(start, dtype=np.float64), -1, 0)
    cos, sin = np.cos(yaw0), np.sin(yaw0)
    return np.stack([x0 + cos * x - sin * y, y0 + sin * x + cos * y, yaw + yaw0], axis=-1)


def seen_from(start: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Poses `(..., 3)` as they are told from `start`: `placed` backwards.

    Example:
        >>> seen_from(np.array([10.0, 0.0, np.pi / 2]), np.array([[10.0, 2.0, np.pi / 2]])).round(6).tolist()
        [[2.0, 0.0, 0.0]]
    """
    x, y, yaw = np.moveaxis(np.asarray(poses, dtype=np.float64), -1, 0)
    x0, y0, yaw0 = np.moveaxis(np.asarray(start, dtype=np.float64), -1, 0)
    cos, sin = np.cos(yaw0), np.sin(yaw0)
    return np.stack([cos * (x - x0) + sin * (y - y0), cos * (y - y0) - sin * (x - x0), yaw - yaw0], axis=-1)


def to_agents(drawn: Sequence[DrawnAgent], times: np.ndarray, ego: np.ndarray) -> Agents:
    """The boxes of drawn agents as the ego vehicle has them around it; the track id of an agent is its place.

    Args:
        drawn: The agents.
        times: `(tv,)` seconds.
        ego: `(tv, 3)` x, y and yaw of the ego vehicle.

    Example:
        >>> ahead = DrawnAgent("car", x=20.0, y=0.0, speed=10.0)
        >>> still = np.zeros((3, 3))
        >>> to_agents([ahead], np.array([0.0, 0.1, 0.2]), still).boxes[:, 0, 0].tolist()
        [20.0, 21.0, 22.0]
    """
    if not drawn:
        return Agents.empty(len(times))
    poses = np.stack([seen_from(ego, agent.poses(times)) for agent in drawn], axis=1)
    boxes = np.empty((*poses.shape[:2], 7))
    boxes[..., [0, 1, 6]] = poses
    boxes[..., [3, 4, 5, 2]] = [agent.box for agent in drawn]
    there = np.isfinite(poses[..., 0])
    category = np.where(there, [AGENT_CATEGORIES.index(agent.category) for agent in drawn], -1)
    return Agents(boxes, category, np.where(there, np.arange(len(drawn)), -1))


def from_agents(agents: Agents, times: np.ndarray, ego: np.ndarray) -> list[DrawnAgent]:
    """The agents of a scene as they would be drawn: an even motion where it is one, a track otherwise.

    An agent keeps the size, height and category of its first frame; one whose place is absent is left out, an absent
    yaw is 0.

    Args:
        agents: In the ego frames of `ego`; rows of one track id are one agent, rows without one are their own.
        times: `(tv,)` seconds.
        ego: `(tv, 3)` x, y and yaw of the ego vehicle.
    """
    rows = agents.category >= 0
    columns = np.broadcast_to(np.arange(agents.max_agents), rows.shape)
    keys = np.where(agents.track_id >= 0, agents.track_id, -1 - columns)  # those without an id are told by their row
    drawn = []
    for key in dict.fromkeys(keys[rows].tolist()):
        frames, places = np.nonzero(rows & (keys == key))
        poses = np.full((len(times), 3), math.nan)
        boxes = agents.boxes[frames, places]
        poses[frames] = placed(ego[frames], np.nan_to_num(boxes[:, [0, 1, 6]], nan=0.0))
        poses[frames] = np.where(np.isnan(boxes[:, :2]).any(axis=1, keepdims=True), math.nan, poses[frames])
        if not np.isfinite(poses).any():
            continue
        category = AGENT_CATEGORIES[agents.category[frames[0], places[0]]]
        drawn.append(_drawn(category, boxes[0], poses, times))
    return drawn


def _drawn(category: str, box: np.ndarray, poses: np.ndarray, times: np.ndarray) -> DrawnAgent:
    """The agent of one category and box that takes poses `(tv, 3)`, NaN where it is not there."""
    known = np.flatnonzero(np.isfinite(poses).all(axis=1))
    x, y, yaw = poses[known[0]].tolist()
    z, length, width, height = box[2:6].tolist()
    size: tuple[float, float, float] | None = (length, width, height)
    whole = None if size == SIZES[category] else size
    high = None if z == height / 2 else z
    even = _even_motion(poses, times)
    if even is not None:
        return DrawnAgent(category, x, y, yaw, *even, size=whole, z=high)
    local = seen_from(poses[known[0]], poses)
    there = set(known.tolist())
    track = tuple((*pose,) if frame in there else None for frame, pose in enumerate(local.tolist()))
    return DrawnAgent(category, x, y, yaw, size=whole, z=high, track=track)  # type: ignore[arg-type]


def _even_motion(poses: np.ndarray, times: np.ndarray) -> tuple[float, float] | None:
    """Speed and curvature of poses `(tv, 3)` on one arc at one speed; None if they are not."""
    if not np.isfinite(poses).all():
        return None
    if len(poses) == 1:
        return 0.0, 0.0
    dx, dy, turn = seen_from(poses[0], poses[1]).tolist()
    turn = math.remainder(turn, 2 * math.pi)
    forward = dx * math.cos(turn / 2) + dy * math.sin(turn / 2)  # the chord of an arc points half a turn aside
    length = forward / float(np.sinc(turn / (2 * math.pi)))
    moves = abs(length) > 1e-9
    speed = length / float(times[1] - times[0]) if moves else 0.0
    curvature = turn / length if moves else 0.0
    if abs(speed) > MAX_SPEED or abs(curvature) > MAX_CURVATURE:
        return None
    even = np.ones(len(times))
    expected = placed(poses[0], ego_poses(times - times[0], speed * even, curvature * even))
    off = expected - poses
    off[:, 2] = np.remainder(off[:, 2] + np.pi, 2 * np.pi) - np.pi
    return (speed, curvature) if np.abs(off).max() < _SAME else None
