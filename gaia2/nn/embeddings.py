"""Encodings of positions, times and scalars as vectors. They know nothing of driving."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import repeat
from torch import nn

from gaia2._checks import real_number, refuse, whole_number
from gaia2.nn.shapes import MAX_CHANNELS, check_channels

MAX_GRID = 65_536


def full_precision(values: torch.Tensor) -> torch.Tensor:
    """Return `values` as float32, or untouched where they are float64: sines of large angles need the digits.

    Example:
        >>> full_precision(torch.zeros(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values if values.dtype == torch.float64 else values.float()


def compute_dtype(layer: nn.Module) -> torch.dtype:
    """Return the type that a linear layer takes: that of its bias, which stays real when its weight is quantized.

    Example:
        >>> compute_dtype(nn.Linear(2, 3).to(torch.bfloat16))
        torch.bfloat16
    """
    return layer.get_parameter("bias").dtype


def learned_null(*shape: int) -> nn.Parameter:
    """Return a learned stand-in for an absent value, initialised to the scale that small linear encoders give.

    Example:
        >>> learned_null(8).shape
        torch.Size([8])
    """
    return nn.Parameter(torch.empty(*shape).normal_(std=0.2))


def _check_numbers(name: str, values: torch.Tensor) -> None:
    if not isinstance(values, torch.Tensor) or values.is_complex() or values.dtype == torch.bool:
        raise refuse(name, "real numbers as a torch.Tensor", values)


def sinusoidal_embedding(positions: torch.Tensor, dim: int, max_period: float = 10000.0) -> torch.Tensor:
    """Encode positions as sines and cosines of geometrically falling frequencies.

    Channel `i` of the first half is `sin(p w_i)` and of the second half `cos(p w_i)`, with
    `w_i = max_period ** (-2 i / dim)`.

    Args:
        positions: Positions `(...)`, of any range.
        dim: Channels; even.
        max_period: Period, up to a factor of 2 pi, that the slowest frequency tends to.

    Returns:
        `(..., dim)` in [-1, 1]; float64 for float64 positions, else float32.

    Raises:
        ValueError: If `dim` is not a positive even number.

    Example:
        >>> sinusoidal_embedding(torch.tensor([0.0]), 4).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    _check_numbers("positions", positions)
    if not torch.compiler.is_compiling():
        whole_number("dim", dim, None, MAX_CHANNELS)
    real_number("max_period", max_period, above=1)
    if dim <= 0 or dim % 2:
        raise ValueError(f"dim: expected a positive even number of channels, got {dim}; half are sines, half cosines")
    positions = full_precision(positions)
    steps = torch.arange(dim // 2, device=positions.device, dtype=positions.dtype)
    angles = positions[..., None] * torch.exp(-math.log(max_period) * 2 / dim * steps)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def spatial_position_embedding(
    height: int,
    width: int,
    dim: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """Encode the cells of a grid (paper §2.2.1, positional encoding i).

    Each cell's vector depends on its row and column only, so a larger grid extends a smaller one.

    Args:
        height: Rows of the grid.
        width: Columns of the grid.
        dim: Channels; a multiple of 4. The first half encodes the row, the second half the column.
        device: Where the result lies.
        dtype: Type of the result; the sines are computed in float32 or, for float64, in float64.

    Returns:
        `(h, w, c)` in [-1, 1].

    Raises:
        ValueError: If `dim` is not a positive multiple of 4, or a side is not positive.

    Example:
        >>> small, large = spatial_position_embedding(2, 3, 8), spatial_position_embedding(4, 9, 8)
        >>> torch.equal(small, large[:2, :3])
        True
    """
    if not torch.compiler.is_compiling():
        whole_number("dim", dim, None, MAX_CHANNELS)
        whole_number("height", height, 1, MAX_GRID, hint="rows of the grid")
        whole_number("width", width, 1, MAX_GRID, hint="columns of the grid")
    if dim <= 0 or dim % 4:
        raise ValueError(f"dim: expected a positive multiple of 4, got {dim}; rows and columns take half each")
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    rows = sinusoidal_embedding(torch.arange(height, device=device, dtype=compute), dim // 2)
    columns = sinusoidal_embedding(torch.arange(width, device=device, dtype=compute), dim // 2)
    grid = torch.cat([repeat(rows, "h c -> h w c", w=width), repeat(columns, "w c -> h w c", h=height)], dim=-1)
    return grid.to(dtype)


class FourierFeatures(nn.Module):
    """Sines and cosines of `2^i pi x` for i from 0, for values in [-1, 1]. No parameters.

    Args:
        num_frequencies: Number of frequencies, each twice the one before.
        include_input: Whether the value itself comes first, which tells apart values beyond [-1, 1].

    Attributes:
        out_dim: Channels of the result.

    Raises:
        ValueError: If there would be no channel at all.

    Example:
        >>> FourierFeatures(num_frequencies=2)(torch.tensor([0.0])).tolist()
        [[0.0, 0.0, 0.0, 1.0, 1.0]]
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(self, *, num_frequencies: int = 10, include_input: bool = True) -> None:
        super().__init__()
        whole_number("num_frequencies", num_frequencies, None, 64)
        if num_frequencies < 0 or (num_frequencies == 0 and not include_input):
            raise ValueError(f"num_frequencies: expected at least 1, got {num_frequencies}")
        self.num_frequencies = num_frequencies
        self.include_input = include_input
        self.out_dim = 2 * num_frequencies + include_input

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map values `(...)` to `(..., out_dim)`; float64 stays, everything else gives float32."""
        _check_numbers("values", values)
        values = full_precision(values)[..., None]
        steps = torch.arange(self.num_frequencies, device=values.device, dtype=values.dtype)
        angles = values * (math.pi * torch.exp2(steps))
        parts = [values] if self.include_input else []
        return torch.cat([*parts, angles.sin(), angles.cos()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Embed the flow time: sinusoid, linear, SiLU, linear (paper §2.2.1).

    Args:
        dim: Channels of the embedding.
        frequency_dim: Channels of the sinusoid; even.

    Example:
        >>> TimestepEmbedder(dim=8)(torch.tensor([0.0, 0.5])).shape
        torch.Size([2, 8])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(self, *, dim: int, frequency_dim: int = 256) -> None:
        super().__init__()
        check_channels(dim=dim, frequency_dim=frequency_dim)
        if frequency_dim % 2:
            raise refuse("frequency_dim", "an even number", frequency_dim)
        self.frequency_dim = frequency_dim
        self.mlp = nn.Sequential(nn.Linear(frequency_dim, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, tau: torch.Tensor, *, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Embed flow times.

        Args:
            tau: Flow times `(...)` from 0 (noise) to 1 (data).
            dtype: Type in which the layers compute; None is that of their biases.

        Returns:
            `(..., dim)`.
        """
        _check_numbers("tau", tau)
        frequencies = sinusoidal_embedding(1000.0 * full_precision(tau), self.frequency_dim)
        return self.mlp(frequencies.to(compute_dtype(self.mlp[0]) if dtype is None else dtype))
