"""The video tokenizer: frames of one camera to latents and back (paper §2.1).

Axes: b batch, c channels, tv video frames, hv wv pixels, t latent time, h w latent grid, g frames of a latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.attention import AttentionMixin
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn import functional

from gaia2._checks import refuse, whole_number
from gaia2._registration import register
from gaia2._typed import register_to_config
from gaia2.models.config_checks import MAX_SIDE, check_video_tokenizer
from gaia2.models.lora import LoraAdapterMixin
from gaia2.models.parts import SwappableParts
from gaia2.models.sliding_window import SlidingWindow
from gaia2.models.tiling import Tiles
from gaia2.models.video_decoder import VideoDecoder
from gaia2.models.video_encoder import VideoEncoder
from gaia2.nn.conv import Stride
from gaia2.nn.shapes import check_axes, check_floats

OUT_OF_RANGE = 1.1  # frames are nominally in [-1, 1]; resizing and compression may overshoot a little


@register
class VideoTokenizer(SwappableParts, ModelMixin, AttentionMixin, AutoencoderMixin, ConfigMixin, LoraAdapterMixin):
    """Compresses the video of one camera to a small grid of latents, and decodes it (paper §2.1).

    At the paper's size `(tv, hv, wv) = (24, 448, 960)` becomes `(t, h, w) = (3, 14, 30)` of 64 channels, 384 times
    fewer numbers. A latent depends on exactly its own `frames_per_latent` frames; decoding looks at `decode_window`
    latents at once. A subclass may name another `encoder_class` or `decoder_class`, see docs/swap_a_part.md.

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
        sample_size: Pixels `(height, width)` that it was trained at. Larger frames are cut into tiles of this size, see
            `enable_tiling`.

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

    encoder_class: ClassVar[type[VideoEncoder]] = VideoEncoder
    decoder_class: ClassVar[type[VideoDecoder]] = VideoDecoder

    lora_prefix = "vae"
    _supports_gradient_checkpointing = True

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
        check_video_tokenizer(self.config)
        down = [math.prod(s[axis] for s in encoder_strides) for axis in range(3)]
        up = [math.prod(s[axis] for s in decoder_strides) for axis in range(3)]
        self.frames_per_latent = frame_stride * down[0]
        self.decoded_frames_per_latent = up[0]
        self.spatial_compression_ratio = down[1]
        self.encoder = self.encoder_class(
            in_channels=in_channels,
            latent_channels=latent_channels,
            dim=dim,
            num_heads=num_heads,
            num_blocks=encoder_blocks,
            frame_stride=frame_stride,
            strides=encoder_strides,
        )
        self.decoder = self.decoder_class(
            out_channels=in_channels,
            latent_channels=latent_channels,
            dim=dim,
            num_heads=num_heads,
            num_blocks=decoder_blocks,
            strides=decoder_strides,
            kernel_size=decoder_kernel_size,
        )
        self.use_slicing = False
        self.use_tiling = True  # larger frames than it was trained at cost several dB where they are not tiled
        self._tiles = self._tiles_of(size=(None, None), stride=(None, None))

    @classmethod
    def block_classes(cls) -> list[type[nn.Module]]:
        """The classes of the blocks of the encoder and of the decoder."""
        return [cls.encoder_class.block_class, cls.decoder_class.block_class]

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pretrained(  # noqa: D102
            cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any
        ) -> Self: ...

    @property
    def compression_ratio(self) -> float:
        """Numbers of the frames for each number of the latents; 384 at the paper's size."""
        pixels = self.config.in_channels * self.frames_per_latent * self.spatial_compression_ratio**2
        return pixels / self.config.latent_channels

    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
    ) -> None:
        """Encode and decode frames larger than a tile tile by tile, blended linearly where tiles overlap.

        It bounds the memory, and shows the model no larger picture than it was trained at. It is on from the start,
        with tiles of `sample_size`; `disable_tiling` shows the model whole frames of any size.

        Args:
            tile_sample_min_height: Pixels of a tile; those of `sample_size` if not given.
            tile_sample_min_width: Likewise.
            tile_sample_stride_height: Pixels from one tile to the next; three quarters of a tile if not given.
            tile_sample_stride_width: Likewise.

        Raises:
            ValueError: If a number is not a multiple of the spatial compression, or a stride is larger than its tile.
        """
        sizes = dict(
            tile_sample_min_height=tile_sample_min_height,
            tile_sample_min_width=tile_sample_min_width,
            tile_sample_stride_height=tile_sample_stride_height,
            tile_sample_stride_width=tile_sample_stride_width,
        )
        for name, value in sizes.items():
            if value is not None:
                whole_number(name, value, 1, MAX_SIDE)
        self._tiles = self._tiles_of(
            size=(tile_sample_min_height, tile_sample_min_width),
            stride=(tile_sample_stride_height, tile_sample_stride_width),
        )
        self.use_tiling = True

    @overload
    def encode(self, frames: torch.Tensor, return_dict: Literal[True] = True) -> AutoencoderKLOutput: ...

    @overload
    def encode(self, frames: torch.Tensor, return_dict: Literal[False]) -> tuple[DiagonalGaussianDistribution]: ...

    @apply_forward_hook
    def encode(
        self, frames: torch.Tensor, return_dict: bool = True
    ) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        """Encode the video of one camera.

        Args:
            frames: `(b, c, tv, hv, wv)` in [-1, 1]; tv a multiple of `frames_per_latent`, hv and wv of the spatial
                compression. `pad` makes them so.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `latent_dist`, a Gaussian over latents `(b, L, t, h, w)`, not normalised: see `normalize`.

        Raises:
            ValueError: If the axes or the sizes do not fit, or frames on the CPU are clearly outside [-1, 1].
        """
        self._check_frames(frames)
        latent_dist = DiagonalGaussianDistribution(self._encode(frames))
        return AutoencoderKLOutput(latent_dist=latent_dist) if return_dict else (latent_dist,)

    @overload
    def decode(self, latents: torch.Tensor, return_dict: Literal[True] = True) -> DecoderOutput: ...

    @overload
    def decode(self, latents: torch.Tensor, return_dict: Literal[False]) -> tuple[torch.Tensor]: ...

    @apply_forward_hook
    def decode(self, latents: torch.Tensor, return_dict: bool = True) -> DecoderOutput | tuple[torch.Tensor]:
        """Decode latents, all of them together.

        Args:
            latents: `(b, L, t, h, w)`, un-normalised. Training decodes `decode_window` of them; for longer videos use
                `rolling_decode`.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `sample`, frames `(b, c, tv, hv, wv)`, about [-1, 1].

        Raises:
            ValueError: If the axes do not fit.
        """
        self._check_latents(latents)
        frames = self._decode(latents)
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

        Raises:
            ValueError: If the axes do not fit.
        """
        return torch.cat(list(self.decode_stream(latents, windows_per_batch)), dim=2)

    @apply_forward_hook
    def decode_stream(
        self, latents: torch.Tensor | Iterable[torch.Tensor], windows_per_batch: int = 16
    ) -> Iterator[torch.Tensor]:
        """Decode like `rolling_decode`, and give the frames of each latent as its window finishes.

        At no time are there more than a batch of windows in memory, however long the video is.

        Args:
            latents: `(b, L, t, h, w)`, un-normalised; or pieces of them along t, one after the other, for example from
                a generator.
            windows_per_batch: Windows decoded at once; fewer of them give the first frames sooner.

        Yields:
            Frames of one latent `(b, c, g, hv, wv)`, about [-1, 1].

        Raises:
            ValueError: If the axes do not fit, or `windows_per_batch` is not positive.

        Example:
            >>> tokenizer = VideoTokenizer(dim=16, num_heads=4, encoder_blocks=1, decoder_blocks=(1, 1))
            >>> pieces = (torch.zeros(1, 64, 2, 1, 2) for _ in range(3))
            >>> with torch.no_grad():
            ...     [tuple(frames.shape) for frames in tokenizer.decode_stream(pieces)] == [(1, 3, 8, 32, 64)] * 6
            True
        """
        whole_number("windows_per_batch", windows_per_batch, 1, 1_000_000)
        if not isinstance(latents, Iterable):
            raise refuse("latents", "a torch.Tensor (b, c, t, h, w), or pieces of one", latents)
        pieces: Iterable[torch.Tensor] = latents
        if isinstance(latents, torch.Tensor):
            self._check_latents(latents)
            pieces = [latents]
        windows = SlidingWindow(
            decode=self._decode,
            window=self.config.decode_window,
            frames_per_latent=self.decoded_frames_per_latent,
            windows_per_batch=windows_per_batch,
        )
        return windows.stream(map(self._check_latents, pieces))

    def pad(self, frames: torch.Tensor) -> torch.Tensor:
        """Repeat the last frame, row and column of `(b, c, tv, hv, wv)` until `encode` takes the sizes.

        Raises:
            ValueError: If the axes do not fit.

        Example:
            >>> tokenizer = VideoTokenizer(dim=16, num_heads=4, encoder_blocks=1, decoder_blocks=(1, 1))
            >>> tokenizer.pad(torch.zeros(1, 3, 12, 60, 64)).shape
            torch.Size([1, 3, 16, 64, 64])
        """
        check_floats("frames", frames, "b c tv hv wv", hint="give one camera at a time")
        sizes, multiples = reversed(frames.shape[2:]), reversed(self._multiples)
        missing = [end for size, multiple in zip(sizes, multiples, strict=True) for end in (0, -size % multiple)]
        return functional.pad(frames, missing, mode="replicate")

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
        decoded = self.decode(latents)
        return decoded if return_dict else (decoded.sample,)

    def normalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Bring latents `(b, L, t, h, w)` to the mean 0 and standard deviation 1 that flow matching works at."""
        check_floats("latents", latents, "b c t h w", c=self.config.latent_channels)
        mean, std = self._statistics(latents)
        return (latents - mean) / std

    def denormalize(self, latents: torch.Tensor) -> torch.Tensor:
        """Undo `normalize`."""
        check_floats("latents", latents, "b c t h w", c=self.config.latent_channels)
        mean, std = self._statistics(latents)
        return latents * std + mean

    def _statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shape = (1, -1, 1, 1, 1)
        mean, std = (torch.as_tensor(v, dtype=like.dtype, device=like.device).reshape(shape)
                     for v in (self.config.latents_mean, self.config.latents_std))  # fmt: skip
        return mean, std

    def _encode(self, frames: torch.Tensor) -> torch.Tensor:
        return self._run(self.encoder, frames, unit_in=self.spatial_compression_ratio, unit_out=1)

    def _decode(self, latents: torch.Tensor) -> torch.Tensor:
        return self._run(self.decoder, latents, unit_in=1, unit_out=self.spatial_compression_ratio)

    def _run(
        self, model: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, *, unit_in: int, unit_out: int
    ) -> torch.Tensor:
        """Run the encoder or the decoder, sliced and tiled if told to."""
        run = model
        if self.use_tiling:
            run = partial(self._tiles.run, model, unit_in=unit_in, unit_out=unit_out)
        if self.use_slicing and len(x) > 1:
            return torch.cat([run(one) for one in x.split(1)])
        return run(x)

    def _tiles_of(self, *, size: tuple[int | None, int | None], stride: tuple[int | None, int | None]) -> Tiles:
        """Tiles of so many pixels; None stands for `sample_size` and for three quarters of a tile."""
        cell = self.spatial_compression_ratio
        trained = [max(1, side // cell) * cell for side in self.config.sample_size]
        sides = [given or side for given, side in zip(size, trained, strict=True)]
        steps = [given or max(1, side * 3 // 4 // cell) * cell for given, side in zip(stride, sides, strict=True)]
        for side, step in zip(sides, steps, strict=True):
            if side % cell or step % cell or not 0 < step <= side:
                raise ValueError(
                    f"tiles: expected sizes and strides in multiples of {cell} pixels, no stride larger than its tile, "
                    f"got tiles of (height, width) = {tuple(sides)} with strides {tuple(steps)}"
                )
        return Tiles(size=(sides[0] // cell, sides[1] // cell), stride=(steps[0] // cell, steps[1] // cell))

    @property
    def _multiples(self) -> tuple[int, int, int]:
        return (self.frames_per_latent, self.spatial_compression_ratio, self.spatial_compression_ratio)

    def _check_frames(self, frames: torch.Tensor) -> None:
        check_axes("frames", frames, "b c tv hv wv", c=self.config.in_channels, hint="give one camera at a time")
        for name, size, multiple in zip(("tv", "hv", "wv"), frames.shape[2:], self._multiples, strict=True):
            if size % multiple or not size:
                below, above = size // multiple * multiple, -(-size // multiple) * multiple
                nearest = f"{below} or {above}" if below else f"{above}"
                raise ValueError(
                    f"frames: expected {name} to be a multiple of {multiple}, got {size}; crop or pad to {nearest} "
                    "(VideoTokenizer.pad)"
                )
        if not frames.is_floating_point():
            raise ValueError(
                f"frames: expected floats in [-1, 1], got {frames.dtype}; of uint8 take gaia2.video.from_uint8(frames)"
            )
        if frames.device.type == "cpu" and frames.numel() and not torch.compiler.is_compiling():  # elsewhere it waits
            low, high = (float(value) for value in frames.detach().aminmax())
            if not -OUT_OF_RANGE <= low <= high <= OUT_OF_RANGE:  # false for NaN
                raise ValueError(
                    f"frames: expected values in [-1, 1], got {low:.4g} to {high:.4g}; scale them, or clamp them"
                )

    def _check_latents(self, latents: torch.Tensor) -> torch.Tensor:
        check_floats(
            "latents",
            latents,
            "b c t h w",
            c=self.config.latent_channels,
            hint="encode the frames with this VideoTokenizer",
        )
        if not latents.numel():
            raise ValueError(f"latents: expected at least one cell, got {tuple(latents.shape)}")
        if latents.device.type == "cpu" and not torch.compiler.is_compiling() and not latents.isfinite().all():
            raise ValueError("latents: expected finite numbers, got NaN or infinity; look at what made them")
        return latents
