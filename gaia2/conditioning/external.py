"""Embeddings from other models as condition tokens: CLIP and scenario embeddings (paper §2.2.3)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

from gaia2.nn.embeddings import learned_null
from gaia2.nn.shapes import check_axes


class EmbeddingEncoder(nn.Module):
    """Project an embedding to one token by a linear layer; an absent one becomes a learned null.

    Args:
        dim: Channels of the token.
        embedding_dim: Width of the embeddings.

    Attributes:
        key: Name of the condition, for messages.

    Example:
        >>> encoder = EmbeddingEncoder(dim=8, embedding_dim=3)
        >>> encoder(torch.tensor([[0.1, 0.2, 0.3], [float("nan")] * 3])).shape
        torch.Size([2, 1, 8])
    """

    key = "embedding"

    def __init__(self, *, dim: int, embedding_dim: int) -> None:
        super().__init__()
        self.embedding_dim = embedding_dim
        self.linear = nn.Linear(embedding_dim, dim)
        self.null = learned_null(dim)

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """Project embeddings.

        Args:
            embedding: `(b, d)`; a row of NaN is absent.

        Returns:
            `(b, 1, c)`.

        Raises:
            ValueError: If the shape does not fit, or, on the CPU, a row is NaN in part. On other devices, where
                looking would hold the program up, such a row counts as absent.
        """
        check_axes(self.key, embedding, "b d", d=self.embedding_dim, hint="use the model it was trained with")
        missing = embedding.isnan()
        if embedding.device.type == "cpu" and not torch.compiler.is_compiling():
            check_rows(self.key, embedding)
        absent = missing.any(dim=-1, keepdim=True)
        values = embedding.masked_fill(absent, 0.0).to(self.null.dtype)
        return rearrange(torch.where(absent, self.null, self.linear(values)), "b c -> b 1 c")


class ClipEncoder(EmbeddingEncoder):
    """Project CLIP embeddings, of images in training and of images or text at inference (paper §2.2.3).

    Args:
        dim: Channels of the token.
        embedding_dim: Width of CLIP's projected embeddings, 768 for ViT-L/14.

    Example:
        >>> ClipEncoder(dim=8, embedding_dim=768)(torch.randn(2, 768)).shape
        torch.Size([2, 1, 8])
    """

    key = "clip_embedding"


class ScenarioEncoder(EmbeddingEncoder):
    """Project scenario embeddings of a driving model, any vector (paper §2.2.3).

    Args:
        dim: Channels of the token.
        embedding_dim: Width of the embeddings.

    Example:
        >>> ScenarioEncoder(dim=8, embedding_dim=512)(torch.randn(2, 512)).shape
        torch.Size([2, 1, 8])
    """

    key = "scenario_embedding"


def check_rows(name: str, embedding: torch.Tensor) -> None:
    """Check that each row of an embedding is there as a whole or absent as a whole.

    Args:
        name: Opens the message.
        embedding: `(b, d)`.

    Raises:
        ValueError: If a row is NaN in part.

    Example:
        >>> check_rows("clip_embedding", torch.tensor([[float("nan"), 1.0]]))
        Traceback (most recent call last):
        ...
        ValueError: clip_embedding: expected rows of numbers, or all NaN where absent, got 1 NaN of 2 in row 0
    """
    count = embedding.isnan().sum(dim=-1)
    partly = (count > 0) & (count < embedding.shape[-1])
    if partly.any():
        row = int(partly.nonzero()[0])
        raise ValueError(
            f"{name}: expected rows of numbers, or all NaN where absent, got {int(count[row])} NaN of "
            f"{embedding.shape[-1]} in row {row}"
        )
