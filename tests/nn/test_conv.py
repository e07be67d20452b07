from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.nn.conv import DepthToSpaceUpsample, DownsampleConv, as_stride

STRIDES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def test_stride_of_json() -> None:
    assert as_stride([1, 2, 3]) == (1, 2, 3)


@settings(max_examples=20, deadline=None)
@given(stride=STRIDES, seed=st.integers(0, 100))
def test_patches_are_disjoint(stride: tuple[int, int, int], seed: int) -> None:
    torch.manual_seed(seed)
    conv = DownsampleConv(in_channels=2, out_channels=3, stride=stride).double()
    st_, sh, sw = stride
    x = torch.randn(1, 2, 2 * st_, 2 * sh, 3 * sw).double()
    got = conv(x).detach()
    weight, bias = conv.conv.weight.detach(), conv.conv.bias.detach()
    assert got.shape == (1, 3, 2, 2, 3)
    for t, h, w in itertools.product(range(2), range(2), range(3)):
        patch = x[0, :, t * st_ : (t + 1) * st_, h * sh : (h + 1) * sh, w * sw : (w + 1) * sw]
        expected = (weight * patch).sum(dim=(1, 2, 3, 4)) + bias
        torch.testing.assert_close(got[0, :, t, h, w], expected)


@pytest.mark.parametrize(("stride", "kernel"), [((1, 2, 2), (1, 3, 3)), ((2, 2, 2), (3, 3, 3)), ((2, 8, 8), (3, 3, 3))])
def test_odd_kernels_divide_exactly_and_are_centred(stride: tuple[int, ...], kernel: tuple[int, ...]) -> None:
    conv = DownsampleConv(in_channels=1, out_channels=1, stride=stride, kernel_size=kernel)
    size = [2 * s for s in stride]
    x = torch.zeros(1, 1, *size)
    assert conv(x).shape == (1, 1, 2, 2, 2)
    # the first cell's window is centred on the first element: the kernel's own centre meets it
    x[0, 0, 0, 0, 0] = 1.0
    centre = conv.conv.weight[0, 0][tuple(k // 2 for k in kernel)]
    torch.testing.assert_close(conv(x)[0, 0, 0, 0, 0], centre + conv.conv.bias[0])


@pytest.mark.parametrize("kernel_size", [(4, 3, 3), (3, 2, 3), (1, 3, 6)])
def test_even_kernels_that_are_not_the_stride(kernel_size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"kernel_size: expected the stride \(2, 4, 8\) or odd numbers, got"):
        DownsampleConv(in_channels=1, out_channels=1, stride=(2, 4, 8), kernel_size=kernel_size)


@settings(max_examples=20, deadline=None)
@given(stride=STRIDES, seed=st.integers(0, 100))
def test_upsampling_starts_as_nearest_neighbour(stride: tuple[int, int, int], seed: int) -> None:
    torch.manual_seed(seed)
    upsample = DepthToSpaceUpsample(in_channels=3, out_channels=2, stride=stride)
    x = torch.randn(1, 3, 2, 3, 2)
    got = upsample(x).detach()
    st_, sh, sw = stride
    coarse = got[:, :, ::st_, ::sh, ::sw]
    assert coarse.shape == (1, 2, 2, 3, 2)
    enlarged = coarse.repeat_interleave(st_, 2).repeat_interleave(sh, 3).repeat_interleave(sw, 4)
    torch.testing.assert_close(got, enlarged, atol=1e-6, rtol=0)
    assert coarse.std() > 0.01
    # the two channels are kernels of their own, not copies
    assert (coarse[:, 0] - coarse[:, 1]).abs().max() > 1e-3


def test_upsampling_lays_channels_out_as_a_finer_grid() -> None:
    upsample = DepthToSpaceUpsample(in_channels=2, out_channels=3, stride=(2, 3, 4), kernel_size=(1, 3, 3)).double()
    torch.nn.init.normal_(upsample.conv.weight)
    x = torch.randn(2, 2, 2, 3, 2).double()
    with torch.no_grad():
        coarse, got = upsample.conv(x).numpy(), upsample(x).numpy()
    expected = np.zeros((2, 3, 4, 9, 8))
    for c, i, j, k in itertools.product(range(3), range(2), range(3), range(4)):
        expected[:, c, i::2, j::3, k::4] = coarse[:, ((c * 2 + i) * 3 + j) * 4 + k]
    np.testing.assert_array_equal(got, expected)


def test_upsampling_takes_odd_kernels_only() -> None:
    with pytest.raises(ValueError, match=r"kernel_size: expected odd numbers, got \(3, 2, 3\); use for example"):
        DepthToSpaceUpsample(in_channels=1, out_channels=1, stride=(1, 2, 2), kernel_size=(3, 2, 3))
