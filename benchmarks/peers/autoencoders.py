"""Video autoencoders of diffusers at their published sizes, with random weights.

Axes: b batch, c channels, tv video frames, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch


def ltx(dtype: torch.dtype, device: str = "cpu") -> Any:
    """LTX-Video's: 8x32x32, 128 channels."""
    return diffusers.AutoencoderKLLTXVideo().to(device, dtype).eval()


def cosmos(dtype: torch.dtype, device: str = "cpu") -> Any:
    """Cosmos': 8x8x8, 16 channels."""
    return diffusers.AutoencoderKLCosmos().to(device, dtype).eval()


def wan(dtype: torch.dtype, device: str = "cpu") -> Any:
    """Wan's: 4x8x8, 16 channels."""
    return diffusers.AutoencoderKLWan().to(device, dtype).eval()


MAKE: dict[str, Callable[..., Any]] = {"LTX": ltx, "Cosmos": cosmos, "Wan": wan}


def frames_for(video: torch.Tensor) -> torch.Tensor:
    """One frame more, as they are causal: `(b, c, tv + 1, hv, wv)`; cost is counted over tv."""
    return torch.cat([video[:, :, :1], video], dim=2)
