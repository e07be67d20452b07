"""Scenario embeddings of a driving model as a condition token (paper §2.2.3)."""

from __future__ import annotations

from dataclasses import dataclass

from gaia2.conditioning.embedding import EmbeddingCondition, EmbeddingEncoder


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
