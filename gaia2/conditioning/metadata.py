"""Metadata of a scene, such as country and weather, as condition tokens (paper §2.2.3, Metadata)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from gaia2.conditioning.condition import Check, Condition, Conditioning, Key, LatentTimes
from gaia2.nn.shapes import check_axes
from gaia2.scene import METADATA, Scene, value_id
from gaia2.scene.validation import nearest

Vocabulary = Mapping[str, int | Sequence[Any]]
"""Metadata name to its allowed values, or to how many there are. The id of a value is its index."""


def vocabulary_sizes(vocabulary: Vocabulary) -> dict[str, int]:
    """Return how many values each metadata name can have.

    Raises:
        ValueError: If a name has no values.

    Example:
        >>> vocabulary_sizes({"weather": ("clear", "rain"), "district": 12})
        {'weather': 2, 'district': 12}
    """
    sizes = {name: values if isinstance(values, int) else len(values) for name, values in vocabulary.items()}
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"vocabulary: expected at least one value for {name!r}, got {size}")
    return sizes


def vocabulary_pairs(vocabulary: Vocabulary) -> list[list[Any]]:
    """A vocabulary as a config records it: a list, since diffusers sorts the keys of a dict.

    Example:
        >>> vocabulary_pairs({"weather": ("clear", "rain"), "district": 12})
        [['weather', ['clear', 'rain']], ['district', 12]]
    """
    return [[name, values if isinstance(values, int) else list(values)] for name, values in vocabulary.items()]


def metadata_ids(metadata: Mapping[str, Any], vocabulary: Vocabulary) -> list[int]:
    """Look up the ids of metadata values.

    Args:
        metadata: Name to value; a name left out, or None, is absent. A name whose values are only counted in the
            vocabulary has its id as value.
        vocabulary: Metadata names and their allowed values.

    Returns:
        The id for each name, in the order of the vocabulary; -1 where absent.

    Raises:
        ValueError: If a name or value is not in the vocabulary.

    Example:
        >>> metadata_ids({"weather": "rain"}, {"country": ("uk", "us"), "weather": ("clear", "rain")})
        [-1, 1]
    """
    for name in metadata:
        if name not in vocabulary:
            raise ValueError(
                f"metadata: unknown name {name!r}; did you mean {nearest(name, vocabulary)!r}? "
                f"Expected one of: {', '.join(vocabulary)}"
            )
    return [
        -1 if metadata.get(name) is None else value_id(name, metadata[name], values)
        for name, values in vocabulary.items()
    ]


class MetadataEncoder(nn.Module):
    """Embed each metadata name by a table of its own (paper §2.2.3, Metadata); an absent value has a row, too.

    Args:
        dim: Channels of a token.
        vocabulary: Metadata names and their allowed values, or how many there are.

    Raises:
        ValueError: If a name has no values.

    Example:
        >>> encoder = MetadataEncoder(dim=8, vocabulary={"weather": ("clear", "rain"), "district": 12})
        >>> encoder(torch.tensor([[1, -1], [0, 11]])).shape
        torch.Size([2, 2, 8])
    """

    offsets: torch.Tensor

    def __init__(self, *, dim: int, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.sizes = vocabulary_sizes(vocabulary)
        # One table for all: for each name first the row of its absence, then those of its values.
        rows = torch.tensor([0, *(size + 1 for size in self.sizes.values())])
        self.register_buffer("offsets", rows.cumsum(0)[:-1] + 1)
        self.table = nn.Embedding(sum(self.sizes.values()) + len(self.sizes), dim)
        nn.init.normal_(self.table.weight, std=0.2)

    def forward(self, metadata: torch.Tensor) -> torch.Tensor:
        """Embed metadata.

        Args:
            metadata: `(b, k)` integer ids, one column for each name of the vocabulary; -1 where absent.

        Returns:
            `(b, k, c)`.

        Raises:
            ValueError: If the shape does not fit.
        """
        check_axes(
            "metadata", metadata, "b k", k=len(self.sizes), hint=f"the columns are {', '.join(self.sizes) or 'none'}"
        )
        return self.table(metadata + self.offsets)


@dataclass(frozen=True)
class MetadataCondition(Condition):
    """What a scene is like: one token for each metadata name.

    Attributes:
        vocabulary: Metadata names and their allowed values, or how many there are.
    """

    vocabulary: Vocabulary = field(default_factory=lambda: METADATA)

    name = "metadata"
    enters = "global"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """`metadata (b, k)`, ids in the order of the vocabulary."""
        names = tuple(self.vocabulary)
        return {"metadata": Key("b k", {"k": len(names)}, columns=names, integer=True)}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many values each name can have."""
        return vocabulary_sizes(self.vocabulary)

    def make_encoder(self, dim: int) -> MetadataEncoder:
        """A `MetadataEncoder`."""
        return MetadataEncoder(dim=dim, vocabulary=self.vocabulary)

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """Ids of what the scenes say."""
        ids = [metadata_ids(scene.metadata, self.vocabulary) for scene in scenes]
        return {"metadata": torch.tensor(ids, dtype=torch.int64).reshape(len(scenes), len(self.vocabulary))}

    def check_scene(self, scene: Scene) -> None:
        """Names and values must be in the vocabulary."""
        metadata_ids(scene.metadata, self.vocabulary)

    def said_by(self, scene: Scene) -> Iterator[str]:
        """If any metadata is there."""
        if scene.metadata:
            yield "metadata"

    def checks(self, given: Conditioning) -> list[Check]:
        """Ids must be in the vocabulary."""
        names = list(self.sizes.items())

        def expected(index: list[int]) -> str:
            name, size = names[index[-1]]
            return f"ids of {name} from 0 to {size - 1}, or -1 where absent"

        sizes = torch.tensor(list(self.sizes.values()))
        return [Check(key, expected, ids, (ids < -1) | (ids >= sizes.to(ids.device))) for key, ids in given.items()]
