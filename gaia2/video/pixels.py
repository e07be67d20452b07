"""Pixels as bytes, 0 to 255, and as the numbers that models take, -1 to 1; any axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def from_uint8(pixels: torch.Tensor) -> torch.Tensor:
    """Bring bytes to float32 in [-1, 1].

    Example:
        >>> import torch
        >>> from_uint8(torch.tensor([0, 51, 255], dtype=torch.uint8))
        tensor([-1.0000, -0.6000,  1.0000])
    """
    return pixels.float() / 127.5 - 1


def to_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Bring floats in [-1, 1] to the nearest bytes; what lies outside is cut to the range.

    Example:
        >>> import torch
        >>> to_uint8(torch.tensor([-1.0, -0.6, 1.2]))
        tensor([  0,  51, 255], dtype=torch.uint8)
    """
    return ((frames.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def unit_to_uint8(frames: np.ndarray) -> np.ndarray:
    """Bring floats in [0, 1], in which pipelines hand out pictures, to the nearest bytes.

    Example:
        >>> unit_to_uint8(np.array([0.0, 0.5, 1.0]))
        array([  0, 128, 255], dtype=uint8)
    """
    return (frames * 255).round().astype(np.uint8)
