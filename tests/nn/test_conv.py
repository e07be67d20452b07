from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.nn.conv import BlurPool3d, DepthToSpaceUpsample, DownsampleConv, as_stride

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


@pytest.mark.parametrize(
    ("stride", "kernel"),
    [((1, 2, 2), (1, 3, 3)), ((2, 2, 2), (3, 3, 3)), ((2, 8, 8), (3, 3, 3)), ((1, 2, 3), (7, 5, 1))],
)
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


def pooled_by_numpy(x: np.ndarray, stride: tuple[int, ...], taps: list[int]) -> np.ndarray:
    kernel = np.array(taps) / sum(taps)
    for axis, s in enumerate(stride, start=2):
        if s == 1:
            continue
        before = (len(taps) - s + 1) // 2
        widths = [(0, 0)] * x.ndim
        widths[axis] = (before, len(taps) - 1 - before)
        padded = np.pad(x, widths, mode="edge")
        x = np.apply_along_axis(np.convolve, axis, padded, kernel, mode="valid").take(range(0, x.shape[axis], s), axis)
    return x


@settings(max_examples=30, deadline=None)
@given(
    stride=STRIDES,
    taps=st.sampled_from([[1, 2, 1], [1, 3, 3, 1], [1, 4, 6, 4, 1]]),
    size=st.tuples(*[st.integers(1, 7)] * 3),
    seed=st.integers(0, 100),
)
def test_blur_pooling_filters_then_sub_samples(
    stride: tuple[int, int, int], taps: list[int], size: tuple[int, ...], seed: int
) -> None:
    x = np.random.default_rng(seed).normal(size=(2, 3, *size))
    got = BlurPool3d(stride=stride, kernel_size=len(taps))(torch.tensor(x)).numpy()
    assert got.shape[2:] == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    np.testing.assert_allclose(got, pooled_by_numpy(x, stride, taps), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(frequency=st.floats(0.0, np.pi), phase=st.floats(0.0, 6.0), axis=st.integers(0, 2))
def test_blur_pooling_damps_a_wave_as_its_frequency_response_says(frequency: float, phase: float, axis: int) -> None:
    shape = [1, 1, 1, 1, 1]
    shape[axis + 2] = 32
    wave = torch.sin(frequency * torch.arange(32, dtype=torch.float64) + phase)
    got = BlurPool3d()(wave.reshape(shape)).flatten()
    centres = 2 * torch.arange(16, dtype=torch.float64) + 0.5
    expected = np.cos(frequency / 2) ** 3 * torch.sin(frequency * centres + phase)
    torch.testing.assert_close(got[1:-1], expected[1:-1], atol=1e-6, rtol=0)


def test_blur_pooling_keeps_detail_from_coming_back_as_coarse_patterns() -> None:
    spectrum = np.fft.rfft(np.random.default_rng(0).normal(size=4096))
    spectrum[: len(spectrum) // 2] = 0  # only what the coarse grid cannot show
    detail = torch.tensor(np.fft.irfft(spectrum)).reshape(1, 1, 1, 1, -1)
    aliased = detail[..., ::2].square().mean()
    assert BlurPool3d()(detail).square().mean() < 0.1 * aliased


def test_blur_pooling_keeps_constants_and_channels_apart() -> None:
    x = torch.tensor([1.0, -2.0]).reshape(1, 2, 1, 1, 1).expand(1, 2, 5, 3, 4)
    assert torch.equal(BlurPool3d()(x), x[:, :, :3, :2, :2])
    assert BlurPool3d()(x.bfloat16()).dtype == torch.bfloat16
    assert not list(BlurPool3d().state_dict())


@pytest.mark.parametrize("stride", [(2, 5, 2), (1, 1, 9)])
def test_blur_pooling_needs_a_kernel_as_long_as_its_stride(stride: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"stride: expected numbers from 1 to kernel_size=4, got \(\d, \d, \d\); a la"):
        BlurPool3d(stride=stride)


def test_convolutions_need_channels() -> None:
    for kind in (DownsampleConv, DepthToSpaceUpsample):
        for channels in (dict(in_channels=0, out_channels=4), dict(in_channels=4, out_channels=-1)):
            with pytest.raises(ValueError, match=r"(in|out)_channels: expected a whole number from 1"):
                kind(**channels, stride=(1, 2, 2))


@pytest.mark.parametrize("values", [7, "222", (2, 2), (2, 2, 2, 2), (0, 1, 1), (1, 1, 1025), (1, 2.5, 1)])
def test_a_stride_is_three_positive_whole_numbers(values: object) -> None:
    with pytest.raises(
        ValueError, match=r"stride: expected (three whole numbers \(time|a whole number from 1 to 1024)"
    ):
        as_stride(values)
    assert as_stride((1, 1, 1024)) == (1, 1, 1024)


@pytest.mark.parametrize(
    ("shape", "match"),
    [
        ((1, 3, 4, 4, 8), r"hidden_states: expected \(b, c=2, t, h, w\), got \(1, 3, 4, 4, 8\)"),
        ((1, 2, 3, 4, 8), "hidden_states: expected t to be a multiple of the stride 2, got 3; pad or crop it"),
        ((1, 2, 4, 4, 9), "hidden_states: expected w to be a multiple of the stride 8, got 9; pad or crop it"),
        ((1, 2, 4, 0, 8), "hidden_states: expected h to be a multiple of the stride 4, got 0; pad or crop it"),
    ],
)
def test_a_convolution_divides_its_input_exactly(shape: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        DownsampleConv(in_channels=2, out_channels=3, stride=(2, 4, 8))(torch.zeros(shape))


def test_channels_and_axes_of_up_sampling_and_pooling() -> None:
    with pytest.raises(ValueError, match=r"hidden_states: expected \(b, c=2, t, h, w\), got \(1, 3, 2, 2, 2\)"):
        DepthToSpaceUpsample(in_channels=2, out_channels=3, stride=(1, 2, 2))(torch.zeros(1, 3, 2, 2, 2))
    with pytest.raises(ValueError, match=r"hidden_states: expected \(b, c, t, h, w\), got \(1, 2, 2, 2\)"):
        BlurPool3d()(torch.zeros(1, 2, 2, 2))
    for size in (0, 1025):
        with pytest.raises(ValueError, match="kernel_size: expected a whole number from 1 to 1024"):
            BlurPool3d(stride=(1, 1, 1), kernel_size=size)


def test_what_pooling_and_up_sampling_are_by_default() -> None:
    x = torch.randn(1, 2, 4, 4, 4)
    assert torch.equal(BlurPool3d()(x), BlurPool3d(stride=(2, 2, 2), kernel_size=4)(x))
    assert DepthToSpaceUpsample(in_channels=2, out_channels=1, stride=(1, 2, 2)).conv.kernel_size == (3, 3, 3)
    assert DownsampleConv(in_channels=2, out_channels=1, stride=(1, 2, 4)).conv.kernel_size == (1, 2, 4)


def test_a_kernel_of_stride_five_takes_the_middle_of_each_group() -> None:
    x = torch.zeros(1, 1, 1, 1, 10)
    x[..., 2], x[..., 7] = 1.0, 2.0  # the middle of the first five, and of the last
    got = BlurPool3d(stride=(1, 1, 5), kernel_size=5)(x).flatten()
    torch.testing.assert_close(got, torch.tensor([6 / 16, 2 * 6 / 16]))


def test_up_sampling_with_any_odd_kernel_keeps_the_grid() -> None:
    upsample = DepthToSpaceUpsample(in_channels=1, out_channels=1, stride=(1, 2, 2), kernel_size=(5, 7, 1))
    assert upsample(torch.zeros(1, 1, 3, 2, 4)).shape == (1, 1, 3, 4, 8)
