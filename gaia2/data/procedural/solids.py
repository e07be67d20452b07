"""Boxes and tree crowns: nearest hit of every ray."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.filters import edge

__all__ = ["MISS", "Hits", "trace", "nearest_box", "nearest_crown"]

MISS = 1e4
"""Distance of rays that hit nothing."""
_NEAR = 0.05  # m
_INDEX_BITS = 0x3F  # room for 64 solids in the low bits of the distance
_DISTANCE_BITS = 0x7FFFFFC0  # without the sign, which NaN may carry


class Hits(NamedTuple):
    """What each ray hits first among the boxes and among the tree crowns of its image; all `(i, p)`."""

    box: Tensor  # index, int64
    box_distance: Tensor  # m, at least MISS / 2 for none
    crown: Tensor
    crown_distance: Tensor
    crown_cover: Tensor  # share of the pixel


def trace(direction: Tensor, origin: Tensor, pixel: Tensor, boxes: Tensor, crowns: Tensor) -> Hits:
    """Tests all rays against all solids of their image; arguments as for `nearest_box` and `nearest_crown`."""
    return Hits(*nearest_box(direction, origin, boxes), *nearest_crown(direction, origin, pixel, crowns))


def _nearest(distance: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """Index and distance of the nearest hit over dim 1, in one reduction over distances that carry their index.

    Positive floats are ordered as their bits are; the lowest six bits, 1e-5 of the distance, hold the index. Misses,
    where `gap` is positive, are moved away instead of selected: branch-free arithmetic is far faster on a CPU.
    """
    index = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)[None, :, None]
    key = ((gap * 1e9).clamp_(0.0, MISS) + distance).view(torch.int32)
    key = (key & _DISTANCE_BITS).bitwise_or_(index).amin(dim=1)
    nearest = (key & _DISTANCE_BITS).view(torch.float32)
    return (key & _INDEX_BITS).long(), nearest.nan_to_num(nan=MISS).clamp(max=2 * MISS)


def nearest_box(direction: Tensor, origin: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Slab test of all rays against all boxes of their image.

    Args:
        direction: `(i, 3, p)` unit vectors.
        origin: `(i, 3)` camera (m).
        boxes: `(i, len(BOX), k)`, k <= 64; the camera is outside all of them.

    Returns:
        Index `(i, p)` int64 of the box that is hit first and the distance `(i, p)` to it, at least `MISS / 2` for none.
    """
    cx, cy, cz, cos, sin, hx, hy, hz = (v[:, :, None] for v in boxes[:, :8].unbind(1))
    dx, dy, dz = (v[:, None] for v in direction.unbind(1))
    ox, oy, oz = origin[:, :, None, None].unbind(1)
    wx, wy, pz = ox - cx, oy - cy, oz - cz
    px, py = cos * wx + sin * wy, cos * wy - sin * wx
    # a ray that lies in the plane of a face gives NaN, whose bits are larger than those of any distance
    inverse = (cos * dx).add_(sin * dy).reciprocal_()
    one, other = inverse * (hx - px), inverse.mul_(-hx - px)
    enter, leave = torch.minimum(one, other), torch.maximum(one, other)
    inverse = (cos * dy).sub_(sin * dx).reciprocal_()
    one, other = inverse * (hy - py), inverse.mul_(-hy - py)
    enter, leave = torch.maximum(enter, torch.minimum(one, other)), torch.minimum(leave, torch.maximum(one, other))
    inverse = 1 / dz
    one, other = inverse * (hz - pz), inverse * (-hz - pz)
    enter, leave = torch.maximum(enter, torch.minimum(one, other)), torch.minimum(leave, torch.maximum(one, other))
    enter = enter.clamp_(min=_NEAR)
    return _nearest(enter, enter - leave)


def nearest_crown(direction: Tensor, origin: Tensor, pixel: Tensor, crowns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest tree crown of every ray.

    Args:
        direction: `(i, 3, p)` unit vectors.
        origin: `(i, 3)` camera (m).
        pixel: `(i,)` angle that a pixel sees (rad).
        crowns: `(i, len(CROWN), e)`, e <= 64; the camera is outside all of them.

    Returns:
        Index `(i, p)` int64, distance `(i, p)`, at least `MISS / 2` for none, and how much of the pixel the crown
        covers `(i, p)`, which fades over one pixel at its rim.
    """
    cx, cy, cz, radius, height = (v[:, :, None] for v in crowns[:, :5].unbind(1))
    dx, dy, dz = (v[:, None] for v in direction.unbind(1))
    ox, oy, oz = origin[:, :, None, None].unbind(1)
    px, py, pz = (ox - cx) / radius, (oy - cy) / radius, (oz - cz) / height
    ir, ih = 1 / (radius * radius), 1 / (height * height)
    flat = dx * dx + dy * dy
    a = 1 / (flat * ir + (1 - flat) * ih)
    b = (px / radius) * dx + (py / radius) * dy + (pz / height) * dz
    along = -b * a
    off = (px * px + py * py + pz * pz) + b * along  # squared distance of the ray from the centre, 1 at the rim
    cover = edge((1 - off.clamp(min=0.0).sqrt()) * radius, along.clamp(min=0.1) * pixel[:, None, None])
    enter = along - ((1 - off).clamp(min=0.0) * a).sqrt()
    miss = torch.maximum(off - (1 + 0.5 * pixel[:, None, None] * along.abs() / radius).square(), _NEAR - enter)
    index, distance = _nearest(enter.clamp(min=_NEAR), miss)
    # the largest cover, so that the soft rim of one crown does not cut through another behind it
    return index, distance, cover.amax(dim=1) * (distance < MISS * 0.5)
