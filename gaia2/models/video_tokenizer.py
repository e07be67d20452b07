"""The video tokenizer: frames of one camera to latents and back (paper §2.1).

Axes: b batch, c channels, tv video frames, hv wv pixels, t latent time, h w latent grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from einops import rearrange
from torch import nn
from torch.utils.checkpoint import checkpoint

from gaia2._registration import register
from gaia2.nn.blocks import SpaceTimeBlock, SpatialBlock
from gaia2.nn.conv import DepthToSpaceUpsample, DownsampleConv, Stride, as_stride
from gaia2.nn.embeddings import sinusoidal_embedding, spatial_position_embedding
from gaia2.nn.shapes import check_axes

INITIAL_LOGVAR = -6.0
ODD_KERNEL = 3  # height and width of the convolutions that are not patch cuts


class VideoEncoder(nn.Module):
    """Maps each group of frames to one latent, alone (paper §2.1.1).

    Frames are strided in time, two convolutions reach the transformer's grid, spatial blocks mix it, and a last
    convolution and a linear layer give mean and log-variance of a Gaussian.

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
        self.blocks = nn.ModuleList(SpatialBlock(dim=dim, num_heads=num_heads) for _ in range(num_blocks))
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
        x = rearrange(self.middle_conv(x), "b c t h w -> b t h w c")
        x = x + spatial_position_embedding(*x.shape[2:], device=x.device).to(x.dtype)
        for block in self.blocks:
            x = _run(self, block, x)
        x = self.last_conv(rearrange(self.norm_out(x), "b t h w c -> b c t h w"))
        x = self.to_moments(rearrange(x, "b c t h w -> b t h w c"))
        return rearrange(x, "(b t) 1 h w c -> b c t h w", b=b)


class VideoDecoder(nn.Module):
    """Maps latents, all together, to frames (paper §2.1.2).

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
        self.first_blocks = nn.ModuleList(SpaceTimeBlock(dim=dim, num_heads=num_heads) for _ in range(num_blocks[0]))
        self.second_upsample = DepthToSpaceUpsample(
            in_channels=dim, out_channels=dim, stride=second, kernel_size=kernel_size
        )
        self.second_blocks = nn.ModuleList(SpaceTimeBlock(dim=dim, num_heads=num_heads) for _ in range(num_blocks[1]))
        self.norm_out = nn.LayerNorm(dim)
        self.last_upsample = DepthToSpaceUpsample(
            in_channels=dim, out_channels=out_channels, stride=last, kernel_size=kernel_size
        )
        self.gradient_checkpointing = False

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Map latents `(b, L, t, h, w)` to frames `(b, c, tv, hv, wv)`."""
        x = rearrange(self.from_latents(rearrange(latents, "b c t h w -> b t h w c")), "b t h w c -> b c t h w")
        for upsample, blocks in (
            (self.first_upsample, self.first_blocks),
            (self.second_upsample, self.second_blocks),
        ):
            x = rearrange(upsample(x), "b c t h w -> b t h w c")
            x = x + _space_time_positions(x)
            for block in blocks:
                x = _run(self, block, x)
            x = rearrange(x, "b t h w c -> b c t h w")
        x = self.norm_out(rearrange(x, "b c t h w -> b t h w c"))
        return self.last_upsample(rearrange(x, "b t h w c -> b c t h w"))


@register
class VideoTokenizer(ModelMixin, AutoencoderMixin, ConfigMixin):
    """Compresses the video of one camera to a small grid of latents, and decodes it (paper §2.1).

    At the paper's size `(tv, hv, wv) = (24, 448, 960)` becomes `(t, h, w) = (3, 14, 30)` of 64 channels, 384 times
    fewer numbers. A latent depends on exactly its own `frames_per_latent` frames; decoding looks at `decode_window`
    latents at once.

    Args:
        in_channels: Channels of a frame.
        latent_channels: Channels of a latent.
        dim: Channels inside the encoder and the decoder.
        num_heads: Attention heads.
        encoder_blocks: Spatial blocks of the encoder.
        decoder_blocks: Space-time blocks of the decoder's two stages.
        frame_stride: The encoder reads every `frame_stride`-th frame.
        encoder_strides: `(time, height, width)` of the encoder's convolutions.
        decoder_strides: `(time, height, width)` of the decoder's up-samplings.
        decoder_kernel_size: `(time, height, width)` of the decoder's convolutions.
        decode_window: Latents that are decoded together, an odd number.
        latents_mean: Mean of the latents, one number or one a channel; measured after training.
        latents_std: Standard deviation of the latents, likewise.
        sample_size: Pixels `(height, width)` that it was trained at; others work.

    Raises:
        ValueError: If the encoder's and the decoder's height and width strides differ, or a per-channel statistic
            has another length than `latent_channels`.

    Example:
        >>> tokenizer = VideoTokenizer(
        ...     latent_channels=4, dim=16, num_heads=4, encoder_blocks=1, decoder_blocks=(1, 1),
        ...     encoder_strides=((2, 4, 4), (2, 2, 2), (1, 2, 2)), decoder_strides=((1, 2, 2), (2, 2, 2), (4, 4, 4)))
        >>> latents = tokenizer.encode(torch.zeros(1, 3, 24, 32, 64)).latent_dist.sample()
        >>> latents.shape, tokenizer.decode(latents).sample.shape
        (torch.Size([1, 4, 3, 2, 4]), torch.Size([1, 3, 24, 32, 64]))
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["SpatialBlock", "SpaceTimeBlock"]
    _repeated_blocks = ["SpatialBlock", "SpaceTimeBlock"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 64,
        dim: int = 512,
        num_heads: int = 16,
        encoder_blocks: int = 24,
        decoder_blocks: tuple[int, int] = (16, 8),
        frame_stride: int = 2,
        encoder_strides: tuple[Stride, ...] = ((2, 8, 8), (2, 2, 2), (1, 2, 2)),
        decoder_strides: tuple[Stride, ...] = ((1, 2, 2), (2, 2, 2), (4, 8, 8)),
        decoder_kernel_size: Stride = (3, 3, 3),
        decode_window: int = 3,
        latents_mean: float | Sequence[float] = 0.0,
        latents_std: float | Sequence[float] = 1.0,
        sample_size: tuple[int, int] = (448, 960),
    ) -> None:
        super().__init__()
        down = [math.prod(s[axis] for s in encoder_strides) for axis in range(3)]
        up = [math.prod(s[axis] for s in decoder_strides) for axis in range(3)]
        if down[1:] != up[1:]:
            raise ValueError(
                f"decoder_strides: expected to undo the encoder's {down[1:]} (height, width), got {up[1:]}"
            )
        for name, value in (("latents_mean", latents_mean), ("latents_std", latents_std)):
            if isinstance(value, Sequence) and len(value) != latent_channels:
                raise ValueError(
                    f"{name}: expected one number or latent_channels={latent_channels} of them, got {len(value)}"
                )
        if decode_window % 2 == 0:
            raise ValueError(f"decode_window: expected an odd number, so that it has a middle, got {decode_window}")
        self.frames_per_latent = frame_stride * down[0]
        self.decoded_frames_per_latent = up[0]
        self.spatial_compression_ratio = down[1]
        self.encoder = VideoEncoder(
            in_channels=in_channels,
            latent_channels=latent_channels,
            dim=dim,
            num_heads=num_heads,
            num_blocks=encoder_blocks,
            frame_stride=frame_stride,
            strides=encoder_strides,
        )
        self.decoder = VideoDecoder(
            out_channels=in_channels,
            latent_channels=latent_channels,
            dim=dim,
            num_heads=num_heads,
            num_blocks=decoder_blocks,
            strides=decoder_strides,
            kernel_size=decoder_kernel_size,
        )

    def encode(
        self, frames: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encode the video of one camera.

        Args:
            frames: `(b, c, tv, hv, wv)` in [-1, 1]; tv a multiple of `frames_per_latent`, hv and wv of the spatial
                compression.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `latent_dist`, a Gaussian over latents `(b, L, t, h, w)`, not normalised: see `normalize`.

        Raises:
            ValueError: If the axes or the sizes do not fit.
        """
        self._check_frames(frames)
        latent_dist = DiagonalGaussianDistribution(self.encoder(frames))
        return AutoencoderKLOutput(latent_dist=latent_dist) if return_dict else (latent_dist,)

    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Decode latents, all of them together.

        Args:
            latents: `(b, L, t, h, w)`, un-normalised. Training decodes `decode_window` of them; for longer videos use
                `rolling_decode`.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `sample`, frames `(b, c, tv, hv, wv)`, about [-1, 1].
        """
        self._check_latents(latents)
        frames = self.decoder(latents)
        return DecoderOutput(sample=frames) if return_dict else (frames,)

    def rolling_decode(self, latents: torch.Tensor, windows_per_batch: int = 16) -> torch.Tensor:
        """Decode a video of any length with a sliding window (paper §2.1.2, figure 3).

        Windows of `decode_window` latents move by one; each gives the frames of its middle latent, and the first and
        the last also those of their edge. Exactly one window equals `decode`.

        Args:
            latents: `(b, L, t, h, w)`, un-normalised.
            windows_per_batch: Windows decoded at once; bounds the memory.

        Returns:
            Frames `(b, c, tv, hv, wv)`, about [-1, 1].
        """
        self._check_latents(latents)
        window = self.config.decode_window
        b, _, t = latents.shape[:3]
        if t <= window:
            return self.decoder(latents)
        windows = rearrange(latents.unfold(2, window, 1), "b c s h w k -> (b s) c k h w")
        decoded = torch.cat([self.decoder(part) for part in windows.split(windows_per_batch)])
        decoded = rearrange(decoded, "(b s) c (k g) hv wv -> b s k c g hv wv", b=b, k=window)
        edge = window // 2
        kept = torch.cat([decoded[:, 0, :edge], decoded[:, :, edge], decoded[:, -1, edge + 1 :]], dim=1)
        return rearrange(kept, "b t c g hv wv -> b c (t g) hv wv")

    def forward(
        self,
        sample: torch.Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[torch.Tensor]:
        """Encode and decode frames `(b, c, tv, hv, wv)` in [-1, 1]; takes the mean latent unless told to sample."""
        latent_dist = self.encode(sample, return_dict=False)[0]
        latents = latent_dist.sample(generator=generator) if sample_posterior else latent_dist.mode()
        return self.decode(latents, return_dict=return_dict)

    def normalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Bring latents `(b, L, t, h, w)` to the mean 0 and standard deviation 1 that flow matching works at."""
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Undo `normalize`."""
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (1, -1, 1, 1, 1)
        mean, std = (torch.as_tensor(v, dtype=like.dtype, device=like.device).reshape(shape)
                     for v in (self.config.latents_mean, self.config.latents_std))  # fmt: skip
        return mean, std

    def _check_frames(self, frames: torch.Tensor) -> None:
        check_axes("frames", frames, "b c tv hv wv", c=self.config.in_channels, hint="give one camera at a time")
        multiples = (self.frames_per_latent, self.spatial_compression_ratio, self.spatial_compression_ratio)
        for name, size, multiple in zip(("tv", "hv", "wv"), frames.shape[2:], multiples, strict=True):
            if size % multiple:
                below, above = size // multiple * multiple, -(-size // multiple) * multiple
                nearest = f"{below} or {above}" if below else f"{above}"
                raise ValueError(
                    f"frames: expected {name} to be a multiple of {multiple}, got {size}; crop or pad to {nearest}"
                )

    def _check_latents(self, latents: torch.Tensor) -> None:
        check_axes(
            "latents",
            latents,
            "b c t h w",
            c=self.config.latent_channels,
            hint="encode the frames with this VideoTokenizer",
        )


def _odd_kernel(stride: Stride) -> Stride:
    return (1 if stride[0] == 1 else ODD_KERNEL, ODD_KERNEL, ODD_KERNEL)


def _space_time_positions(x: torch.Tensor) -> torch.Tensor:
    """Sinusoids of row, column and time that broadcast against tokens `(b, t, h, w, c)`."""
    t, h, w, c = x.shape[1:]
    time = sinusoidal_embedding(torch.arange(t, device=x.device), c)
    space = spatial_position_embedding(h, w, c, device=x.device)
    return (rearrange(time, "t c -> t 1 1 c") + space).to(x.dtype)


def _run(model: nn.Module, block: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    if model.gradient_checkpointing and torch.is_grad_enabled():
        return checkpoint(block, x, use_reentrant=False)
    return block(x)
