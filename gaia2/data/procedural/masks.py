"""What each pixel of a rendered image shows: its class and its depth, from the same rays as the image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.boxes import BOX, KIND
from gaia2.data.procedural.filters import wrap
from gaia2.data.procedural.ground import FAR, cover, ground_distance, markings, spot
from gaia2.data.procedural.light import View
from gaia2.data.procedural.road import CROSSING_LENGTH, PERIOD
from gaia2.data.procedural.solids import MISS, Hits

__all__ = ["PixelMasks", "pixel_masks"]

_LEVEL = 0.002  # rays less steep than this see the horizon


class PixelMasks(NamedTuple):
    """What pixels show.

    Attributes:
        classes: uint8, index of `CLASSES`.
        depth: float16, metres along the ray; `FAR` where there is nothing.
    """

    classes: Tensor
    depth: Tensor


def pixel_masks(view: View, hits: Hits, boxes: Tensor) -> PixelMasks:
    """Class and depth of what rays hit first.

    Args:
        view: The images, with the rays to look at.
        hits: Of these rays.
        boxes: `(i, len(BOX), k)`.

    Returns:
        `(i, p)` each.
    """
    n, dz = view.number, view.direction[2]
    floor = ground_distance(view)
    x, y = (view.origin[axis] + floor * view.direction[axis] for axis in (0, 1))
    at = spot(view, floor, x, y)
    covered = cover(view, at)
    white, yellow = markings(view, at, covered)
    lanes, bus, open_road = n["forward"] * n["lane"], n["bus"], covered.junction < 0.5
    classes = torch.where(covered.surface > 0.5, KIND["road"], KIND["ground"])
    in_bus = (at.e > lanes) & (at.e < lanes + bus) & open_road
    classes = torch.where(in_bus, KIND["bus_lane"], classes)
    in_cycle = (at.e > lanes + bus) & (at.e < lanes + bus + n["cycle"]) & open_road
    classes = torch.where(in_cycle, KIND["cycle_lane"], classes)
    classes = torch.where(white + yellow > 0.35, KIND["lane_mark"], classes)
    zone = (wrap(at.s - n["crossing"], PERIOD).abs() < CROSSING_LENGTH / 2) & (n["has_crossing"] > 0)
    classes = torch.where(zone & (covered.road > 0.5), KIND["crossing"], classes)
    sky = dz > -_LEVEL
    classes, depth = torch.where(sky, KIND["sky"], classes), torch.where(sky, FAR, floor)

    leaves = torch.where(hits.crown_cover > 0.5, hits.crown_distance, MISS)
    classes, depth = torch.where(leaves < depth, KIND["vegetation"], classes), torch.minimum(depth, leaves)
    kind, alpha = (boxes[:, BOX.index(name)].gather(1, hits.box) for name in ("kind", "alpha"))
    solid = torch.where(alpha > 0.5, hits.box_distance, MISS)
    classes, depth = torch.where(solid < depth, kind, classes), torch.minimum(depth, solid)
    return PixelMasks(classes.to(torch.uint8), depth.clamp(max=FAR).half())
