"""What one image can see: tables of boxes, tree crowns and shadows in the frame of the road below the ego."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.boxes import BOX, column
from gaia2.data.procedural.motion import from_road
from gaia2.data.procedural.road import PERIOD

__all__ = ["Poses", "place_static", "place_agents", "visible"]

_BEHIND = 71.0  # m of roadside kept behind the ego; the rest of a period is ahead of it
_MAX_TURN = 2.2  # rad of the road's circle that is populated
_XYZ = slice(0, 3)
_COS, _SIN = column(BOX, "cos", "sin")
_HX, _HY, _HZ = column(BOX, "hx", "hy", "hz")
_ALPHA = BOX.index("alpha")


class Poses(NamedTuple):
    """Per image `(i,)` float32: the ego in the road frame at its feet, and the road's curvature."""

    s: Tensor  # m along the road, modulo the period
    d: Tensor  # m left of the reference line
    heading: Tensor  # rad left of the road's direction
    curvature: Tensor  # 1/m


def _fade(s: Tensor, curvature: Tensor) -> Tensor:
    """Opacity of what stands `s` metres ahead: things appear and vanish softly at the ends of the window."""
    ends = ((PERIOD - _BEHIND - s) / 22).clamp(0.0, 1.0) * ((s + _BEHIND) / 12).clamp(0.0, 1.0)
    return ends * ((_MAX_TURN - (s * curvature).abs()) * 8).clamp(0.0, 1.0)


def place_static(table: Tensor, alpha_column: int, poses: Poses) -> tuple[Tensor, Tensor]:
    """Moves rows with (s, d) in their first two columns into the road frame of each image.

    Args:
        table: `(i, k, f)`.
        alpha_column: Where the opacity is.
        poses: Of the images.

    Returns:
        The moved table and the direction of the road at each row `(i, k)` (rad).
    """
    k = poses.curvature[:, None]
    s = torch.remainder(table[..., 0] - poses.s[:, None] + _BEHIND, PERIOD) - _BEHIND
    x, y, angle = from_road(s, table[..., 1], k)
    moved = table.clone()
    moved[..., 0], moved[..., 1] = x, y
    moved[..., alpha_column] = table[..., alpha_column] * _fade(s, k)
    return moved, angle


def place_agents(table: Tensor, x: Tensor, y: Tensor, yaw: Tensor) -> Tensor:
    """Moves rows of the box table by a pose (x, y, yaw), each `(i,)`, of their frame."""
    cos, sin = yaw.cos()[:, None], yaw.sin()[:, None]
    moved = table.clone()
    moved[..., 0] = x[:, None] + cos * table[..., 0] - sin * table[..., 1]
    moved[..., 1] = y[:, None] + sin * table[..., 0] + cos * table[..., 1]
    moved[..., _COS] = cos * table[..., _COS] - sin * table[..., _SIN]
    moved[..., _SIN] = sin * table[..., _COS] + cos * table[..., _SIN]
    return moved


def visible(
    table: Tensor,
    alpha_column: int | None,
    radius: Tensor,
    extent: Tensor,
    origin: Tensor,
    forward: Tensor,
    half_angle: Tensor,
    count: int,
) -> Tensor:
    """The rows that look largest among those in the viewing cone; the least of them fade out softly.

    Args:
        table: `(i, k, f)` with x y z first.
        alpha_column: Where the opacity is.
        radius: `(i, k)` of a sphere around each (m).
        extent: `(i, k)` how large each counts (m); 0 for rows that are absent.
        origin: `(i, 3)` camera.
        forward: `(i, 3)` its optical axis.
        half_angle: `(i,)` rad from the axis to the image's corner.
        count: Rows to keep.

    Returns:
        `(i, f, count)`, rows not needed having only zeros.
    """
    offset = table[..., _XYZ] - origin[:, None]
    distance = offset.norm(dim=-1).clamp(min=1e-3)
    cosine = (offset * forward[:, None]).sum(-1) / distance
    angle = torch.acos(cosine.clamp(-1.0, 1.0)) - torch.asin((radius / distance).clamp(max=1.0))
    score = torch.where(angle < half_angle[:, None], extent / distance, 0.0)
    count = min(count, table.shape[1])
    best, index = score.topk(min(count + 1, table.shape[1]), dim=1)
    cut = best[:, count:].sum(1, keepdim=True)  # of the first row that is left out, if any
    best, index = best[:, :count], index[:, :count]
    rows = table.gather(1, index[..., None].expand(-1, -1, table.shape[2])) * (best > 0)[..., None]
    if alpha_column is not None:
        rows[..., alpha_column] *= ((best / cut.clamp(min=1e-9) - 1) * 8).clamp(max=1.0)
    return rows.transpose(1, 2).contiguous()
