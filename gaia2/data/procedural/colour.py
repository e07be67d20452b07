"""Colours as three tensors, so that one fused loop over the rays computes all channels."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Rgb", "mix", "times", "plus", "grey", "tint"]

Rgb = tuple[Tensor | float, Tensor | float, Tensor | float]
"""Red, green and blue in display values, each a number or broadcastable to `(i, p)`."""


def _blend(a: Tensor | float, b: Tensor | float, share: Tensor) -> Tensor:
    step = b - a
    if isinstance(a, Tensor) and isinstance(step, Tensor) and a.shape == step.shape == share.shape:
        return torch.addcmul(a, share, step)
    return share * step + a


def mix(a: Rgb, b: Rgb, share: Tensor) -> Rgb:
    """`a` where `share` is 0, `b` where it is 1."""
    return _blend(a[0], b[0], share), _blend(a[1], b[1], share), _blend(a[2], b[2], share)


def times(a: Rgb, b: Rgb) -> Rgb:
    """The channels multiplied: a surface under a light."""
    return a[0] * b[0], a[1] * b[1], a[2] * b[2]


def plus(a: Rgb, b: Rgb) -> Rgb:
    """The channels added."""
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def tint(a: Rgb, factor: Tensor | float) -> Rgb:
    """All channels times one factor."""
    return a[0] * factor, a[1] * factor, a[2] * factor


def grey(value: Tensor | float) -> Rgb:
    """The same value in all channels."""
    return value, value, value
