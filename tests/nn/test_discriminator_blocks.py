from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gaia2.nn.conv import BlurPool3d
from gaia2.nn.discriminator_blocks import (
    FrozenSpectralNorm,
    ResidualDiscriminatorBlock,
    spectral_conv3d,
    update_spectral_norms,
)


def largest_singular_value(weight: torch.Tensor) -> float:
    return float(np.linalg.svd(weight.detach().flatten(1).numpy(), compute_uv=False)[0])


def vectors(module: nn.Module) -> list[torch.Tensor]:
    return [v.clone() for name, v in module.named_buffers() if name.endswith(("_u", "_v"))]


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_spectral_norm_makes_the_largest_singular_value_one(kernel_size: int) -> None:
    torch.manual_seed(0)
    conv = spectral_conv3d(6, 10, kernel_size)
    with torch.no_grad():
        conv.parametrizations.weight.original.mul_(7.0)
    for _ in range(100):
        conv(torch.randn(1, 6, 2, 3, 3))
    assert largest_singular_value(conv.eval().weight) == pytest.approx(1, abs=1e-4)
    assert conv(torch.zeros(1, 6, 2, 3, 4)).shape == (1, 10, 2, 3, 4)


def test_spectral_norm_learns_in_training_mode_only() -> None:
    conv = spectral_conv3d(3, 4, 3)
    before = vectors(conv)
    conv.eval()(torch.randn(1, 3, 2, 2, 2))
    assert all(torch.equal(a, b) for a, b in zip(before, vectors(conv), strict=True))
    conv.train()(torch.randn(1, 3, 2, 2, 2))
    assert not all(torch.equal(a, b) for a, b in zip(before, vectors(conv), strict=True))


def test_block_is_its_parts() -> None:
    torch.manual_seed(0)
    block = ResidualDiscriminatorBlock(in_channels=3, out_channels=5, negative_slope=0.3).eval()
    x = torch.randn(2, 3, 4, 6, 7)

    def normalized_and_activated(y: torch.Tensor) -> torch.Tensor:
        y = y.detach().double().numpy()
        axes = (2, 3, 4)  # of one sample and channel
        y = (y - y.mean(axes, keepdims=True)) / np.sqrt(y.var(axes, keepdims=True) + 1e-5)
        return torch.tensor(np.where(y < 0, 0.3 * y, y)).float()

    pool = BlurPool3d()
    inner = pool(normalized_and_activated(functional.conv3d(x, block.conv_in.weight, padding=1)))
    inner = normalized_and_activated(functional.conv3d(inner, block.conv_out.weight, padding=1))
    shortcut = torch.einsum("oi,bithw->bothw", block.shortcut.weight[:, :, 0, 0, 0], pool(x))
    torch.testing.assert_close(block(x), (inner + shortcut) / 2**0.5, atol=1e-5, rtol=1e-4)


def test_block_keeps_samples_apart() -> None:
    block = ResidualDiscriminatorBlock(in_channels=3, out_channels=5).eval()
    x = torch.randn(2, 3, 4, 6, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(block(x)[0].square().sum(), x)
    assert (gradient[0].abs().amax(dim=0) > 0).all()
    assert (gradient[1] == 0).all()


def test_brightness_gets_past_the_instance_norm_by_the_shortcut() -> None:
    block = ResidualDiscriminatorBlock(in_channels=3, out_channels=5).eval()
    dark = torch.ones(1, 3, 4, 6, 6)
    lifted = 5 * block.shortcut.weight.sum(dim=(1, 2, 3, 4)) / 2**0.5
    expected = lifted.reshape(1, 5, 1, 1, 1).expand(1, 5, 2, 3, 3)
    torch.testing.assert_close(block(dark + 5) - block(dark), expected, atol=2e-3, rtol=0)


def test_norm_and_pooling_can_be_swapped() -> None:
    block = ResidualDiscriminatorBlock(
        in_channels=4,
        out_channels=8,
        stride=(1, 2, 4),
        norm=lambda channels: nn.GroupNorm(2, channels),
        downsample=lambda stride: nn.AvgPool3d(stride, stride),
    )
    assert isinstance(block.norm_out, nn.GroupNorm)
    assert block(torch.randn(1, 4, 3, 4, 8)).shape == (1, 8, 3, 2, 2)


def test_frozen_spectral_norm_can_be_entered_again_and_leaves_nothing_behind() -> None:
    block = ResidualDiscriminatorBlock(in_channels=3, out_channels=4)
    x = torch.randn(1, 3, 2, 4, 4)
    frozen = FrozenSpectralNorm(block)
    with frozen:
        first = block(x)
    block(x), block(x)
    now = vectors(block)
    for _ in range(2):
        with frozen:
            assert torch.equal(block(x), first)
    assert all(torch.equal(a, b) for a, b in zip(now, vectors(block), strict=True))
    assert not torch.equal(block(x), first)


def test_update_does_what_a_forward_does() -> None:
    torch.manual_seed(0)
    one = ResidualDiscriminatorBlock(in_channels=3, out_channels=4)
    other = ResidualDiscriminatorBlock(in_channels=3, out_channels=4)
    other.load_state_dict(one.state_dict())
    one(torch.randn(1, 3, 2, 4, 4))
    update_spectral_norms(other)
    assert all(torch.equal(a, b) for a, b in zip(vectors(one), vectors(other), strict=True))
    other.eval()
    update_spectral_norms(other)
    assert all(torch.equal(a, b) for a, b in zip(vectors(one), vectors(other), strict=True))


def test_a_kernel_has_a_middle() -> None:
    for size in (2, 4):
        with pytest.raises(ValueError, match=r"kernel_size: expected an odd number.* would change the size"):
            spectral_conv3d(4, 8, size)
