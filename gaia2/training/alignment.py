"""Alignment of what a model has inside with maps of what is there: classes and depth, cell by cell. Not of the paper.

The paper aligns the latents of its tokenizer with DINOv2 (§2.1.3). Where the picture's classes and depths are known
exactly, as in a rendered world, they do the same office.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class MapAlignment(nn.Module):
    """Predict maps from features by one linear layer, and say how wrong it is.

    Args:
        dim: Channels of the features.
        num_maps: Numbers known of each cell.
        weight: Factor of the loss.

    Example:
        >>> alignment = MapAlignment(dim=8, num_maps=5)
        >>> alignment(torch.randn(2, 3, 4, 8), torch.rand(2, 3, 4, 5)).shape
        torch.Size([])
    """

    def __init__(self, *, dim: int, num_maps: int, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.head = nn.Linear(dim, num_maps)

    def forward(self, features: torch.Tensor, maps: torch.Tensor, counts: torch.Tensor | None = None) -> torch.Tensor:
        """Return the weighted mean squared error.

        Args:
            features: `(..., c)`.
            maps: `(..., k)`, the shares of classes and scaled depths, about 0 to 1.
            counts: `(...)` bool, true where a cell counts; None is everywhere.
        """
        error = F.mse_loss(self.head(features.to(self.head.weight.dtype)).float(), maps.float(), reduction="none").mean(
            dim=-1
        )
        if counts is None:
            return self.weight * error.mean()
        return self.weight * (error * counts).sum() / counts.sum().clamp(min=1)


class BlockOutput:
    """Keeps what a block gave in the latest forward pass, for losses on hidden states.

    Args:
        block: The block to listen to.

    Example:
        >>> layer = nn.Linear(2, 3)
        >>> hidden = BlockOutput(layer)
        >>> out = layer(torch.ones(1, 2))
        >>> hidden.value is out
        True
    """

    def __init__(self, block: nn.Module) -> None:
        self.value: torch.Tensor | None = None
        self.handle = block.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.value = output

    def remove(self) -> None:
        """Stop listening."""
        self.handle.remove()
        self.value = None
