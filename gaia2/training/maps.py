"""From what each pixel shows to what each cell of the latent grid holds: weights of the loss, and maps to align with.

Axes: i clips, tm frames with masks, t latent time, n cameras, hv wv pixels, h w latent grid, k maps.
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch.nn import functional

from gaia2.data.procedural.boxes import CLASSES
from gaia2.data.rendered import Masks

QUARTERS = 2
"""Parts of a cell along each axis that maps tell apart."""

IMPORTANCE = {
    "agent": 3.0,
    "lamp": 20.0,
    "sign": 8.0,
    "crossing": 4.0,
    "lane_mark": 4.0,
    "bus_lane": 2.0,
    "cycle_lane": 2.0,
}
"""How quickly a class makes a cell count more: the factor of its share of the cell's pixels."""

MOST_IMPORTANT = 4.0
"""Factor from which on a class makes a pixel as important as can be."""
MARGIN = 2
"""Pixels around a class that are as important as it: it moves, and its edge is to be seen."""


def num_cell_maps() -> int:
    """Maps of a cell."""
    return (len(CLASSES) + 1) * QUARTERS**2


def cell_maps(masks: Masks, *, cell: int, masks_per_latent: int = 2) -> torch.Tensor:
    """Shares of classes in the quarters of each cell, and their inverse depth.

    Args:
        masks: Of i clips.
        cell: Pixels of a cell along each axis.
        masks_per_latent: Frames with masks of one latent.

    Returns:
        `(i, t, n, h, w, k)`, each from 0 to 1.
    """
    shares = _shares(masks.classes, cell // QUARTERS, masks_per_latent)
    near = 1 / (1 + masks.depth.float() / 10)
    near = reduce(
        near, "i (t f) n (y p) (x q) -> i t n y x 1", "mean", f=masks_per_latent, p=cell // QUARTERS, q=cell // QUARTERS
    )
    parts = torch.cat([shares, near], dim=-1)
    return rearrange(parts, "i t n (h a) (w b) k -> i t n h w (a b k)", a=QUARTERS, b=QUARTERS)


def cell_weights(masks: Masks, *, cell: int, strength: float = 3.0, masks_per_latent: int = 2) -> torch.Tensor:
    """How much the tokens count: 1, and up to 1 + `strength` where agents, lights, crossings and lane marks are.

    Args:
        masks: Of i clips.
        cell: Pixels of a cell along each axis.
        strength: What a cell full of them counts more.
        masks_per_latent: Frames with masks of one latent.

    Returns:
        `(i, t, n, h, w)`.
    """
    shares = _shares(masks.classes, cell, masks_per_latent)
    factors = torch.tensor([IMPORTANCE.get(name.split(":")[0], 0.0) for name in CLASSES])
    return 1 + strength * (shares @ factors).clamp(max=1.0)


def pixel_importance(classes: torch.Tensor) -> torch.Tensor:
    """How important pixels are that show agents, lights, signs, crossings and lane marks, or lie beside them.

    Args:
        classes: `(..., hv, wv)` uint8, index of `CLASSES`.

    Returns:
        `(..., hv, wv)`, from 0 to 1, which lamps, signs and the marks of the road have.
    """
    factors = torch.tensor([min(IMPORTANCE.get(name.split(":")[0], 0.0), MOST_IMPORTANT) for name in CLASSES])
    flat = (factors / MOST_IMPORTANT)[classes.long()].flatten(0, -3)
    near = functional.max_pool2d(flat, 2 * MARGIN + 1, stride=1, padding=MARGIN)
    return near.reshape(classes.shape)


def _shares(classes: torch.Tensor, size: int, masks_per_latent: int) -> torch.Tensor:
    """Shares of the classes in squares of `size` pixels, `(i, t, n, y, x, k)`."""
    one_hot = functional.one_hot(classes.long(), len(CLASSES)).to(torch.uint8)
    return reduce(one_hot.float(), "i (t f) n (y p) (x q) k -> i t n y x k", "mean", f=masks_per_latent, p=size, q=size)
