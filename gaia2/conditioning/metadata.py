"""Metadata of a scene, such as country and weather, as condition tokens (paper §2.2.3, Metadata)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from gaia2.nn.shapes import check_axes
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
    return [_value_id(name, metadata.get(name), values) for name, values in vocabulary.items()]


def _value_id(name: str, value: Any, values: int | Sequence[Any]) -> int:
    if value is None:
        return -1
    options = range(values) if isinstance(values, int) else values
    for index, option in enumerate(options):
        if isinstance(value, bool) == isinstance(option, bool) and value == option:
            return index
    listed = f"0 to {values - 1}" if isinstance(values, int) else f"one of: {', '.join(map(repr, values))}"
    raise ValueError(
        f"metadata: {name}: unknown value {value!r}; did you mean {nearest(value, options)!r}? Expected {listed}"
    )


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
