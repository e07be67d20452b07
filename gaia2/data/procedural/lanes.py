"""The lines between the lanes of each street, as polylines on the ground in the ego frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gaia2.data.procedural.motion import from_road
from gaia2.data.procedural.road import metadata_ids, plan_roads
from gaia2.data.procedural.trajectory import drive, scene_motion
from gaia2.scene import METADATA, Scene

__all__ = ["MOST_LINES", "lane_lines"]

MOST_LINES = 1 + max(int(count) for count in METADATA["number_of_lanes"])
"""Lines of the widest street."""


def lane_lines(scenes: Sequence[Scene], seeds: Tensor, *, reach: tuple[float, float], points: int) -> Tensor:
    """The lines that bound the lanes of scenes that agree in frames and cameras.

    Args:
        scenes: B scenes.
        seeds: `(b,)` int64.
        reach: Metres along the road from the ego to the first and the last point.
        points: Points of a line, evenly spaced along the road.

    Returns:
        `(b, tv, k, p, 2)` float64: x (forward) and y (left) in metres; k is `MOST_LINES`, from the far side of the road
        to the ego's; NaN where a street has fewer.
    """
    plan = plan_roads(metadata_ids([scene.metadata for scene in scenes], seeds), seeds)
    way = drive(*scene_motion(scenes, seeds.device), plan, seeds)
    line = torch.arange(MOST_LINES, dtype=torch.float64, device=seeds.device)
    across = (line - plan.backward[:, None]) * plan.lane[:, None]
    across = torch.where(line <= (plan.backward + plan.forward)[:, None], across, torch.nan)
    along = torch.linspace(*reach, points, dtype=torch.float64, device=seeds.device)
    s = way.s.mean(dim=-1)[..., None, None] + along
    d = (plan.side[:, None] * across)[:, None, :, None]
    x, y, _ = from_road(s, d, way.curvature[:, None, None, None])
    dx, dy = x - way.frame_x[..., None, None], y - way.frame_y[..., None, None]
    cos, sin = way.frame_yaw.cos()[..., None, None], way.frame_yaw.sin()[..., None, None]
    ego = torch.stack([cos * dx + sin * dy, cos * dy - sin * dx], dim=-1)
    return torch.where(across.isnan()[:, None, :, None, None], torch.nan, ego)
