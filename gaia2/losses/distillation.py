"""Latents that know what DINOv2 sees (paper §2.1.3, §4)."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from gaia2.losses.features import ImageNormalization
from gaia2.losses.frozen import FRAMES_HINT, RGB, FrozenNetworkLoss
from gaia2.nn.shapes import check_axes


class DINODistillationLoss(FrozenNetworkLoss):
    """Cosine distance of latents, through a learned linear head, from DINOv2's features (paper §4: weight 0.1).

    Frames are resized so that DINOv2's patches lie on the latent grid (448x960 to 196x420 for 14x30), and its features
    are interpolated linearly to the times of the latents. Only the frames that the interpolation reads are computed.

    The head is trained with the tokenizer: give `head.parameters()` to its optimizer, and save `head` with it.

    Args:
        network: A `transformers.Dinov2Model`, or a model with the same output and configuration.
        latent_channels: Channels of a latent.
        weight: Weight of the term.

    Attributes:
        head: Linear layer from latents to features.

    Example:
        >>> from transformers import Dinov2Config, Dinov2Model
        >>> config = Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> loss = DINODistillationLoss(network=Dinov2Model(config), latent_channels=4)
        >>> loss(torch.randn(1, 4, 3, 2, 4), torch.zeros(1, 3, 24, 64, 128))
        {'dino': tensor(..., grad_fn=<MulBackward0>)}
    """

    def __init__(self, *, network: nn.Module, latent_channels: int = 64, weight: float = 0.1) -> None:
        super().__init__(network=network, weight=weight)
        self.normalize = ImageNormalization()
        config: Any = network.config
        self.patch_size: int = config.patch_size
        self.head = nn.Linear(latent_channels, config.hidden_size)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str = "facebook/dinov2-large", *, latent_channels: int = 64, weight: float = 0.1
    ) -> DINODistillationLoss:
        """Load DINOv2 from the hub, its cache or a folder.

        Args:
            name_or_path: Hub id or folder of a DINOv2, with or without registers, as safetensors.
            latent_channels: Channels of a latent.
            weight: Weight of the term.

        Raises:
            OSError: If the weights cannot be had.
        """
        from transformers import AutoModel

        try:
            network = AutoModel.from_pretrained(name_or_path, use_safetensors=True)
        except OSError as error:
            raise OSError(
                f"dino: expected the weights of {name_or_path!r} in the hub's cache or a way to download them, got: "
                f"{error}; give a folder that holds them, or turn the term off with weight 0"
            ) from error
        return cls(network=network, latent_channels=latent_channels, weight=weight)

    def forward(self, latents: torch.Tensor, frames: torch.Tensor) -> dict[str, torch.Tensor]:
        """Compare latents with the features of the frames that they encode; gives the weighted term by name.

        Args:
            latents: `(b, c, t, h, w)`, un-normalised; gets the gradient.
            frames: `(b, c, tv, hv, wv)` in [-1, 1].

        Raises:
            ValueError: If axes or sizes do not fit.
        """
        check_axes(
            "latents",
            latents,
            "b c t h w",
            c=self.head.in_features,
            hint="make the loss with the tokenizer's latent_channels",
        )
        check_axes("frames", frames, "b c tv hv wv", b=latents.shape[0], c=RGB, hint=FRAMES_HINT)
        predicted = self.head(rearrange(latents, "b c t h w -> b t h w c"))
        target = self.target(frames, *latents.shape[2:])
        similarity = functional.cosine_similarity(predicted.float(), target.float(), dim=-1)
        return {"dino": self.weight * (1 - similarity.mean())}

    @torch.no_grad()
    def target(self, frames: torch.Tensor, t: int, h: int, w: int) -> torch.Tensor:
        """Features of frames `(b, c, tv, hv, wv)` in [-1, 1] on a latent grid: `(b, t, h, w, c')`."""
        b, _, tv = frames.shape[:3]
        before, after, fraction = _interpolation(tv, t)
        read = sorted({*before, *after})
        images = rearrange(frames[:, :, read], "b c t hv wv -> (b t) c hv wv")
        size = (h * self.patch_size, w * self.patch_size)
        images = functional.interpolate(images.float(), size, mode="bilinear", antialias=True)
        tokens = self.network(pixel_values=self.normalize(images)).last_hidden_state
        tokens = tokens[:, -h * w :]  # the class token and registers come first
        features = rearrange(tokens, "(b t) (h w) c -> b t h w c", b=b, h=h)
        one = features[:, [read.index(i) for i in before]]
        other = features[:, [read.index(i) for i in after]]
        weight = torch.tensor(fraction, device=features.device, dtype=features.dtype)
        return torch.lerp(one, other, rearrange(weight, "t -> t 1 1 1"))


def _interpolation(tv: int, t: int) -> tuple[list[int], list[int], list[float]]:
    """Frames before and after the centre of each of `t` equal parts of `tv` frames, and the share of the later one."""
    centres = [min(max((i + 0.5) * tv / t - 0.5, 0.0), tv - 1.0) for i in range(t)]
    before = [int(centre) for centre in centres]
    fraction = [centre - i for centre, i in zip(centres, before, strict=True)]
    return before, [i + (f > 0) for i, f in zip(before, fraction, strict=True)], fraction
