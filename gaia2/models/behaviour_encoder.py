"""A small driving-behaviour encoder: what happens in a scene, as one vector (the paper's §2.2.3, Scenario Embedding).

The paper's comes from a proprietary driving model. This one reads scenes, not video; what it is trained on is in
`gaia2.training.behaviour`.

Axes: b batch, k moments, m boxes, r names of the road's metadata, s tokens, f features, c channels, d embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn

from gaia2._checks import refuse, whole_number
from gaia2._typed import register_to_config
from gaia2.conditioning.action import CURVATURE_MAX, CURVATURE_SCALE, SPEED_MAX, SPEED_SCALE, symlog
from gaia2.conditioning.agents import own_category_ids
from gaia2.conditioning.metadata import Vocabulary, metadata_ids, vocabulary_pairs, vocabulary_sizes
from gaia2.conditioning.scenario import ROAD
from gaia2.models.config_checks import MAX_BLOCKS, check_vocabulary, check_width
from gaia2.models.strict_loading import StrictLoading
from gaia2.nn.blocks import SpatialBlock
from gaia2.nn.embeddings import FourierFeatures, compute_dtype, learned_null
from gaia2.nn.shapes import check_axes, check_channels
from gaia2.scene import AGENT_CATEGORIES, METADATA, Scene, ego_poses

MOMENTS = 4
"""Moments of a scene, evenly from its first frame to its last, that the encoder looks at."""

EGO_FEATURES, BOX_FEATURES = 7, 10

PLACE_FREQUENCIES = 5
"""Sines of a box's place: the fastest has a period of an eighth of the stretched reach, some 2 m nearby."""


class Behaviour(NamedTuple):
    """What the encoder reads of scenes.

    Attributes:
        ego: `(b, k, 7)`: seconds from the first frame, place and yaw in its ego frame (x and y by symlog), speed and
            curvature by symlog, and whether both are known; zeros where not.
        boxes: `(b, k, m, 10)`: seconds, x and y by symlog, z / 2, logarithms of length, width and height, sine and
            cosine of the yaw, and 1 where there is a box that is wholly known; zeros elsewhere.
        category: `(b, k, m)` index into the categories; -1 where there is none.
        road: `(b, r)` index of each fact's value among those that it can have; -1 where it is unknown.
    """

    ego: torch.Tensor
    boxes: torch.Tensor
    category: torch.Tensor
    road: torch.Tensor


ROAD_FACTS = {name: METADATA[name] for name in ROAD}
"""Facts of the road, and the values that each can have."""


def behaviour_of(
    scenes: Sequence[Scene],
    max_agents: int = 16,
    *,
    facts: Vocabulary = ROAD_FACTS,
    agent_categories: Sequence[str] = AGENT_CATEGORIES,
) -> Behaviour:
    """Read scenes: their ego motion, boxes and road at `MOMENTS` moments. Cameras and looks do not matter.

    Args:
        scenes: Any scenes, also of different lengths.
        max_agents: Boxes of a moment that are kept, the nearest ones.
        facts: Metadata to read, and the values that each can have.
        agent_categories: What agents can be.

    Raises:
        ValueError: If there is no scene, or one has a value or a category that is none of these.

    Example:
        >>> scene = Scene.create(rig="front", num_frames=24, speed=10.0, curvature=0.0, one_way=True)
        >>> read = behaviour_of([scene])
        >>> read.ego[0, :, 0].numpy().round(2), read.road[0, ROAD.index("one_way")].item()
        (array([0. , 0.8, 1.5, 2.3], dtype=float32), 1)
    """
    if isinstance(scenes, Scene) or not len(scenes):
        raise refuse("scenes", "a list of at least one Scene", scenes)
    ego, boxes, category = (
        torch.from_numpy(np.stack(arrays))
        for arrays in zip(*(_motion_of(scene, max_agents) for scene in scenes), strict=True)
    )
    road = torch.tensor([metadata_ids({name: scene.metadata.get(name) for name in facts}, facts) for scene in scenes])
    return Behaviour(ego, boxes, own_category_ids(category, agent_categories), road)


def _motion_of(scene: Scene, max_agents: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ego's motion, boxes and the library's categories of one scene, as in `Behaviour`."""
    times = scene.frame_times - scene.frame_times[0]
    at = np.linspace(0, scene.num_frames - 1, MOMENTS).round().astype(int)
    known = np.isfinite(scene.speed).all() & np.isfinite(scene.curvature).all()
    speed, curvature = (np.nan_to_num(values) for values in (scene.speed, scene.curvature))
    pose = ego_poses(times, speed, curvature)[at] * known
    ego = np.column_stack(
        [
            times[at], _near(pose[:, :2]), pose[:, 2], _log(speed[at], SPEED_SCALE, SPEED_MAX) * known,
            _log(curvature[at], CURVATURE_SCALE, CURVATURE_MAX) * known, np.full(MOMENTS, known),
        ]
    )  # fmt: skip
    boxes, category = scene.agents.boxes[at], scene.agents.category[at]
    there = (category >= 0) & np.isfinite(boxes).all(axis=-1)
    distance = np.where(there, np.hypot(boxes[..., 0], boxes[..., 1]), np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :max_agents]
    boxes, category, there = (np.take_along_axis(a, nearest.reshape(*nearest.shape, *(1,) * (a.ndim - 2)), axis=1)
                              for a in (boxes, category, there))  # fmt: skip
    boxes = np.where(there[..., None], boxes, 1.0)
    features = np.concatenate(
        [
            np.broadcast_to(times[at][:, None, None], (*there.shape, 1)), _near(boxes[..., :2]), boxes[..., 2:3] / 2,
            np.log(boxes[..., 3:6]), np.sin(boxes[..., 6:]), np.cos(boxes[..., 6:]), np.ones((*there.shape, 1)),
        ],
        axis=-1,
    )  # fmt: skip
    missing = max_agents - there.shape[1]
    features = np.pad(features * there[..., None], ((0, 0), (0, missing), (0, 0)))
    category = np.pad(np.where(there, category, -1), ((0, 0), (0, missing)), constant_values=-1)
    return ego.astype(np.float32), features.astype(np.float32), category.astype(np.int64)


def _log(values: np.ndarray, scale: float, limit: float) -> np.ndarray:
    return symlog(torch.from_numpy(np.ascontiguousarray(values)), scale, limit).numpy()


def _near(metres: np.ndarray) -> np.ndarray:
    """Places, stretched near the ego vehicle; 100 m is 1."""
    return _log(metres, 0.3, 100.0)


class BehaviourEncoder(StrictLoading, ModelMixin, ConfigMixin):
    """Embeds what happens in a scene: the ego's motion, the other road users, the road.

    A token for each box of each moment, one for the ego at each moment, one for each fact of the road; a few blocks of
    attention over all of them, their mean, and a linear layer. What is absent is a learned token. The embedding has
    mean 0 and variance 1 over its numbers.

    Args:
        embedding_dim: Numbers of an embedding.
        dim: Channels inside.
        num_heads: Attention heads.
        num_blocks: Blocks.
        max_agents: Boxes of a moment that count, the nearest ones.
        facts: Facts of the road and the values that each can have; the library's by default. The config records them
            as a list of names and values, so that weights fit whatever becomes of the library's vocabulary.
        agent_categories: What agents can be; the library's categories by default, and recorded likewise.

    Raises:
        ValueError: If a number is out of range, or `facts` is no vocabulary.

    Example:
        >>> scene = Scene.create(rig="front", num_frames=24, speed=10.0, curvature=0.0)
        >>> encoder = BehaviourEncoder(embedding_dim=8, dim=16, num_heads=2, num_blocks=1)
        >>> scene = scene.replace(scenario_embedding=encoder.embed([scene])[0])
        >>> scene.scenario_embedding.shape
        (8,)
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int = 512,
        dim: int = 96,
        num_heads: int = 4,
        num_blocks: int = 2,
        max_agents: int = 16,
        facts: Vocabulary | Sequence[tuple[str, Sequence[Any]]] | None = None,
        agent_categories: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        check_channels(embedding_dim=embedding_dim)
        check_width(dim, num_heads)
        whole_number("num_blocks", num_blocks, 1, MAX_BLOCKS)
        whole_number("max_agents", max_agents, 1, 1024)
        if facts is not None:
            check_vocabulary("facts", facts)
        self.facts = dict(ROAD_FACTS if facts is None else facts)
        categories = AGENT_CATEGORIES if agent_categories is None else agent_categories
        self.register_to_config(facts=vocabulary_pairs(self.facts), agent_categories=list(categories))
        self.ego = nn.Sequential(nn.Linear(EGO_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.places = FourierFeatures(num_frequencies=PLACE_FREQUENCIES, include_input=False)
        width = BOX_FEATURES + 2 * self.places.out_dim
        self.box = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.category = nn.Embedding(len(categories), dim)
        self.sizes = list(vocabulary_sizes(self.facts).values())
        self.road = nn.ModuleList(nn.Embedding(size + 1, dim) for size in self.sizes)  # the last is unknown
        self.no_box = learned_null(dim)
        self.blocks = nn.ModuleList(SpatialBlock(dim=dim, num_heads=num_heads) for _ in range(num_blocks))
        self.norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, embedding_dim)

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pretrained(  # noqa: D102
            cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: object
        ) -> Self: ...

    def forward(self, behaviour: Behaviour) -> torch.Tensor:
        """Embed what `behaviour_of` has read.

        Returns:
            `(b, d)`.

        Raises:
            ValueError: If axes do not fit.
        """
        check_axes("ego", behaviour.ego, "b k f", k=MOMENTS, f=EGO_FEATURES)
        b, dtype = len(behaviour.ego), compute_dtype(self.out)
        check_axes("boxes", behaviour.boxes, "b k m f", b=b, k=MOMENTS, f=BOX_FEATURES)
        check_axes("road", behaviour.road, "b r", b=b, r=len(self.road))
        places = self.places(behaviour.boxes[..., 1:3]).flatten(-2)
        boxes = self.box(torch.cat([behaviour.boxes, places], dim=-1).to(dtype))
        boxes = boxes + self.category(behaviour.category.clamp(min=0))
        boxes = torch.where((behaviour.category >= 0)[..., None], boxes, self.no_box)
        road = [
            embedding(torch.where(ids >= 0, ids, size))
            for embedding, size, ids in zip(self.road, self.sizes, behaviour.road.unbind(1), strict=True)
        ]
        tokens = torch.cat(
            [self.ego(behaviour.ego.to(dtype)), rearrange(boxes, "b k m c -> b (k m) c"), torch.stack(road, dim=1)],
            dim=1,
        )
        tokens = rearrange(tokens, "b s c -> b 1 1 s c")
        for block in self.blocks:
            tokens = block(tokens)
        embedding = self.out(self.norm(tokens).mean(dim=(1, 2, 3)))
        return nn.functional.layer_norm(embedding, embedding.shape[-1:])

    @torch.no_grad()
    def embed(self, scenes: Sequence[Scene]) -> np.ndarray:
        """Embeddings of scenes, for `Scene.replace(scenario_embedding=...)`.

        Args:
            scenes: Any scenes; CLIP and scenario embeddings that they have do not matter.

        Returns:
            `(b, d)` float32.

        Raises:
            ValueError: If there is no scene, or one has a value or a category that the encoder does not know.
        """
        read = behaviour_of(
            scenes, self.config.max_agents, facts=self.facts, agent_categories=self.config.agent_categories
        )
        return self(Behaviour(*(tensor.to(self.device) for tensor in read))).float().cpu().numpy()

    def stand_in(self, scene: Scene) -> Scene:
        """The scene with its embedding in place of what that was made of: speed, curvature, agents and road.

        Country, weather, time of day and cameras stay, and may be changed.

        Example:
            >>> encoder = BehaviourEncoder(embedding_dim=8, dim=16, num_heads=2, num_blocks=1)
            >>> scene = encoder.stand_in(Scene.create("front", 24, speed=10.0, weather="snow", one_way=True))
            >>> scene.scenario_embedding.shape, dict(scene.metadata)
            ((8,), {'weather': 'snow'})
        """
        unsaid: dict[str, Any] = dict.fromkeys(("speed", "curvature", "agents", *self.facts))
        return scene.replace(scenario_embedding=self.embed([scene])[0], **unsaid)
