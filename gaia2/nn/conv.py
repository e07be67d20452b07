"""Strided 3D convolutions and blur pooling down, depth-to-space convolutions up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional

from gaia2._checks import refuse, whole_number
from gaia2.nn.shapes import check_channels, check_floats

Stride = tuple[int, int, int]
MAX_STRIDE = 1024


def as_stride(values: Sequence[int], name: str = "stride") -> Stride:
    """`(time, height, width)` as a tuple; JSON configs hold lists.

    Raises:
        ValueError: If it is not three positive whole numbers.

    Example:
        >>> as_stride([2, 8, 8])
        (2, 8, 8)
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 3:
        raise refuse(name, "three whole numbers (time, height, width)", values)
    time, height, width = (whole_number(name, value, 1, MAX_STRIDE) for value in values)
    return time, height, width


def _padding(kernel_size: Stride, stride: Stride = (0, 0, 0)) -> Stride:
    """What keeps the size before the stride; none where the stride is the kernel."""
    time, height, width = (0 if k == s else k // 2 for k, s in zip(kernel_size, stride, strict=True))
    return time, height, width


class DownsampleConv(nn.Module):
    """Convolution whose stride divides time, height and width exactly (paper §2.1.1).

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: `(time, height, width)`.
        kernel_size: `(time, height, width)`; equal to the stride it cuts disjoint patches, otherwise it must be odd.

    Raises:
        ValueError: If a number is out of range, or a kernel size is neither the stride nor odd.

    Example:
        >>> DownsampleConv(in_channels=3, out_channels=8, stride=(2, 8, 8))(torch.randn(1, 3, 4, 16, 32)).shape
        torch.Size([1, 8, 2, 2, 4])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        stride: Stride,
        kernel_size: Stride | None = None,
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.stride = stride = as_stride(stride)
        kernel_size = stride if kernel_size is None else as_stride(kernel_size, "kernel_size")
        for k, s in zip(kernel_size, stride, strict=True):
            if k != s and k % 2 == 0:
                raise ValueError(f"kernel_size: expected the stride {stride} or odd numbers, got {kernel_size}")
        padding = _padding(kernel_size, stride)
        self.conv = nn.Conv3d(in_channels, out_channels, kernel_size, stride=stride, padding=padding)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, c, t, h, w)` to `(b, c', t / stride_t, h / stride_h, w / stride_w)`.

        Raises:
            ValueError: If the axes do not fit, or the stride does not divide a size.
        """
        check_floats("hidden_states", hidden_states, "b c t h w", c=self.conv.in_channels)
        for axis, size, s in zip("thw", hidden_states.shape[2:], self.stride, strict=True):
            if size % s or not size:
                raise ValueError(
                    f"hidden_states: expected {axis} to be a multiple of the stride {s}, got {size}; pad or crop it"
                )
        return self.conv(hidden_states)


class DepthToSpaceUpsample(nn.Module):
    """Convolution to `stride` times the channels, laid out as a finer grid (paper §2.1.2; Shi et al.).

    All sub-positions of a cell start from the same kernel (ICNR), so that the untrained output is a nearest-neighbour
    enlargement, without a checkerboard.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Enlargement `(time, height, width)`.
        kernel_size: Odd kernel `(time, height, width)`.

    Example:
        >>> DepthToSpaceUpsample(in_channels=8, out_channels=3, stride=(2, 4, 4))(torch.randn(1, 8, 3, 2, 4)).shape
        torch.Size([1, 3, 6, 8, 16])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        stride: Stride,
        kernel_size: Stride = (3, 3, 3),
    ) -> None:
        super().__init__()
        check_channels(in_channels=in_channels, out_channels=out_channels)
        self.stride = as_stride(stride)
        kernel_size = as_stride(kernel_size, "kernel_size")
        if any(k % 2 == 0 for k in kernel_size):
            raise ValueError(f"kernel_size: expected odd numbers, got {kernel_size}; use for example (3, 3, 3)")
        padding = _padding(kernel_size)
        self.conv = nn.Conv3d(in_channels, out_channels * math.prod(self.stride), kernel_size, padding=padding)
        self._initialize_as_nearest_neighbour()

    @torch.no_grad()
    def _initialize_as_nearest_neighbour(self) -> None:
        cells = math.prod(self.stride)
        for parameter in (self.conv.weight, self.conv.bias):
            assert parameter is not None
            parameter.copy_(parameter[: parameter.shape[0] // cells].repeat_interleave(cells, dim=0))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, c, t, h, w)` to `(b, c', t * stride_t, h * stride_h, w * stride_w)`."""
        check_floats("hidden_states", hidden_states, "b c t h w", c=self.conv.in_channels)
        st, sh, sw = self.stride
        return rearrange(
            self.conv(hidden_states), "b (c st sh sw) t h w -> b c (t st) (h sh) (w sw)", st=st, sh=sh, sw=sw
        )


class BlurPool3d(nn.Module):
    """Low-pass filter, then sub-sampling, which keeps fine detail from coming back as coarse patterns (Zhang 2019).

    The filter is binomial and the same for every channel; it acts along the axes that are sub-sampled. Borders repeat
    the outermost value. No parameters.

    Args:
        stride: `(time, height, width)`.
        kernel_size: Taps of the filter along each sub-sampled axis. An even number beside an even stride is centred on
            the cell that it stands for.

    Raises:
        ValueError: If a stride is not positive, or larger than the kernel, which would then skip values.

    Example:
        >>> BlurPool3d()(torch.randn(1, 8, 4, 7, 16)).shape
        torch.Size([1, 8, 2, 4, 8])
        >>> BlurPool3d(stride=(1, 1, 2))(torch.tensor([0.0, 0, 0, 8, 0, 0, 0, 0]).reshape(1, 1, 1, 1, 8)).flatten()
        tensor([0., 3., 1., 0.])
    """

    __call__: Callable[..., torch.Tensor]

    kernel: torch.Tensor

    def __init__(self, *, stride: Stride = (2, 2, 2), kernel_size: int = 4) -> None:
        super().__init__()
        whole_number("kernel_size", kernel_size, 1, MAX_STRIDE)
        self.stride = as_stride(stride)
        if max(self.stride) > kernel_size:
            raise ValueError(
                f"stride: expected numbers from 1 to kernel_size={kernel_size}, got {self.stride}; a larger stride "
                "needs a larger kernel_size"
            )
        sizes = [1 if s == 1 else kernel_size for s in self.stride]
        time, height, width = (_binomial(size) for size in sizes)
        self.register_buffer("kernel", torch.einsum("t,h,w->thw", time, height, width), persistent=False)
        self.padding: list[int] = []  # last axis first, as `functional.pad` takes it
        for size, s in zip(reversed(sizes), reversed(self.stride), strict=True):
            before = (size - s + 1) // 2
            self.padding += [before, size - 1 - before]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, c, t, h, w)` to `(b, c, t / stride_t, h / stride_h, w / stride_w)`, rounded up."""
        check_floats("hidden_states", hidden_states, "b c t h w")
        c = hidden_states.shape[1]
        kernel = self.kernel.to(hidden_states.dtype).expand(c, 1, *self.kernel.shape)
        padded = functional.pad(hidden_states, self.padding, mode="replicate")
        return functional.conv3d(padded, kernel, stride=self.stride, groups=c)


def _binomial(size: int) -> torch.Tensor:
    """Row `size - 1` of Pascal's triangle, with sum 1."""
    return torch.tensor([math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)])
