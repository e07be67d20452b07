"""The table of boxes and tree crowns that rays are tested against: its columns and small builders."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.scene import AGENT_CATEGORIES

__all__ = ["BOX", "CLASSES", "CROWN", "KIND", "box_rows", "column"]

CLASSES = (
    *("sky", "ground", "road", "lane_mark", "crossing", "bus_lane", "cycle_lane"),
    *("building", "vegetation", "pole", "lamp", "sign"),
    *(f"agent:{category}" for category in AGENT_CATEGORIES),
)
"""What a pixel can show; the id of a class is its index."""

KIND = {name: float(index) for index, name in enumerate(CLASSES)}
"""Ids as the table of boxes holds them."""

BOX = (
    *("x", "y", "z", "cos", "sin", "hx", "hy", "hz", "r", "g", "b", "alpha"),
    *("pitch", "rows", "low", "high", "duty", "lit", "wheel", "lamps", "skirt", "seed", "signal", "kind"),
)
"""Columns of a box: centre (m), direction of its x axis, half sizes (m), colour, opacity; then the look of its sides:
window pitch (m) and number of window rows between the heights `low` and `high` (fractions of the box), `duty` the share
of the pitch that is glass (0: no windows) and `lit` the share of windows lit at night; wheel radius (m), vehicle lamps
(0 or 1), `skirt` the fraction at the bottom in a dark tone, a seed in [0, 1), the traffic light state (0: none), and
the id of its class."""

CROWN = ("x", "y", "z", "radius", "height", "r", "g", "b", "alpha", "seed")
"""Columns of a tree crown: an upright ellipsoid (m; `height` is its half height), colour, opacity, seed."""

_DEFAULTS = {"cos": 1.0, "alpha": 1.0, "pitch": 3.0, "rows": 1.0, "high": 1.0, "kind": KIND["building"]}


def column(table: tuple[str, ...], *names: str) -> list[int]:
    """Positions of the named columns."""
    return [table.index(name) for name in names]


def box_rows(shape: tuple[int, ...], like: Tensor, **columns: Tensor | float) -> Tensor:
    """Rows of the box table.

    Args:
        shape: Shape of the rows, such as `(b, 12)`.
        like: A tensor of the device to use.
        **columns: Values, each broadcastable to `shape`; `colour` is `(*shape, 3)`. Columns not given take a default.

    Returns:
        `(*shape, len(BOX))` float32.
    """
    colour = columns.pop("colour", None)
    if colour is not None:
        columns.update(zip("rgb", torch.as_tensor(colour, device=like.device).unbind(-1), strict=True))
    unknown = set(columns) - set(BOX)
    if unknown:
        raise ValueError(f"boxes: expected columns of {BOX}, got {sorted(unknown)}; use those names")
    values = [torch.as_tensor(columns.get(name, _DEFAULTS.get(name, 0.0)), device=like.device) for name in BOX]
    return torch.stack([value.to(torch.float32).expand(shape) for value in values], dim=-1)
