"""Random numbers that depend only on a seed and a name, not on the batch, its order or the device."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

__all__ = ["uniform", "choose"]


def _signed(value: int) -> int:
    """The 64-bit pattern `value` as the signed number that torch stores."""
    return value - (1 << 64) if value >= 1 << 63 else value


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (products wrap, shifts made logical by a mask)."""
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def uniform(seeds: Tensor, stream: str, count: int = 1) -> Tensor:
    """Uniform numbers in [0, 1) for every seed.

    Args:
        seeds: `(b,)` int64.
        stream: Name of what the numbers are for; two names give independent numbers.
        count: Numbers for each seed.

    Returns:
        `(b, count)` float32.

    Example:
        >>> import torch
        >>> both = uniform(torch.tensor([3, 8]), "trees", 4)
        >>> bool((uniform(torch.tensor([8]), "trees", 4) == both[1:]).all())
        True
    """
    gamma = _signed(0x9E3779B97F4A7C15)
    start = _mix(seeds.to(torch.int64) * gamma + zlib.crc32(stream.encode()))
    index = torch.arange(1, count + 1, device=seeds.device, dtype=torch.int64)
    bits = _mix(start[:, None] + index * gamma)
    return ((bits >> 40) & 0xFFFFFF).to(torch.float32) * 2.0**-24


def choose(numbers: Tensor, weights: tuple[float, ...]) -> Tensor:
    """Turns uniform numbers into indices, `weights[i]` being the relative chance of index `i`.

    Args:
        numbers: Any shape, in [0, 1).
        weights: Non-negative, not all zero.

    Returns:
        int64 of the same shape, in `range(len(weights))`.
    """
    edges = torch.tensor(weights, dtype=torch.float64, device=numbers.device).cumsum(0)
    index = torch.searchsorted((edges / edges[-1]).to(numbers.dtype), numbers.contiguous(), right=True)
    return index.clamp(max=len(weights) - 1)
