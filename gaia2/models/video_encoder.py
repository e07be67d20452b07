"""The encoder of the video tokenizer (paper §2.1.1).

Axes: b batch, c channels, tv video frames, hv wv pixels, t latent time, h w latent grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from einops import rearrange
from torch import nn

from gaia2.models.parts import attentions, run_block
from gaia2.nn.blocks import ModuleFactory, SpatialBlock
from gaia2.nn.conv import DownsampleConv, Stride, as_stride
from gaia2.nn.embeddings import spatial_position_embedding

INITIAL_LOGVAR = -6.0
ODD_KERNEL = 3  # height and width of the convolutions that are not patch cuts


class VideoEncoder(nn.Module):
    """Maps each group of frames to one latent, alone (paper §2.1.1).

    Frames are strided in time, two convolutions reach the transformer's grid, spatial blocks mix it, and a last
    convolution and a linear layer give mean and log-variance of a Gaussian.

    A subclass may name another `block_class`, called with `dim` and `num_heads`, or an `attention_class` of the blocks.

    Args:
        in_channels: Channels of a frame.
        latent_channels: Channels of a latent, the paper's L.
        dim: Channels inside.
        num_heads: Attention heads.
        num_blocks: Spatial transformer blocks.
        frame_stride: Every `frame_stride`-th frame is read.
        strides: `(time, height, width)` of the three convolutions.

    Example:
        >>> encoder = VideoEncoder(
        ...     in_channels=3, latent_channels=4, dim=16, num_heads=4, num_blocks=1, frame_stride=2,
        ...     strides=((2, 4, 4), (2, 2, 2), (1, 2, 2)))
        >>> encoder(torch.zeros(1, 3, 16, 32, 64)).shape
        torch.Size([1, 8, 2, 2, 4])
    """

    block_class: ClassVar[type[nn.Module]] = SpatialBlock
    attention_class: ClassVar[ModuleFactory | None] = None

    def __init__(
        self,
        *,
        in_channels: int,
        latent_channels: int,
        dim: int,
        num_heads: int,
        num_blocks: int,
        frame_stride: int,
        strides: Sequence[Stride],
    ) -> None:
        super().__init__()
        patch, middle, last = (as_stride(s) for s in strides)
        self.frame_stride = frame_stride
        self.frames_per_latent = frame_stride * math.prod(s[0] for s in strides)
        self.patch_conv = DownsampleConv(in_channels=in_channels, out_channels=dim, stride=patch)
        self.activation = nn.SiLU()
        self.middle_conv = DownsampleConv(
            in_channels=dim, out_channels=dim, stride=middle, kernel_size=_odd_kernel(middle)
        )
        parts = attentions(self.attention_class, "spatial_attention")
        self.blocks = nn.ModuleList(self.block_class(dim=dim, num_heads=num_heads, **parts) for _ in range(num_blocks))
        self.norm_out = nn.LayerNorm(dim)
        self.last_conv = DownsampleConv(in_channels=dim, out_channels=dim, stride=last, kernel_size=_odd_kernel(last))
        self.to_moments = nn.Linear(dim, 2 * latent_channels)
        self._start_with_little_noise(latent_channels)
        self.gradient_checkpointing = False

    @torch.no_grad()
    def _start_with_little_noise(self, latent_channels: int) -> None:
        """Let the log-variance start low: noise as large as the latents would hide them from the decoder for long."""
        self.to_moments.weight[latent_channels:] = 0
        self.to_moments.bias[latent_channels:] = INITIAL_LOGVAR

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map frames `(b, c, tv, hv, wv)` to moments `(b, 2 L, t, h, w)`: mean, then log-variance."""
        b = frames.shape[0]
        x = rearrange(frames, "b c (t g) hv wv -> (b t) c g hv wv", g=self.frames_per_latent)
        x = self.activation(self.patch_conv(x[:, :, :: self.frame_stride]))
        x = rearrange(self.middle_conv(x), "b c t h w -> b t h w c").contiguous()  # what is added to it takes its order
        x = x + spatial_position_embedding(*x.shape[2:], device=x.device).to(x.dtype)
        for block in self.blocks:
            x = run_block(self, block, x)
        x = self.last_conv(rearrange(self.norm_out(x), "b t h w c -> b c t h w"))
        x = self.to_moments(rearrange(x, "b c t h w -> b t h w c"))
        return rearrange(x, "(b t) 1 h w c -> b c t h w", b=b)


def _odd_kernel(stride: Stride) -> Stride:
    return (1 if stride[0] == 1 else ODD_KERNEL, ODD_KERNEL, ODD_KERNEL)
