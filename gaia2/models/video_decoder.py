"""The decoder of the video tokenizer (paper §2.1.2).

Axes: b batch, c channels, tv video frames, hv wv pixels, t latent time, h w latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from einops import rearrange
from torch import nn

from gaia2.models.parts import attentions, run_block
from gaia2.nn.blocks import ModuleFactory, SpaceTimeBlock
from gaia2.nn.conv import DepthToSpaceUpsample, Stride
from gaia2.nn.embeddings import sinusoidal_embedding, spatial_position_embedding


class VideoDecoder(nn.Module):
    """Maps latents, all together, to frames (paper §2.1.2).

    A subclass may name another `block_class`, called with `dim` and `num_heads`, or an `attention_class` of the blocks.

    Args:
        out_channels: Channels of a frame.
        latent_channels: Channels of a latent, the paper's L.
        dim: Channels inside.
        num_heads: Attention heads.
        num_blocks: Space-time blocks after the first and after the second up-sampling.
        strides: `(time, height, width)` of the three up-samplings.
        kernel_size: `(time, height, width)` of their convolutions.

    Example:
        >>> decoder = VideoDecoder(
        ...     out_channels=3, latent_channels=4, dim=16, num_heads=4, num_blocks=(1, 1),
        ...     strides=((1, 2, 2), (2, 2, 2), (4, 4, 4)), kernel_size=(3, 3, 3))
        >>> decoder(torch.zeros(1, 4, 2, 2, 4)).shape
        torch.Size([1, 3, 16, 32, 64])
    """

    block_class: ClassVar[type[nn.Module]] = SpaceTimeBlock
    attention_class: ClassVar[ModuleFactory | None] = None

    def __init__(
        self,
        *,
        out_channels: int,
        latent_channels: int,
        dim: int,
        num_heads: int,
        num_blocks: Sequence[int],
        strides: Sequence[Stride],
        kernel_size: Stride,
    ) -> None:
        super().__init__()
        first, second, last = strides
        self.from_latents = nn.Linear(latent_channels, dim)
        self.first_upsample = DepthToSpaceUpsample(
            in_channels=dim, out_channels=dim, stride=first, kernel_size=kernel_size
        )
        self.first_blocks = self._make_blocks(num_blocks[0], dim=dim, num_heads=num_heads)
        self.second_upsample = DepthToSpaceUpsample(
            in_channels=dim, out_channels=dim, stride=second, kernel_size=kernel_size
        )
        self.second_blocks = self._make_blocks(num_blocks[1], dim=dim, num_heads=num_heads)
        self.norm_out = nn.LayerNorm(dim)
        self.last_upsample = DepthToSpaceUpsample(
            in_channels=dim, out_channels=out_channels, stride=last, kernel_size=kernel_size
        )
        self.gradient_checkpointing = False

    def _make_blocks(self, number: int, *, dim: int, num_heads: int) -> nn.ModuleList:
        parts = attentions(self.attention_class, "spatial_attention", "temporal_attention")
        return nn.ModuleList(self.block_class(dim=dim, num_heads=num_heads, **parts) for _ in range(number))

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents `(b, L, t, h, w)` to frames `(b, c, tv, hv, wv)`."""
        x = rearrange(self.from_latents(rearrange(latents, "b c t h w -> b t h w c")), "b t h w c -> b c t h w")
        for upsample, blocks in (
            (self.first_upsample, self.first_blocks),
            (self.second_upsample, self.second_blocks),
        ):
            x = rearrange(upsample(x), "b c t h w -> b t h w c").contiguous()  # what is added to it takes its order
            x = x + _space_time_positions(x)
            for block in blocks:
                x = run_block(self, block, x)
            x = rearrange(x, "b t h w c -> b c t h w")
        x = self.norm_out(rearrange(x, "b c t h w -> b t h w c"))
        return self.last_upsample(rearrange(x, "b t h w c -> b c t h w"))


def _space_time_positions(x: torch.Tensor) -> torch.Tensor:
    """Sinusoids of row, column and time that broadcast against tokens `(b, t, h, w, c)`."""
    t, h, w, c = x.shape[1:]
    time = sinusoidal_embedding(torch.arange(t, device=x.device), c)
    space = spatial_position_embedding(h, w, c, device=x.device)
    return (rearrange(time, "t c -> t 1 1 c") + space).to(x.dtype)
