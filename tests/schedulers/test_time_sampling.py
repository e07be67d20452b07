from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gaia2.schedulers.time_sampling import BimodalLogitNormal

SAMPLES = 400_000


def logits(times: BimodalLogitNormal, seed: int = 0) -> np.ndarray:
    tau = times.sample(SAMPLES, generator=torch.Generator().manual_seed(seed)).double()
    return torch.logit(tau).numpy()


def normal_cdf(z: float) -> float:
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


@pytest.mark.parametrize(("probability", "mean", "std"), [(0.0, 0.5, 1.4), (1.0, -3.0, 1.0)])
def test_each_mode_is_logit_normal(probability: float, mean: float, std: float) -> None:
    values = logits(BimodalLogitNormal(secondary_probability=probability))
    error = std / math.sqrt(SAMPLES)
    assert values.mean() == pytest.approx(mean, abs=5 * error)
    assert values.std() == pytest.approx(std, abs=5 * error)
    for z in (-1.0, 0.0, 1.0):
        assert (values < mean + z * std).mean() == pytest.approx(normal_cdf(z), abs=0.004)


def test_the_mixture_has_the_moments_of_the_theory() -> None:
    values = logits(BimodalLogitNormal())
    mean = 0.8 * 0.5 + 0.2 * -3.0
    variance = 0.8 * (1.4**2 + 0.5**2) + 0.2 * (1.0 + 9.0) - mean**2
    assert values.mean() == pytest.approx(mean, abs=5 * math.sqrt(variance / SAMPLES))
    assert values.var() == pytest.approx(variance, rel=0.01)
    for x in (-4.0, -3.0, -1.5, 0.5, 2.0):
        share = 0.8 * normal_cdf((x - 0.5) / 1.4) + 0.2 * normal_cdf(x + 3.0)
        assert (values < x).mean() == pytest.approx(share, abs=0.004)


def test_the_share_of_the_second_mode() -> None:
    times = BimodalLogitNormal(mean=10, std=0.1, secondary_mean=-10, secondary_std=0.1, secondary_probability=0.3)
    tau = times.sample(100_000, generator=torch.Generator().manual_seed(0))
    assert (tau < 0.5).double().mean().item() == pytest.approx(0.3, abs=0.008)


def test_same_generator_same_times() -> None:
    one, other, third = (
        BimodalLogitNormal().sample(64, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert one.dtype == torch.float32
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    assert ((one > 0) & (one < 1)).all()


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_bad_share(probability: float) -> None:
    with pytest.raises(ValueError, match=r"secondary_probability: expected a share from 0 to 1, got "):
        BimodalLogitNormal(secondary_probability=probability)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (dict(mean=1001.0), "mean: expected the logit of a flow time from -1000 to 1000, got 1001"),
        (dict(secondary_mean=-1001.0), "secondary_mean: expected the logit of a flow time from -1000 to 1000"),
        (dict(std=-0.1), "std: expected a standard deviation from 0 to 1000, got -0.1"),
        (dict(secondary_std=1001.0), "secondary_std: expected a standard deviation from 0 to 1000"),
    ],
)
def test_numbers_out_of_range(given: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BimodalLogitNormal(**given)
    edge = BimodalLogitNormal(mean=1000, std=0, secondary_mean=-1000, secondary_std=1000, secondary_probability=1)
    assert edge.sample(3).shape == (3,)


def test_numbers_of_samples() -> None:
    assert BimodalLogitNormal().sample(0).shape == (0,)
    for number in (-1, 10_000_001, 2.0):
        with pytest.raises(ValueError, match="batch_size: expected a whole number from 0 to 10000000"):
            BimodalLogitNormal().sample(number)
