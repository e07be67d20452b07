"""What the driving-behaviour encoder is trained on: an embedding must say what it was made of.

Axes: b batch, d embedding, k moments, x y cells of the ground, g categories.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from gaia2.conditioning.scenario import ROAD
from gaia2.models.behaviour_encoder import EGO_FEATURES, MOMENTS, Behaviour
from gaia2.scene import AGENT_CATEGORIES, METADATA

CELLS_X, CELLS_Y = 20, 10
"""Cells of the ground around the ego vehicle, ahead and across, even in the encoder's stretched places."""

REACH_X, REACH_Y = 0.9, 0.7
"""Stretched places at the outermost borders: 70 m ahead and behind, 37 m to each side."""


def ground_cells(behaviour: Behaviour) -> torch.Tensor:
    """Which categories stand in which cells of the ground at which moments.

    Returns:
        `(b, k, x, y, g)` of 0 and 1; what is farther away is in no cell.

    Example:
        >>> from gaia2.models.behaviour_encoder import behaviour_of
        >>> from gaia2.scene import Agents, Scene
        >>> agents = Agents(boxes=[[[12.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0]]] * 8, category=[[0]] * 8)
        >>> scene = Scene.create(rig="front", num_frames=8, agents=agents)
        >>> ground_cells(behaviour_of([scene])).sum(dim=(0, 2, 3))[0].tolist()
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    x = ((behaviour.boxes[..., 1] / REACH_X + 1) / 2 * CELLS_X).floor().long()
    y = ((behaviour.boxes[..., 2] / REACH_Y + 1) / 2 * CELLS_Y).floor().long()
    inside = (behaviour.category >= 0) & (x >= 0) & (x < CELLS_X) & (y >= 0) & (y < CELLS_Y)
    b, groups = len(x), len(AGENT_CATEGORIES)
    cells = behaviour.boxes.new_zeros(b, MOMENTS, CELLS_X * CELLS_Y * groups)
    index = (x * CELLS_Y + y) * groups + behaviour.category
    cells.scatter_reduce_(2, torch.where(inside, index, 0), inside.to(cells.dtype), reduce="amax")
    return rearrange(cells, "b k (x y g) -> b k x y g", x=CELLS_X, y=CELLS_Y)


class BehaviourHeads(nn.Module):
    """Read an embedding back: the ego's motion, which categories stand where and when, and the facts of the road.

    They are of use in training alone.

    Args:
        embedding_dim: Numbers of an embedding.
        dim: Channels inside.

    Example:
        >>> heads = BehaviourHeads(embedding_dim=8, dim=16)
        >>> {name: tuple(value.shape) for name, value in heads(torch.randn(2, 8)).items()}["ego"]
        (2, 4, 7)
    """

    def __init__(self, *, embedding_dim: int, dim: int = 512) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(embedding_dim, dim), nn.SiLU())
        self.ego = nn.Linear(dim, MOMENTS * EGO_FEATURES)
        self.ground = nn.Linear(dim, MOMENTS * CELLS_X * CELLS_Y * len(AGENT_CATEGORIES))
        nn.init.constant_(self.ground.bias, -5.5)  # about one cell of 250 holds something
        self.road = nn.ModuleDict({name: nn.Linear(dim, len(METADATA[name])) for name in ROAD})

    def forward(self, embedding: torch.Tensor) -> dict[str, torch.Tensor]:
        """Map `(b, d)` to `ego (b, k, 7)`, logits `ground (b, k, x, y, g)`, and logits for each name of `ROAD`."""
        hidden = self.shared(embedding)
        ground = rearrange(self.ground(hidden), "b (k x y g) -> b k x y g", k=MOMENTS, x=CELLS_X, y=CELLS_Y)
        road = {name: head(hidden) for name, head in self.road.items()}
        return {"ego": rearrange(self.ego(hidden), "b (k f) -> b k f", k=MOMENTS), "ground": ground, **road}


def behaviour_losses(said: Mapping[str, torch.Tensor], behaviour: Behaviour) -> dict[str, torch.Tensor]:
    """How far what the heads say is from what is so; facts that are unknown do not count.

    Args:
        said: What `BehaviourHeads` gives.
        behaviour: What the embeddings were made of.

    Returns:
        `ego`, mean squared error times 10; `ground`, cross-entropy of a scene and moment (nats) over 100; `road`,
        cross-entropy, mean over names.
    """
    missed = functional.binary_cross_entropy_with_logits(said["ground"], ground_cells(behaviour), reduction="sum")
    road = [
        functional.cross_entropy(said[name], ids, ignore_index=-1, reduction="sum") / (ids >= 0).sum().clamp(min=1)
        for name, ids in zip(ROAD, behaviour.road.unbind(1), strict=True)
    ]
    return {
        "ego": 10 * functional.mse_loss(said["ego"], behaviour.ego),
        "ground": missed / (100 * len(behaviour.ego) * MOMENTS),
        "road": torch.stack(road).mean(),
    }
