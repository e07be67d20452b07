"""The feed-forward layer of a transformer block."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from gaia2._checks import real_number
from gaia2.nn.shapes import check_channels, check_last_axis


class MLP(nn.Module):
    """Linear, GELU, linear, applied to each token alone.

    Args:
        dim: Channels in and out.
        ratio: Hidden channels as a multiple of `dim`; 4 gives the `8 c^2` weights counted in the paper's sizes.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> MLP(dim=8)(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 8])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(self, *, dim: int, ratio: float = 4.0) -> None:
        super().__init__()
        check_channels(dim=dim)
        real_number("ratio", ratio, 1 / dim, 1000)
        self.dim = dim
        self.up = nn.Linear(dim, int(dim * ratio))
        self.activation = nn.GELU(approximate="tanh")
        self.down = nn.Linear(int(dim * ratio), dim)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map tokens `(..., c)` to `(..., c)`."""
        check_last_axis("hidden_states", hidden_states, self.dim)
        return self.down(self.activation(self.up(hidden_states)))
