"""How near a reconstruction is to its original."""

from __future__ import annotations

import torch


def psnr(reconstruction: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in dB of each sample of a batch.

    Args:
        reconstruction: `(b, ...)`, nominally in [-1, 1]; values outside are clipped.
        frames: The same axes, in [-1, 1].

    Returns:
        `(b,)`.

    Example:
        >>> psnr(torch.full((1, 3, 4, 4), 0.2), torch.zeros(1, 3, 4, 4))
        tensor([20.])
    """
    error = (reconstruction.float().clamp(-1, 1) - frames.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(4 / error)
