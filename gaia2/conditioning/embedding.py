"""Embeddings from other models as condition tokens (paper §2.2.3): what those of CLIP and of scenarios share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.condition import Check, Condition, Conditioning, Key, LatentTimes
from gaia2.nn.embeddings import learned_null
from gaia2.nn.shapes import check_axes
from gaia2.scene import Scene


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


@dataclass(frozen=True)
class EmbeddingCondition(Condition):
    """An embedding of the whole scene by another model, as one token.

    Attributes:
        embedding_dim: Width of the embeddings; None is any, and then no encoder can be made.
    """

    embedding_dim: int | None = None

    enters = "global"
    key: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    encoder: ClassVar[type[EmbeddingEncoder]]

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """The embedding `(b, d)`; a row of NaN is absent."""
        sizes = {} if self.embedding_dim is None else {self.name: self.embedding_dim}
        return {self.key: Key(f"b {self.name}", sizes, name=self.name, aliases=self.aliases)}

    def make_encoder(self, dim: int) -> EmbeddingEncoder:
        """An `EmbeddingEncoder`."""
        assert self.embedding_dim is not None
        return self.encoder(dim=dim, embedding_dim=self.embedding_dim)

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """The scenes' embeddings, absent for scenes without one; nothing if none has one."""
        embeddings = [getattr(scene, self.key) for scene in scenes]
        widths = sorted({len(embedding) for embedding in embeddings if embedding is not None})
        if len(widths) > 1:
            raise ValueError(
                f"{self.key}: expected one width in all scenes, got {widths}; embed all with the same model"
            )
        if not widths:
            return {}
        missing = np.full(widths[0], np.nan)
        return {self.key: torch.from_numpy(np.stack([missing if e is None else e for e in embeddings]))}

    def check_scene(self, scene: Scene) -> None:
        """The embedding must have the width of the training's."""
        embedding = getattr(scene, self.key)
        if embedding is not None and self.embedding_dim not in (None, len(embedding)):
            raise ValueError(
                f"{self.key}: expected {self.embedding_dim} numbers, as the world model was trained with, got "
                f"{len(embedding)}; use the model that made the embeddings of its training"
            )

    def said_by(self, scene: Scene) -> Iterator[str]:
        """If there is an embedding."""
        if getattr(scene, self.key) is not None:
            yield self.name

    def checks(self, given: Conditioning) -> list[Check]:
        """Rows must be there as a whole or absent as a whole."""
        checks = super().checks(given)
        for key, tensor in given.items():
            missing = tensor.isnan()
            wrong = missing & ~missing.all(dim=-1, keepdim=True)
            checks.append(Check(key, "rows of numbers, or all NaN where absent", tensor, wrong))
        return checks


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
