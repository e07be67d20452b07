"""Dynamic agents: the boxes that each camera sees, as condition tokens (paper §2.2.3, Dynamic Agents)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from gaia2.conditioning.action import symlog
from gaia2.conditioning.projection import NUM_FEATURES, project_boxes
from gaia2.nn.embeddings import full_precision, learned_null
from gaia2.nn.shapes import check_axes

__all__ = ["AgentEncoder", "project_boxes"]

CENTRE_SCALE, CENTRE_MAX = 0.1, 100.0
"""Symlog scale and the metres that map to 1: near agents are resolved more finely than far ones."""

SIZE_SCALE = 5.0
"""Metres of length, width or height that map to 1."""


class AgentEncoder(nn.Module):
    """Embed the boxes of each camera and time: each feature on its own, then one linear layer (paper §2.2.3).

    `13 c^2` weights and a little. A feature that is absent becomes the learned null of that feature, so any subset of
    the features can be given: the 2D box alone, or a 3D box without its yaw.

    Args:
        dim: Channels of a token.
        num_categories: Number of agent categories.

    Example:
        >>> features = torch.full((1, 3, 5, 2, 13), float("nan"))
        >>> features[..., 12] = -1  # no agents at all
        >>> features[:, :, 0, 0, :4] = torch.tensor([0.1, 0.4, 0.2, 0.6])  # but one 2D box in the first camera
        >>> features[:, :, 0, 0, 12] = 0
        >>> tokens, mask = AgentEncoder(dim=8)(features)
        >>> tokens.shape, mask[0, 0].sum().item()
        (torch.Size([1, 3, 5, 2, 8]), 1)
    """

    def __init__(self, *, dim: int, num_categories: int = 7) -> None:
        super().__init__()
        # For each of the 12 real features a Linear(1, dim), stacked and with its usual initialisation.
        self.weight = nn.Parameter(torch.empty(NUM_FEATURES - 1, dim).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(NUM_FEATURES - 1, dim).uniform_(-1, 1))
        self.category = nn.Embedding(num_categories, dim)
        self.null = learned_null(NUM_FEATURES, dim)
        self.out = nn.Linear(NUM_FEATURES * dim, dim)

    def forward(self, agents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed boxes.

        Args:
            agents: `(b, t, n, m, 13)` as `project_boxes` gives them: x1 y1 x2 y2 (0 to 1 of the image), centre x y z
                in the camera frame (metres), length width height (metres), sin yaw, cos yaw, category id. NaN:
                that feature, also the category, is absent. Category -1: there is no agent in that row, whatever else
                stands there.

        Returns:
            Tokens `(b, t, n, m, c)`, zero where there is no agent, and the mask `(b, t, n, m)`, true where there is
            one. A row of which no feature is left counts as no agent.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_axes("agents", agents, "b t n m k", k=NUM_FEATURES, hint="project_boxes makes them from 3D boxes")
        absent = agents.isnan()
        mask = ~((agents[..., -1] < 0) | absent.all(dim=-1))
        values = full_precision(agents).masked_fill(absent | ~mask[..., None], 0.0)
        scaled = torch.cat(
            [
                2 * values[..., :4] - 1,
                symlog(values[..., 4:7], CENTRE_SCALE, CENTRE_MAX),
                values[..., 7:10] / SIZE_SCALE,
                values[..., 10:12],
            ],
            dim=-1,
        )
        real = F.silu(scaled.to(self.weight.dtype)[..., None] * self.weight + self.bias)
        features = torch.cat([real, self.category(values[..., -1:].long())], dim=-2)
        features = torch.where(absent[..., None], self.null, features)
        tokens = self.out(rearrange(features, "b t n m k c -> b t n m (k c)"))
        return tokens.masked_fill(~mask[..., None], 0.0), mask
