"""Patterns averaged over the footprint of a pixel, so that they fade instead of flickering."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["edge", "stripe", "pulse", "blobs", "wrap"]


def edge(x: Tensor, footprint: Tensor) -> Tensor:
    """Share of a footprint centred at `x` that lies at positive coordinates."""
    return (x / footprint + 0.5).clamp(0.0, 1.0)


def stripe(x: Tensor, width: Tensor | float, footprint: Tensor) -> Tensor:
    """Share of a footprint centred at `x` that a stripe of the given width around 0 covers."""
    overlap = ((footprint + width) * 0.5 - x.abs()).clamp(min=0.0)
    return torch.minimum(torch.minimum(overlap, footprint), torch.as_tensor(width, device=x.device)) / footprint


def pulse(x: Tensor, duty: Tensor | float, footprint: Tensor) -> Tensor:
    """Share of a footprint covered by a train of pulses of period 1, each on over [0, duty).

    Example:
        >>> import torch
        >>> [round(v, 2) for v in pulse(torch.tensor([0.2, 0.7, 0.3]), 0.5, torch.tensor([0.1, 0.1, 9.0])).tolist()]
        [1.0, 0.0, 0.5]
    """
    half = footprint.clamp(min=1e-3) * 0.5
    a, b = x - half, x + half
    fa, fb = a.floor(), b.floor()
    duty = torch.as_tensor(duty, device=x.device, dtype=x.dtype)
    return ((fb - fa) * duty + torch.minimum(b - fb, duty) - torch.minimum(a - fa, duty)) / (2 * half)


def blobs(x: Tensor, y: Tensor, fx: Tensor, fy: Tensor, waves: tuple[tuple[float, float, float], ...]) -> Tensor:
    """A smooth, irregular texture: warped waves, each faded by how much of it a pixel sees at once.

    Args:
        x, y: Coordinates on the surface (m).
        fx, fy: Footprint of a pixel along them (m).
        waves: (angular frequency along x, along y, strength) of each wave, in rad/m.
    """
    total = torch.zeros_like(x)
    warp = 1.4 * (0.61 * y).sin()
    for i, (wx, wy, strength) in enumerate(waves):
        seen = torch.exp(-((wx * fx).square() + (wy * fy).square()) * 0.08)
        total = total + strength * seen * (wx * x + wy * y + (1.0 + 0.6 * i) * warp + 2.1 * i).sin()
    return total


def wrap(x: Tensor, period: float) -> Tensor:
    """`x` moved by whole periods into [-period / 2, period / 2]."""
    return x - period * (x * (1.0 / period)).round()
