"""Perceptual losses: distances of frames in the features of a frozen image network (paper §2.1.3, §4)."""

from __future__ import annotations

import torch
from torch import nn

from gaia2.losses.frozen import FrozenNetworkLoss, paired_images


class LPIPSLoss(FrozenNetworkLoss):
    """Learned perceptual image patch similarity (Zhang et al. 2018; paper §4: weight 0.1).

    Args:
        network: Called with reconstructed and true images `(n, 3, h, w)` in [-1, 1], gives a distance for each; for
            example `lpips.LPIPS`. `LPIPSLoss.from_pretrained` makes one.
        weight: Weight of the term.
        num_frames: Compare so many frames of each video, chosen at random each time; None compares all.

    Example:
        >>> class Distance(nn.Module):
        ...     def forward(self, one, other):
        ...         return (one - other).square().mean(dim=(1, 2, 3), keepdim=True)
        >>> LPIPSLoss(network=Distance())(torch.zeros(1, 3, 8, 4, 4), torch.ones(1, 3, 8, 4, 4))
        {'lpips': tensor(0.1000)}
    """

    def __init__(self, *, network: nn.Module, weight: float = 0.1, num_frames: int | None = None) -> None:
        super().__init__(network=network, weight=weight)
        self.num_frames = num_frames

    @classmethod
    def from_pretrained(cls, net: str = "vgg", *, weight: float = 0.1, num_frames: int | None = None) -> LPIPSLoss:
        """Load the package lpips and the ImageNet weights of its backbone, which torchvision downloads.

        Args:
            net: Backbone: "vgg", "alex" or "squeeze".
            weight: Weight of the term.
            num_frames: Compare so many frames of each video; None compares all.

        Raises:
            ImportError: If lpips or torchvision cannot be imported.
            OSError: If the backbone's weights cannot be had.
        """
        try:
            import lpips
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision was built for another torch
            raise ImportError(
                "lpips: the term needs the packages lpips and torchvision; pip install 'gaia2[lpips]', or turn the "
                "term off with weight 0"
            ) from error
        try:
            network = lpips.LPIPS(net=net, verbose=False)
        except OSError as error:
            raise OSError(
                f"lpips: expected the ImageNet weights of {net!r} in torch's hub cache or a way to download them, got: "
                f"{error}; put them there, or turn the term off with weight 0"
            ) from error
        return cls(network=network, weight=weight, num_frames=num_frames)

    def forward(
        self, reconstruction: torch.Tensor, frames: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted term by name.

        Args:
            reconstruction: Gets the gradient.
            frames: What it should be.
            generator: Of the choice of frames, on the CPU.

        Raises:
            ValueError: If the shapes differ, or there are fewer frames than `num_frames`.
        """
        images, target = paired_images(reconstruction, frames, num_frames=self.num_frames, generator=generator)
        return {"lpips": self.weight * self.network(images, target.detach()).float().mean()}


class PerceptualLoss(FrozenNetworkLoss):
    """Distance of features by layer, with any network: LPIPS without its learned channel weights.

    The channels at each place are scaled to unit length; the squared difference is summed over channels and averaged
    over places and layers. It is between 0 and 4.

    Args:
        network: Maps images `(n, 3, h, w)` in [-1, 1] to features `(n, c', h', w')` by layer name; for example
            `efficientnet_lite0()`, or `LayerFeatures` of a network of your own.
        weight: Weight of the term.
        num_frames: Compare so many frames of each video, chosen at random each time; None compares all.

    Example:
        >>> from gaia2.losses.features import efficientnet_lite0
        >>> loss = PerceptualLoss(network=efficientnet_lite0(), num_frames=2)
        >>> frames = torch.rand(1, 3, 8, 32, 64) * 2 - 1
        >>> loss(frames, frames)
        {'perceptual': tensor(0.)}
    """

    def __init__(self, *, network: nn.Module, weight: float = 0.1, num_frames: int | None = None) -> None:
        super().__init__(network=network, weight=weight)
        self.num_frames = num_frames

    def forward(
        self, reconstruction: torch.Tensor, frames: torch.Tensor, *, generator: torch.Generator | None = None
    ) -> dict[str, torch.Tensor]:
        """Compare frames `(b, c, tv, hv, wv)` in [-1, 1]; gives the weighted term by name.

        Args:
            reconstruction: Gets the gradient.
            frames: What it should be.
            generator: Of the choice of frames, on the CPU.

        Raises:
            ValueError: If the shapes differ, or there are fewer frames than `num_frames`.
        """
        images, target = paired_images(reconstruction, frames, num_frames=self.num_frames, generator=generator)
        with torch.no_grad():
            expected = self.network(target)
        distances = [
            (_unit_length(features) - _unit_length(expected[name])).square().sum(dim=1).mean()
            for name, features in self.network(images).items()
        ]
        return {"perceptual": self.weight * torch.stack(distances).mean()}


def _unit_length(features: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """Scale the channels at each place of features `(n, c, h, w)`; `eps` keeps the gradient finite where all are 0."""
    features = features.float()
    return features * torch.rsqrt(features.square().sum(dim=1, keepdim=True) + eps)
