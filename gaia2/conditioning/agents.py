"""Dynamic agents: the boxes that each camera sees, as condition tokens (paper §2.2.3, Dynamic Agents)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import nn

from gaia2.conditioning.action import symlog
from gaia2.conditioning.condition import Check, Condition, Conditioning, Key, LatentTimes, uniform
from gaia2.conditioning.projection import project_agents
from gaia2.nn.embeddings import full_precision, learned_null
from gaia2.nn.shapes import check_axes
from gaia2.scene import AGENT_CATEGORIES, Scene
from gaia2.scene.box_features import CATEGORY, CENTRE, IMAGE_BOX, NUM_BOX_FEATURES, SIZE, YAW

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
        self.weight = nn.Parameter(torch.empty(NUM_BOX_FEATURES - 1, dim).uniform_(-1, 1))
        self.bias = nn.Parameter(torch.empty(NUM_BOX_FEATURES - 1, dim).uniform_(-1, 1))
        self.category = nn.Embedding(num_categories, dim)
        self.null = learned_null(NUM_BOX_FEATURES, dim)
        self.out = nn.Linear(NUM_BOX_FEATURES * dim, dim)

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
        check_axes("agents", agents, "b t n m k", k=NUM_BOX_FEATURES, hint="project_boxes makes them from 3D boxes")
        absent = agents.isnan()
        mask = ~((agents[..., CATEGORY] < 0) | absent.all(dim=-1))
        values = full_precision(agents).masked_fill(absent | ~mask[..., None], 0.0)
        scaled = torch.cat(
            [
                2 * values[..., IMAGE_BOX] - 1,
                symlog(values[..., CENTRE], CENTRE_SCALE, CENTRE_MAX),
                values[..., SIZE] / SIZE_SCALE,
                values[..., YAW],
            ],
            dim=-1,
        )
        real = F.silu(scaled.to(self.weight.dtype)[..., None] * self.weight + self.bias)
        features = torch.cat([real, self.category(values[..., CATEGORY, None].long())], dim=-2)
        features = torch.where(absent[..., None], self.null, features)
        tokens = self.out(rearrange(features, "b t n m k c -> b t n m (k c)"))
        return tokens.masked_fill(~mask[..., None], 0.0), mask


@dataclass(frozen=True)
class AgentCondition(Condition):
    """The boxes of other road users, those that each camera sees in the middle frame of each latent.

    Attributes:
        max_agents: Boxes that each camera and time keeps, the nearest ones.
        categories: Names of the categories; their ids are their places.
    """

    max_agents: int = 16
    categories: Sequence[str] = field(default_factory=lambda: AGENT_CATEGORIES)

    name = "agents"
    enters = "tokens"

    def __post_init__(self) -> None:
        if self.max_agents < 0:
            raise ValueError(f"max_agents: expected 0 or more boxes, got {self.max_agents}")

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """`agents (b, t, n, m, 13)`, see `AgentEncoder`."""
        return {"agents": Key("b t n m f", {"f": NUM_BOX_FEATURES})}

    def make_encoder(self, dim: int) -> AgentEncoder:
        """An `AgentEncoder`."""
        return AgentEncoder(dim=dim, num_categories=len(self.categories))

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """Features of the nearest boxes.

        While there are no more agents than `max_agents`, a row is the same row of the scene in every camera and at
        every time.
        """
        kept = [self._nearest(scene, times.middle) for scene in scenes]
        if any(cut for _, cut in kept):
            warnings.warn(
                f"agents: expected at most max_agents={self.max_agents} boxes in a camera, got more; the nearest are "
                "kept",
                stacklevel=4,
            )
        return {"agents": torch.stack([agents for agents, _ in kept])}

    def check_scene(self, scene: Scene) -> None:
        """Categories must be among those of the world model."""
        own_category_ids(torch.tensor(scene.agents.category), self.categories)

    def said_by(self, scene: Scene) -> Iterator[str]:
        """If there are any."""
        if scene.agents.most_at_once:
            yield "agents"

    def absent_like(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """Rows without an agent."""
        absent = torch.full_like(tensor, torch.nan)
        absent[..., CATEGORY] = -1
        return absent

    def thin(
        self, given: Conditioning, *, feature: float, instances: bool, generator: torch.Generator | None
    ) -> Conditioning:
        """Cut the number of agents of each camera, then drop features, each for all agents of a sample."""
        agents = given["agents"]
        if instances:
            agents = torch.where(_cut_instances(agents, generator)[..., None], agents, self.absent_like("", agents))
        there = agents[..., CATEGORY, None] >= 0
        dropped = uniform((agents.shape[0], agents.shape[-1]), generator, agents.device) < feature
        return {"agents": agents.masked_fill(rearrange(dropped, "b k -> b 1 1 1 k") & there, torch.nan)}

    def checks(self, given: Conditioning) -> list[Check]:
        """Categories must be known."""
        checks = super().checks(given)
        for key, tensor in given.items():
            ids, most = tensor[..., CATEGORY], len(self.categories) - 1
            wrong = (ids < -1) | (ids > most) | (ids != ids.floor()) & ~ids.isnan()
            expected = f"category ids from 0 to {most}, or -1 where there is no agent"
            checks.append(Check(key, expected, ids, wrong))
        return checks

    def plausibility_checks(self, given: Conditioning) -> list[Check]:
        """Sizes must be positive."""
        checks = []
        for key, tensor in given.items():
            size, there = tensor[..., SIZE], ~(tensor[..., CATEGORY, None] < 0)
            checks.append(Check(key, "a positive length, width and height in metres", size, there & (size <= 0)))
        return checks

    def _nearest(self, scene: Scene, frames: slice) -> tuple[torch.Tensor, bool]:
        """Features `(t, n, max_agents, 13)` of one scene's agents, and whether any visible one had to go."""
        features = project_agents(scene, frames)
        features[..., CATEGORY] = own_category_ids(features[..., CATEGORY].long(), self.categories).to(features)
        distance = torch.tensor(scene.agents.boxes[frames])[:, None, :, :3].norm(dim=-1)
        return _keep_nearest(features, distance, self.max_agents)


def own_category_ids(ids: torch.Tensor, categories: Sequence[str]) -> torch.Tensor:
    """A model's ids of the library's categories, by name; -1 stays.

    Args:
        ids: Indices into `AGENT_CATEGORIES`, or -1 where there is no agent.
        categories: Those that the model knows, in its order.

    Raises:
        ValueError: If there is an agent of a category that it does not know.

    Example:
        >>> own_category_ids(torch.tensor([0, -1]), ("truck", AGENT_CATEGORIES[0])).tolist()
        [1, -1]
    """
    if tuple(categories) == AGENT_CATEGORIES:
        return ids
    own = [categories.index(name) if name in categories else -2 for name in AGENT_CATEGORIES]
    result = torch.tensor([*own, -1])[ids]
    if (result == -2).any():
        unknown = AGENT_CATEGORIES[int(ids[result == -2][0])]
        raise ValueError(
            f"agents: expected the categories that the model was trained with, {', '.join(categories)}, got {unknown}; "
            "use another for these agents"
        )
    return result


def _keep_nearest(features: torch.Tensor, distance: torch.Tensor, max_agents: int) -> tuple[torch.Tensor, bool]:
    """Keep the nearest `max_agents` of the features `(t, n, m, 13)` at each time and camera.

    They take the rows of their camera's, or better of the whole scene's, agents in order where these are few enough,
    so that an agent keeps its row; else they close ranks.

    Args:
        features: Rows of category -1 are not there.
        distance: `(t, n or 1, m)`.
        max_agents: Rows of the result.

    Returns:
        `(t, n, max_agents, 13)`, and whether anything had to go.
    """
    t, n, m, _ = features.shape
    there = features[..., CATEGORY] >= 0
    rank = distance.masked_fill(~there, torch.inf).argsort(dim=-1).argsort(dim=-1)
    keep = there & (rank < max_agents)
    row = torch.arange(m).expand(keep.shape)
    if m > max_agents:
        row = keep.cumsum(dim=-1) - 1
        for ever in (keep.any(dim=0, keepdim=True), keep.any(dim=0, keepdim=True).any(dim=1, keepdim=True)):
            few = ever.sum(dim=-1, keepdim=True) <= max_agents
            row = torch.where(few, ever.cumsum(dim=-1) - 1, row)
    row = torch.where(keep, row, max_agents)[..., None].expand(features.shape)
    result = features.new_full((t, n, max_agents + 1, NUM_BOX_FEATURES), torch.nan)
    result[..., CATEGORY] = -1
    return result.scatter(2, row, features)[:, :, :max_agents], bool((there & ~keep).any())


def _cut_instances(agents: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Which agents `(b, t, n, m)` stay when their number is cut, the same at all times of a camera (paper §2.2.3).

    A frame is sampled for each camera; the number is uniform from 0 to the agents in that frame. Which ones are kept
    follows a random order of the rows, one for each sample, so that rows which hold the same agent at all times and in
    all cameras keep doing so.
    """
    b, t, n, m, _ = agents.shape
    there = agents[..., CATEGORY] >= 0
    draws = uniform((b, 2 * n + m), generator, agents.device)
    frame, share, order = draws.split([n, n, m], dim=1)
    frame = (frame * t).long().clamp(max=t - 1)
    count = there.sum(dim=-1).gather(1, rearrange(frame, "b n -> b 1 n"))
    number = ((count + 1) * rearrange(share, "b n -> b 1 n")).long().minimum(count)
    order = repeat(order.argsort(dim=1), "b m -> b t n m", t=t, n=n)
    place = there.gather(-1, order).cumsum(dim=-1)  # among those there, in the random order, from 1
    place = torch.empty_like(place).scatter_(-1, order, place)
    return there & (place <= rearrange(number, "b 1 n -> b 1 n 1"))
