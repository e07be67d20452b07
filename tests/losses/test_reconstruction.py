from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from gaia2.losses.reconstruction import KLLoss, PixelLoss, SeamLoss


@pytest.mark.parametrize("weights", [{}, {"l1_weight": 3.0, "l2_weight": 0.5}])
def test_pixel_loss(weights: dict[str, float]) -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(-1, 1, (2, 2, 3, 4, 5, 6)).astype(np.float32)
    terms = PixelLoss(**weights)(torch.tensor(one), torch.tensor(other))
    l1, l2 = weights.get("l1_weight", 0.2), weights.get("l2_weight", 2.0)
    assert {k: float(v) for k, v in terms.items()} == pytest.approx(
        {"l1": l1 * np.abs(one - other).mean(), "l2": l2 * ((one - other) ** 2).mean()}, rel=1e-5
    )


def test_pixels_count_by_their_weight() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(-1, 1, (2, 2, 3, 4, 5, 6)).astype(np.float32)
    weight = rng.uniform(0, 3, (2, 4, 5, 6)).astype(np.float32)
    terms = PixelLoss()(torch.tensor(one), torch.tensor(other), torch.tensor(weight))
    l1 = sum(np.abs(one - other)[:, channel] * weight for channel in range(3)).mean() / 3
    l2 = sum(((one - other) ** 2)[:, channel] * weight for channel in range(3)).mean() / 3
    assert {k: float(v) for k, v in terms.items()} == pytest.approx({"l1": 0.2 * l1, "l2": 2 * l2}, rel=1e-5)


def test_pixel_loss_compares_in_float32() -> None:
    frames = torch.zeros(1, 3, 1, 2, 2)
    terms = PixelLoss()(frames.bfloat16() + 1, frames)
    assert {term.dtype for term in terms.values()} == {torch.float32}


def test_seam_loss_is_about_jumps_of_the_error() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.uniform(-1, 1, (2, 2, 3, 12, 5, 6)).astype(np.float32)
    error = one - other
    jumps = np.stack([error[:, :, 4] - error[:, :, 3], error[:, :, 8] - error[:, :, 7]])
    loss = SeamLoss(weight=3.0, period=4)
    assert float(loss(torch.tensor(one), torch.tensor(other))["seam"]) == pytest.approx(3 * np.abs(jumps).mean(), 1e-5)
    assert float(loss(torch.tensor(one) + 0.5, torch.tensor(one))["seam"]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="frames: expected more than the 4 of one period, got 4"):
        loss(torch.zeros(1, 3, 4, 5, 6), torch.zeros(1, 3, 4, 5, 6))


@pytest.mark.parametrize("weight", [1e-6, 2.0])
def test_kl_is_that_of_torch(weight: float) -> None:
    moments = torch.randn(2, 8, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    mean, logvar = moments.chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, (0.5 * logvar).exp())
    expected = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).mean()
    terms = KLLoss(weight=weight)(DiagonalGaussianDistribution(moments))
    assert set(terms) == {"kl"}
    assert float(terms["kl"]) == pytest.approx(weight * float(expected), rel=1e-5)


def test_kl_is_least_for_a_unit_gaussian() -> None:
    unit = torch.zeros(1, 8, 1, 1, 1)
    for channel in (0, 4):
        for step in (-0.3, 0.3):
            moments = unit.clone()
            moments[:, channel] = step
            assert KLLoss()(DiagonalGaussianDistribution(moments))["kl"] > 0


def test_a_video_of_one_frame_more_than_a_period_has_one_border() -> None:
    error = torch.tensor([0.0, 1.0, 5.0]).reshape(1, 1, 3, 1, 1)
    assert SeamLoss(weight=0.5, period=2)(error, torch.zeros_like(error))["seam"].item() == 0.5 * 4
    terms = SeamLoss(weight=1.0, period=2)(error.bfloat16(), torch.zeros_like(error))
    assert terms["seam"].dtype == torch.float32


def test_divergence_weighs_a_millionth_as_in_the_paper() -> None:
    moments = torch.randn(1, 8, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    default, whole = (KLLoss(**given)(DiagonalGaussianDistribution(moments)) for given in ({}, {"weight": 1.0}))
    assert float(default["kl"]) == pytest.approx(1e-6 * float(whole["kl"]), rel=1e-5)
