"""The ego's way along its street: place, lateral offset and heading for every frame and camera of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gaia2.data.procedural.hashing import uniform
from gaia2.data.procedural.motion import advance, fill_absent, lane_fit, road_curvature, to_road
from gaia2.data.procedural.road import RoadPlan
from gaia2.scene import Scene, ego_poses

__all__ = ["Trajectory", "scene_motion", "drive"]


class Trajectory(NamedTuple):
    """The ego beside the road; float64.

    `frame_*` hold at the mean time of a frame's cameras, the others at each camera's own time.
    """

    curvature: Tensor  # (b,) 1/m of the road
    frame_x: Tensor  # (b, tv) m in the road's start frame
    frame_y: Tensor
    frame_yaw: Tensor  # (b, tv) rad
    x: Tensor  # (b, tv, n)
    y: Tensor
    yaw: Tensor
    s: Tensor  # (b, tv, n) m along the road
    d: Tensor  # (b, tv, n) m left of its reference line
    turn: Tensor  # (b, tv, n) rad, direction of the road there, not wrapped


def scene_motion(scenes: Sequence[Scene], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Timestamps `(b, tv, n)`, speed and curvature `(b, tv)` of scenes that agree in shape."""
    stacked = (np.stack([getattr(s, name) for s in scenes]) for name in ("timestamps", "speed", "curvature"))
    times, speed, curvature = (torch.from_numpy(a.astype(np.float64)).to(device) for a in stacked)
    return times, speed, curvature


def drive(times: Tensor, speed: Tensor, curvature: Tensor, plan: RoadPlan, seeds: Tensor) -> Trajectory:
    """Puts the ego on its lane and integrates its motion.

    Args:
        times: `(b, tv, n)` s.
        speed: `(b, tv)` m/s; absent (NaN) throughout: chosen by the seed.
        curvature: `(b, tv)` 1/m; absent throughout: straight.
        plan: The streets.
        seeds: `(b,)` int64.
    """
    chosen = 3 + 10 * uniform(seeds, "speed")[:, 0].double()
    speed = fill_absent(speed, chosen)
    curvature = fill_absent(curvature, torch.zeros_like(chosen))
    reference = times.mean(-1)
    offset = (plan.side * plan.ego).double()
    road = road_curvature(curvature, offset)
    poses = ego_poses(*(values.cpu().numpy() for values in (reference, speed, curvature)))
    x, y, yaw = torch.from_numpy(poses).to(times.device).unbind(-1)
    sideways, heading = lane_fit(x, y, road / (1 - road * offset).clamp(min=0.5))
    cos, sin = heading.cos()[:, None], heading.sin()[:, None]
    x, y, yaw = x * cos - y * sin, (offset + sideways)[:, None] + x * sin + y * cos, yaw + heading[:, None]

    late = (times - reference[..., None]) * speed[..., None]
    cx, cy, cyaw = advance(x[..., None], y[..., None], yaw[..., None], late, curvature[..., None])
    k = road[:, None, None]
    s, d, c, si = to_road(cx, cy, k)
    turn = torch.atan2(si, c)
    step = turn.diff(dim=1)
    lost = -(2 * torch.pi) * (step / (2 * torch.pi)).round()
    lost = torch.cat([torch.zeros_like(turn[:, :1]), lost.cumsum(1)], dim=1)
    s = s + lost / torch.where(k.abs() < 1e-6, torch.ones_like(k), k) * (lost != 0)
    return Trajectory(road, x, y, yaw, cx, cy, cyaw, s, d, turn + lost)
