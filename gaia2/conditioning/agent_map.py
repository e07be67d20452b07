"""Agents cell by cell: which part of which box lies in each cell of the latent grid. Ours, not of the paper.

Axes: b batch, t latent time, n cameras, m boxes, h w latent grid, y x parts of the grid, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from gaia2.conditioning.cells import shares
from gaia2.conditioning.condition import Condition, Conditioning, Key, needed_grid
from gaia2.nn.embeddings import compute_dtype, full_precision
from gaia2.nn.shapes import check_axes
from gaia2.scene.box_features import CATEGORY, DEPTH, IMAGE_BOX, NUM_BOX_FEATURES, YAW

PARTS = 4
"""Parts of a cell along each axis: 4 pixels where a cell is 16."""


class AgentMapEncoder(nn.Module):
    """Paint the boxes onto the grid and embed what each cell holds.

    Cross-attention, as the paper has it, leaves it to the network to find out which cells a box covers. The map says
    it, finer than a cell: each part of a cell knows how much of it the nearest box covers, what that box is, how far
    and turned which way, and where in the box the part lies. Boxes without a 2D box are left to the cross-attention.

    Args:
        dim: Channels of the embedding.
        num_categories: Number of agent categories.

    Example:
        >>> features = torch.full((1, 3, 5, 2, 13), float("nan"))
        >>> features[..., 12] = -1  # no agents at all
        >>> features[:, :, 0, 0, :4] = torch.tensor([0.0, 0.0, 0.2, 0.5])  # but one 2D box in the first camera
        >>> features[:, :, 0, 0, 12] = 0
        >>> cells = AgentMapEncoder(dim=8)(features, grid=(4, 8))
        >>> cells.shape, cells[0, 0, 0].ne(cells[0, 0, 1]).any(dim=-1).int().tolist()[0]
        (torch.Size([1, 3, 5, 4, 8, 8]), [1, 1, 0, 0, 0, 0, 0, 0])
    """

    def __init__(self, *, dim: int, num_categories: int = 7) -> None:
        super().__init__()
        self.num_categories = num_categories
        self.out = nn.Linear(PARTS**2 * (6 + num_categories), dim)

    def forward(self, agents: torch.Tensor, *, grid: tuple[int, int]) -> torch.Tensor:
        """Embed the cells.

        Args:
            agents: `(b, t, n, m, 13)`, see `AgentEncoder`.
            grid: Rows and columns h, w.

        Returns:
            `(b, t, n, h, w, c)`.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_axes("agents", agents, "b t n m k", k=NUM_BOX_FEATURES, hint="project_boxes makes them from 3D boxes")
        painted = paint_boxes(full_precision(agents), (grid[0] * PARTS, grid[1] * PARTS), self.num_categories)
        cells = rearrange(painted, "b t n (h i) (w j) f -> b t n h w (i j f)", i=PARTS, j=PARTS)
        return self.out(cells.to(compute_dtype(self.out)))


def paint_boxes(agents: torch.Tensor, size: tuple[int, int], num_categories: int) -> torch.Tensor:
    """Paint boxes, the nearest on top.

    Args:
        agents: `(b, t, n, m, 13)`, float32 or float64.
        size: Rows and columns of the picture.
        num_categories: Number of agent categories.

    Returns:
        `(b, t, n, y, x, 6 + categories)`: share of the part that the box covers; then, times that share: inverse of
        1 + depth / 10 m, sin and cos of the yaw, place in the box across and down (-1 to 1), and the category as one
        of many. Zero where there is no box, or that feature is absent.
    """
    if not agents.shape[3]:
        agents = F.pad(agents, (0, 0, 0, 1), value=torch.nan)
    bounds, category = agents[..., IMAGE_BOX], agents[..., CATEGORY]
    there = bounds.isfinite().all(dim=-1) & ~(category < 0)
    x1, y1, x2, y2 = torch.where(there[..., None], bounds, 0.0).unbind(-1)
    rows, columns = size
    down, across = shares(y1, y2, rows), shares(x1, x2, columns)  # (b t n m y), (b t n m x)
    depth = agents[..., DEPTH].nan_to_num(nan=1e3).clamp(min=0.0)
    share = down[..., :, None] * across[..., None, :]
    # the nearest box that covers most of what it can of this part: coverage decides first where it is small
    top = torch.where(share > 0, share.clamp(max=0.5) / (1 + depth[..., None, None]), 0.0)
    index = top.argmax(dim=3)
    covered = share.gather(3, index[:, :, :, None])[:, :, :, 0]
    one_hot = F.one_hot(category.nan_to_num(nan=-1.0).long().clamp(min=0), num_categories).to(agents.dtype)
    one_hot = one_hot * (category >= 0)[..., None]
    facts = torch.cat(
        [
            (1 / (1 + depth / 10))[..., None],
            agents[..., YAW].nan_to_num(nan=0.0),
            torch.stack([x1, y1, x2, y2], dim=-1),
            one_hot,
        ],
        dim=-1,
    )
    of_part = facts.gather(3, index.flatten(3)[..., None].expand(*index.shape[:3], -1, facts.shape[-1]))
    of_part = rearrange(of_part, "b t n (y x) f -> b t n y x f", y=rows)
    left, upper, right, lower = of_part[..., 3:7].unbind(-1)
    u = (torch.arange(columns, device=agents.device, dtype=agents.dtype) + 0.5) / columns
    v = (torch.arange(rows, device=agents.device, dtype=agents.dtype)[:, None] + 0.5) / rows
    place_x = (2 * (u - left) / (right - left).clamp(min=1e-3) - 1).clamp(-1, 1)
    place_y = (2 * (v - upper) / (lower - upper).clamp(min=1e-3) - 1).clamp(-1, 1)
    parts = torch.cat([of_part[..., :3], torch.stack([place_x, place_y], dim=-1), of_part[..., 7:]], dim=-1)
    return torch.cat([covered[..., None], parts * covered[..., None]], dim=-1)


@dataclass(frozen=True)
class AgentMapCondition(Condition):
    """Which agents each cell holds, from the agents' boxes.

    Attributes:
        num_categories: Number of agent categories.
    """

    num_categories: int = 7

    name = "agent_map"
    enters = "position"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """None of its own."""
        return {}

    def make_encoder(self, dim: int) -> AgentMapEncoder:
        """An `AgentMapEncoder`."""
        return AgentMapEncoder(dim=dim, num_categories=self.num_categories)

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> torch.Tensor | None:
        """Nothing where there are no rows of agents."""
        return encoder(given["agents"], grid=needed_grid(grid)) if "agents" in given else None
