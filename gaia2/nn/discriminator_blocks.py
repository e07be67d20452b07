"""Blocks of a video discriminator: spectrally normalised 3D convolutions in residual blocks (paper §2.1.3)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from gaia2._checks import real_number, refuse, whole_number
from gaia2.nn.blocks import ModuleFactory
from gaia2.nn.conv import MAX_STRIDE, BlurPool3d, Stride
from gaia2.nn.shapes import check_channels, check_floats


def spectral_conv3d(in_channels: int, out_channels: int, kernel_size: int, *, bias: bool = True) -> nn.Conv3d:
    """A 3D convolution that keeps the size, whose weight is divided by its largest singular value (Miyato et al.).

    Each forward in training mode refines the estimate of that value by one power iteration; in eval mode it stays.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd kernel along time, height and width.
        bias: Whether a bias is added.

    Returns:
        The layer, to be called with `(b, c, t, h, w)`.

    Example:
        >>> conv = spectral_conv3d(4, 8, 3).eval()
        >>> round(float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)), 1)
        1.0
    """
    check_channels(in_channels=in_channels, out_channels=out_channels)
    if whole_number("kernel_size", kernel_size, 1, MAX_STRIDE) % 2 == 0:
        raise refuse("kernel_size", "an odd number", kernel_size, "an even one would change the size")
    conv = nn.Conv3d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=bias)
    parametrizations.spectral_norm(conv)
    return conv


class ResidualDiscriminatorBlock(nn.Module):
    """Two convolutions with a blur pooling between them, beside a pooled shortcut (paper §2.1.3).

    The convolutions have spectral norm and no bias; each is followed by an instance norm, without weights of its own
    that would undo the bound, and a leaky ReLU. The shortcut keeps what the instance norm takes away: brightness and
    contrast.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Reduction of `(time, height, width)`.
        negative_slope: Slope of the leaky ReLU below zero.
        norm: Called with the number of channels.
        downsample: Called with `stride`; used on both ways.

    Example:
        >>> block = ResidualDiscriminatorBlock(in_channels=4, out_channels=8)
        >>> block(torch.randn(1, 4, 6, 8, 16)).shape
        torch.Size([1, 8, 3, 4, 8])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        stride: Stride = (2, 2, 2),
        negative_slope: float = 0.2,
        norm: ModuleFactory = nn.InstanceNorm3d,
        downsample: ModuleFactory = BlurPool3d,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        real_number("negative_slope", negative_slope, 0, 1)
        self.in_channels = in_channels
        self.conv_in = spectral_conv3d(in_channels, in_channels, 3, bias=False)
        self.norm_in = norm(in_channels)
        self.downsample = downsample(stride=stride)
        self.conv_out = spectral_conv3d(in_channels, out_channels, 3, bias=False)
        self.norm_out = norm(out_channels)
        self.shortcut = spectral_conv3d(in_channels, out_channels, 1, bias=False)
        self.activation = nn.LeakyReLU(negative_slope)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, c, t, h, w)` to `(b, c', t / stride_t, h / stride_h, w / stride_w)`, rounded up."""
        check_floats("hidden_states", hidden_states, "b c t h w", c=self.in_channels)
        shortcut = self.shortcut(self.downsample(hidden_states))
        hidden_states = self.downsample(self.activation(self.norm_in(self.conv_in(hidden_states))))
        hidden_states = self.activation(self.norm_out(self.conv_out(hidden_states)))
        return (shortcut + hidden_states) / math.sqrt(2)


class FrozenSpectralNorm:
    """Context in which the spectral norms of a module stand still, as they were when this object was made.

    Gradient checkpointing runs a module a second time, and after other batches perhaps: without this, the second run
    would divide by other estimates than the first, and give the gradient of another function. Can be entered again.

    Args:
        module: The module whose layers have torch's spectral norm.

    Example:
        >>> conv = spectral_conv3d(4, 8, 3)
        >>> frozen = FrozenSpectralNorm(conv)
        >>> with frozen:
        ...     first = conv.weight
        >>> later = conv.weight  # a power iteration
        >>> with frozen:
        ...     torch.equal(conv.weight, first)
        True
    """

    def __init__(self, module: nn.Module) -> None:
        self.norms = [part for part in module.modules() if isinstance(part, _SpectralNorm)]
        self.vectors = [(norm._u.clone(), norm._v.clone()) for norm in self.norms]

    def __enter__(self) -> None:
        self._outside = [(norm._u, norm._v, norm.training) for norm in self.norms]
        for norm, (u, v) in zip(self.norms, self.vectors, strict=True):
            norm._u, norm._v, norm.training = u, v, False

    def __exit__(self, *error: object) -> None:
        for norm, (u, v, training) in zip(self.norms, self._outside, strict=True):
            norm._u, norm._v, norm.training = u, v, training


def update_spectral_norms(module: nn.Module) -> None:
    """Do the power iteration that a forward of `module` in training mode would do; nothing in eval mode."""
    with torch.no_grad():
        for part in module.modules():
            if parametrize.is_parametrized(part, "weight"):
                _ = part.weight  # computing it updates the estimate
