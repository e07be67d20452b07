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

    def forward(
        self, reconstruction: torch.Tensor, frames: torch.Tensor, weight: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted terms by name.

        Args:
            reconstruction: Decoded frames.
            frames: The true ones.
            weight: `(b, tv, hv, wv)`, how much each pixel counts; None is equally.
        """
        difference = reconstruction.float() - frames.float()
        absolute, square = difference.abs(), difference.square()
        if weight is not None:
            absolute, square = absolute * weight[:, None], square * weight[:, None]
        return {"l1": self.l1_weight * absolute.mean(), "l2": self.l2_weight * square.mean()}


class SeamLoss(nn.Module):
    """Weighted absolute difference of the changes across borders in time; not of the paper.

    A decoder makes some frames at once, and each latent brings errors of its own. At the borders the errors jump, which
    shows as a flicker; in still parts of a picture most of all, which the absolute difference does not overlook.

    Args:
        weight: Weight of the term.
        period: Frames from one border to the next.

    Raises:
        ValueError: If a video has no border.

    Example:
        >>> ramp = torch.arange(4.0).reshape(1, 1, 4, 1, 1)
        >>> loss = SeamLoss(weight=2.0, period=2)
        >>> loss(ramp + 5, ramp), loss(torch.tensor([0.0, 0, 3, 3]).reshape(1, 1, 4, 1, 1), ramp)
        ({'seam': tensor(0.)}, {'seam': tensor(4.)})
    """

    def __init__(self, *, weight: float, period: int) -> None:
        super().__init__()
        self.weight, self.period = weight, period

    def forward(self, reconstruction: torch.Tensor, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted term by name."""
        if frames.shape[2] <= self.period:
            raise ValueError(f"frames: expected more than the {self.period} of one period, got {frames.shape[2]}")
        error = reconstruction.float() - frames.float()
        jump = error[:, :, self.period :: self.period] - error[:, :, self.period - 1 : -1 : self.period]
        return {"seam": self.weight * jump.abs().mean()}


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
