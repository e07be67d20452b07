"""The discriminator of the tokenizer's adversarial stage (paper §2.1.3).

Axes: b batch, c channels, tv video frames, hv wv pixels, t h w the grid of logits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils import BaseOutput
from torch import nn

from gaia2._registration import register
from gaia2._typed import register_to_config
from gaia2.models.config_checks import check_video_discriminator
from gaia2.models.strict_loading import StrictLoading
from gaia2.nn.conv import Stride, as_stride
from gaia2.nn.discriminator_blocks import (
    FrozenSpectralNorm,
    ResidualDiscriminatorBlock,
    spectral_conv3d,
    update_spectral_norms,
)
from gaia2.nn.shapes import check_floats


@dataclass
class VideoDiscriminatorOutput(BaseOutput):
    """What `VideoDiscriminator` gives.

    Args:
        logits: `(b, 1, t, h, w)`, each about its own part of the video; positive where that part looks real.
    """

    logits: torch.Tensor


@register
class VideoDiscriminator(StrictLoading, ModelMixin, ConfigMixin):
    """Tells real video from decoded video, part by part (paper §2.1.3).

    A convolution to `base_channels`, residual 3D blocks that each halve time, height and width with blur pooling, and
    a convolution to logits. All convolutions have spectral norm. Samples do not see one another, so real and decoded
    videos can share a batch.

    Args:
        in_channels: Channels of a frame.
        base_channels: Channels after the first convolution.
        channel_multipliers: Channels after each block, as multiples of `base_channels`.
        stride: Reduction of `(time, height, width)` by each block.
        negative_slope: Slope of the leaky ReLU below zero.

    Raises:
        ValueError: If a number of channels is not positive, or there is no block.

    Example:
        >>> discriminator = VideoDiscriminator(base_channels=4, channel_multipliers=(2, 4))
        >>> discriminator(torch.zeros(1, 3, 8, 32, 64)).logits.shape
        torch.Size([1, 1, 2, 8, 16])
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ResidualDiscriminatorBlock"]
    _repeated_blocks = ["ResidualDiscriminatorBlock"]
    # weights are divided by the largest singular value of themselves, which 8 bits know to 7% only, and backward anew
    _skip_layerwise_casting_patterns = ["conv", "shortcut"]

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        base_channels: int = 64,
        channel_multipliers: Sequence[int] = (2, 4, 8, 8),
        stride: Stride = (2, 2, 2),
        negative_slope: float = 0.2,
    ) -> None:
        super().__init__()
        check_video_discriminator(self.config)
        channels = [base_channels, *(base_channels * m for m in channel_multipliers)]
        self.conv_in = spectral_conv3d(in_channels, base_channels, 3)
        self.blocks = nn.ModuleList(
            ResidualDiscriminatorBlock(
                in_channels=before, out_channels=after, stride=as_stride(stride), negative_slope=negative_slope
            )
            for before, after in pairwise(channels)
        )
        self.activation = nn.LeakyReLU(negative_slope)
        self.conv_out = spectral_conv3d(channels[-1], 1, 3)
        self.gradient_checkpointing = False

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pretrained(  # noqa: D102
            cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any
        ) -> Self: ...

    @classmethod
    def _load_pretrained_model(cls, model: VideoDiscriminator, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
        """Load as diffusers does, and bring in the buffers of parts that stay on disk, which accelerate leaves out."""
        loaded = super()._load_pretrained_model(model, *args, **kwargs)
        away = [name for name, buffer in model.named_buffers() if buffer.is_meta]
        if away:
            from accelerate.utils import OffloadedWeightsLoader, set_module_tensor_to_device

            stored = OffloadedWeightsLoader(save_folder=kwargs["offload_folder"])
            for name in away:
                set_module_tensor_to_device(model, name, "cpu", value=stored[name])
        return loaded

    def forward(self, sample: torch.Tensor, return_dict: bool = True) -> VideoDiscriminatorOutput | tuple[torch.Tensor]:
        """Judge videos.

        Args:
            sample: Frames of one camera `(b, c, tv, hv, wv)` in [-1, 1]; real or decoded.
            return_dict: Give an output object rather than a tuple.

        Returns:
            `logits`, `(b, 1, t, h, w)`: each axis of the frames over the stride once a block, rounded up.

        Raises:
            ValueError: If the axes do not fit, or the frames are too small to be normalised.
        """
        self._check(sample)
        hidden_states = self.activation(self.conv_in(sample))
        for block in self.blocks:
            hidden_states = self._run(block, hidden_states)
        logits = self.conv_out(hidden_states)
        return VideoDiscriminatorOutput(logits=logits) if return_dict else (logits,)

    def _run(self, block: nn.Module, hidden_states: torch.Tensor) -> torch.Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return block(hidden_states)
        update_spectral_norms(block)
        frozen = FrozenSpectralNorm(block)

        def run(hidden_states: torch.Tensor) -> torch.Tensor:
            with frozen:
                return block(hidden_states)

        return self._gradient_checkpointing_func(run, hidden_states)

    def _check(self, sample: torch.Tensor) -> None:
        check_floats("sample", sample, "b c tv hv wv", c=self.config.in_channels, hint="give one camera at a time")
        folds = [s ** len(self.blocks) for s in self.config.stride]
        size = tuple(sample.shape[2:])
        if math.prod(-(-s // fold) for s, fold in zip(size, folds, strict=True)) == 1:
            raise ValueError(
                f"sample: expected (tv, hv, wv) larger than {tuple(folds)} along one axis at least, got {size}; give "
                "larger frames, or use fewer channel_multipliers"
            )
