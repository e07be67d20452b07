"""Alignment of what a model has inside with maps of what is there: classes and depth, cell by cell. Not of the paper.

The paper aligns the latents of its tokenizer with DINOv2 (§2.1.3). Where the picture's classes and depths are known
exactly, as in a rendered world, they do the same office.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

from gaia2.training.ranks import Ranks


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

    def begin_with(self, weight: torch.Tensor, bias: torch.Tensor) -> None:
        """Take the head's weight `(k, c)` and bias `(k)`, also where ranks share it."""
        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.head, {"weight": weight, "bias": bias}, options=whole)


class LeastSquares:
    """The linear layer that predicts maps from features best, of as many examples as are given.

    A head that begins at random would first pull trained features towards its own mistakes.

    Args:
        dim: Channels of the features.
        num_maps: Numbers known of each cell.

    Example:
        >>> fit, features = LeastSquares(dim=2, num_maps=1), torch.randn(50, 2)
        >>> fit.add(features, features.sum(dim=-1, keepdim=True) + 3)
        >>> weight, bias = fit.solve()
        >>> weight.round(decimals=2), bias.round(decimals=2)
        (tensor([[1., 1.]]), tensor([3.]))
    """

    def __init__(self, *, dim: int, num_maps: int) -> None:
        self.squares = torch.zeros(dim + 1, dim + 1, dtype=torch.float64)
        self.products = torch.zeros(dim + 1, num_maps, dtype=torch.float64)

    def add(self, features: torch.Tensor, maps: torch.Tensor, counts: torch.Tensor | None = None) -> None:
        """Take in features `(..., c)` and maps `(..., k)` of the cells that count `(...)`; None is all."""
        chosen = ... if counts is None else counts
        rows = F.pad(features.detach()[chosen].flatten(0, -2).double().cpu(), (0, 1), value=1.0)
        self.squares += rows.T @ rows
        self.products += rows.T @ maps[chosen].flatten(0, -2).double().cpu()

    def solve(self, ranks: Ranks | None = None, *, ridge: float = 1e-4) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight `(k, c)` and bias `(k)` of least squared error.

        Args:
            ranks: Who has other examples; the solution is that of all of them.
            ridge: What is added to the diagonal, as a share of the features' mean square, so that features which hardly
                vary get no large weights. The bias is free of it.
        """
        squares, products = ((ranks or Ranks()).total(sums) for sums in (self.squares, self.products))
        added = ridge * squares.diagonal()[:-1].mean().expand(len(squares)).clone()
        added[-1] = 0.0
        solution = torch.linalg.solve(squares + added.diag(), products).T.float()
        return solution[:, :-1].contiguous(), solution[:, -1].contiguous()


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
