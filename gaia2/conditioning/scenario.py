"""Scenario embeddings of a driving model as a condition token (paper §2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from gaia2.conditioning.embedding import EmbeddingCondition, EmbeddingEncoder

ROAD = (
    "speed_limit", "number_of_lanes", "bus_lane", "cycle_lane", "pedestrian_crossing", "traffic_light", "one_way",
    "intersection",
)  # fmt: skip
"""Metadata that belong to a scenario; country, weather and time of day are how it looks."""

IN_SCENARIO = ("speed", "curvature", "agents", *ROAD)
"""Names of the conditions that a scenario embedding is made of (the paper's ego action, road layout and agents)."""


class ScenarioEncoder(EmbeddingEncoder):
    """Project scenario embeddings of a driving model, any vector (paper §2.2.3).

    Args:
        dim: Channels of the token.
        embedding_dim: Width of the embeddings.

    Example:
        >>> import torch
        >>> ScenarioEncoder(dim=8, embedding_dim=512)(torch.randn(2, 512)).shape
        torch.Size([2, 1, 8])
    """

    key = "scenario_embedding"


@dataclass(frozen=True)
class ScenarioCondition(EmbeddingCondition):
    """A scenario embedding, any vector."""

    name = "scenario"
    key = "scenario_embedding"
    encoder = ScenarioEncoder
