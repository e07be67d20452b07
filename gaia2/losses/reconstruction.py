"""Losses that compare frames with their reconstruction, and keep the latents near a Gaussian (paper §2.1.3, §4)."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn


class PixelLoss(nn.Module):
    """Weighted L1 and L2 distances of pixels (paper §4: weights 0.2 and 2.0).

    Args:
        l1_weight: Weight of the mean absolute difference.
        l2_weight: Weight of the mean squared difference.

    Example:
        >>> PixelLoss()(torch.zeros(1, 3, 8, 4, 4), torch.ones(1, 3, 8, 4, 4))
        {'l1': tensor(0.2000), 'l2': tensor(2.)}
    """

    def __init__(self, *, l1_weight: float = 0.2, l2_weight: float = 2.0) -> None:
        super().__init__()
        self.l1_weight = l1_weight
        self.l2_weight = l2_weight

    def forward(self, reconstruction: torch.Tensor, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted terms by name."""
        difference = reconstruction.float() - frames.float()
        return {
            "l1": self.l1_weight * difference.abs().mean(),
            "l2": self.l2_weight * difference.square().mean(),
        }


class TemporalLoss(nn.Module):
    """Weighted squared difference of the changes from frame to frame; not of the paper.

    Errors that jump, as where one latent's frames end and the next one's begin, cost more than errors that stay.

    Args:
        weight: Weight of the term.

    Example:
        >>> ramp = torch.arange(8.0).reshape(1, 1, 8, 1, 1)
        >>> TemporalLoss(weight=2.0)(ramp + 5, ramp), TemporalLoss(weight=2.0)(2 * ramp, ramp)
        ({'temporal': tensor(0.)}, {'temporal': tensor(2.)})
    """

    def __init__(self, *, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, reconstruction: torch.Tensor, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted term by name."""
        difference = reconstruction.float() - frames.float()
        return {"temporal": self.weight * difference.diff(dim=2).square().mean()}


class KLLoss(nn.Module):
    """Kullback-Leibler divergence of the latents from a unit Gaussian, mean over all elements (paper §4: 1e-6).

    Args:
        weight: Weight of the term.

    Example:
        >>> unit = DiagonalGaussianDistribution(torch.zeros(1, 8, 3, 2, 4))
        >>> KLLoss()(unit)
        {'kl': tensor(0.)}
    """

    def __init__(self, *, weight: float = 1e-6) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, latent_dist: DiagonalGaussianDistribution) -> dict[str, torch.Tensor]:
        """Take the distribution that `VideoTokenizer.encode` gives; gives the weighted term by name."""
        divergence = 0.5 * (latent_dist.mean.square() + latent_dist.var - 1 - latent_dist.logvar)
        return {"kl": self.weight * divergence.float().mean()}
