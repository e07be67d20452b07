"""Boxes and tree crowns: nearest hit of every ray."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.data.procedural.filters import edge
from gaia2.data.procedural.light import View

__all__ = ["MISS", "nearest_box", "nearest_crown"]

MISS = 1e4
"""Distance of rays that hit nothing."""
_NEAR = 0.05  # m
_INDEX_BITS = 63  # room for 64 solids in the low bits of the distance


def _nearest(distance: Tensor, hit: Tensor) -> tuple[Tensor, Tensor]:
    """Index and distance of the nearest hit over dim 1, in one reduction over distances that carry their index.

    Positive floats are ordered as their bits are; the lowest six bits, 1e-5 of the distance, hold the index.
    """
    index = torch.arange(distance.shape[1], dtype=torch.int32, device=distance.device)[None, :, None]
    key = torch.where(hit, distance, MISS).view(torch.int32)
    key = ((key & ~_INDEX_BITS) | index).amin(dim=1)
    return (key & _INDEX_BITS).long(), (key & ~_INDEX_BITS).view(torch.float32)


def nearest_box(view: View, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Slab test of all rays against all boxes of their image.

    Args:
        view: The images.
        boxes: `(i, len(BOX), k)`, k <= 64; the camera is outside all of them.

    Returns:
        Index of the box that is hit first `(i, p)` int64, and the distance to it `(i, p)`, at least `MISS / 2` for none.
    """
    cx, cy, cz, cos, sin, hx, hy, hz = (v[:, :, None] for v in boxes[:, :8].unbind(1))
    dx, dy, dz = (v[:, None] for v in view.direction)
    ox, oy, oz = (v[:, None] for v in view.origin)
    wx, wy, pz = ox - cx, oy - cy, oz - cz
    px, py = cos * wx + sin * wy, cos * wy - sin * wx
    # a ray parallel to a slab whose plane it lies in gives NaN, which no comparison accepts
    ix = 1 / (cos * dx + sin * dy)
    iy = 1 / (cos * dy - sin * dx)
    iz = 1 / dz
    ax, bx = (-hx - px) * ix, (hx - px) * ix
    ay, by = (-hy - py) * iy, (hy - py) * iy
    az, bz = (-hz - pz) * iz, (hz - pz) * iz
    enter = torch.maximum(torch.maximum(torch.minimum(ax, bx), torch.minimum(ay, by)), torch.minimum(az, bz))
    leave = torch.minimum(torch.minimum(torch.maximum(ax, bx), torch.maximum(ay, by)), torch.maximum(az, bz))
    enter = enter.clamp(min=_NEAR)
    return _nearest(enter, enter <= leave)


def nearest_crown(view: View, crowns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest tree crown of every ray.

    Args:
        view: The images.
        crowns: `(i, len(CROWN), e)`, e <= 64; the camera is outside all of them.

    Returns:
        Index `(i, p)` int64, distance `(i, p)`, at least `MISS / 2` for none, and how much of the pixel the crown
        covers `(i, p)`, which fades over one pixel at its rim.
    """
    cx, cy, cz, radius, height = (v[:, :, None] for v in crowns[:, :5].unbind(1))
    dx, dy, dz = (v[:, None] for v in view.direction)
    ox, oy, oz = (v[:, None] for v in view.origin)
    px, py, pz = (ox - cx) / radius, (oy - cy) / radius, (oz - cz) / height
    ir, ih = 1 / (radius * radius), 1 / (height * height)
    flat = dx * dx + dy * dy
    a = 1 / (flat * ir + (1 - flat) * ih)
    b = (px / radius) * dx + (py / radius) * dy + (pz / height) * dz
    along = -b * a
    off = (px * px + py * py + pz * pz) + b * along  # squared distance of the ray from the centre, 1 at the rim
    cover = edge((1 - off.clamp(min=0.0).sqrt()) * radius, along.clamp(min=0.1) * view.pixel[:, None])
    enter = along - ((1 - off).clamp(min=0.0) * a).sqrt()
    index, distance = _nearest(enter, (cover > 0) & (enter > _NEAR))
    return index, distance, cover.gather(1, index[:, None])[:, 0] * (distance < MISS * 0.5)
