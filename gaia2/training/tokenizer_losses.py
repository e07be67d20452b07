"""All losses of the tokenizer's training together (paper §2.1.3, §4)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import nn

from gaia2.losses.distillation import DINODistillationLoss
from gaia2.losses.features import efficientnet_lite0
from gaia2.losses.perceptual import LPIPSLoss, PerceptualLoss
from gaia2.losses.reconstruction import KLLoss, PixelLoss, SeamLoss

PerceptualNetwork = Literal["lpips", "efficientnet-lite0"]


class TokenizerLosses(nn.Module):
    """Distances of pixels, and as many of the other terms as are given.

    Args:
        pixel: L1 and L2.
        seam: Jumps of the error at borders in time.
        kl: Divergence of the latents from a Gaussian.
        perceptual: LPIPS, or a perceptual loss of another network.
        dino: Distillation into the latents. Its head is trained: it is among the parameters that ask for a gradient.

    Example:
        >>> losses = TokenizerLosses(pixel=PixelLoss(), kl=KLLoss())
        >>> frames, unit = torch.zeros(1, 3, 8, 4, 4), DiagonalGaussianDistribution(torch.zeros(1, 8, 1, 1, 1))
        >>> losses(frames + 1, frames, latent_dist=unit, latents=unit.mode())
        {'l1': tensor(0.2000), 'l2': tensor(2.), 'kl': tensor(0.)}
    """

    def __init__(
        self,
        *,
        pixel: PixelLoss,
        seam: SeamLoss | None = None,
        kl: KLLoss | None = None,
        perceptual: LPIPSLoss | PerceptualLoss | None = None,
        dino: DINODistillationLoss | None = None,
    ) -> None:
        super().__init__()
        self.pixel, self.seam, self.kl, self.perceptual, self.dino = pixel, seam, kl, perceptual, dino

    def forward(
        self,
        reconstruction: torch.Tensor,
        frames: torch.Tensor,
        *,
        latent_dist: DiagonalGaussianDistribution,
        latents: torch.Tensor,
        weight: torch.Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, torch.Tensor]:
        """Weighted terms by name.

        Args:
            reconstruction: `(b, c, tv, hv, wv)`, decoded from `latents`.
            frames: Likewise, in [-1, 1].
            latent_dist: Distribution of the latents of `frames`.
            latents: A sample of it, `(b, L, t, h, w)`.
            weight: `(b, tv, hv, wv)`, how much each pixel counts for L1 and L2; None is equally.
            generator: Of the choice of frames that the perceptual term compares, on the CPU.
        """
        terms = self.pixel(reconstruction, frames, weight)
        if self.seam is not None:
            terms |= self.seam(reconstruction, frames)
        if self.perceptual is not None:
            terms |= self.perceptual(reconstruction, frames, generator=generator)
        if self.dino is not None:
            terms |= self.dino(latents, frames)
        if self.kl is not None:
            terms |= self.kl(latent_dist)
        return terms


def make_perceptual_loss(
    weight: float, *, network: PerceptualNetwork, num_frames: int | None = None
) -> LPIPSLoss | PerceptualLoss | None:
    """Load the network of the perceptual term; None for weight 0.

    Args:
        weight: Weight of the term.
        network: "lpips" (paper §4), whose VGG is downloaded, or "efficientnet-lite0", whose weights come in a package.
        num_frames: Compare so many frames of each video; None compares all.

    Raises:
        ValueError: If the network cannot be had, with what it needs and how to turn the term off.
    """
    if not weight:
        return None
    with _needs_network("perceptual-weight"):
        if network == "lpips":
            return LPIPSLoss.from_pretrained(weight=weight, num_frames=num_frames)
        return PerceptualLoss(network=efficientnet_lite0(), weight=weight, num_frames=num_frames)


def make_dino_loss(weight: float, *, network: str, latent_channels: int) -> DINODistillationLoss | None:
    """Load DINOv2 from the hub, its cache or a folder; None for weight 0.

    Args:
        weight: Weight of the term.
        network: Hub id or folder.
        latent_channels: Channels of a latent.

    Raises:
        ValueError: If the network cannot be had, with what it needs and how to turn the term off.
    """
    if not weight:
        return None
    with _needs_network("dino-weight"):
        return DINODistillationLoss.from_pretrained(network, latent_channels=latent_channels, weight=weight)


@contextmanager
def _needs_network(option: str) -> Iterator[None]:
    try:
        yield
    except (ImportError, OSError) as error:
        raise ValueError(f"{error} (this is the term of --{option}; --{option} 0 trains without it)") from error
