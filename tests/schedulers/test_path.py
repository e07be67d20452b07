from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.schedulers.path import interpolate, velocity


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), axes=st.integers(1, 4))
def test_the_path_is_straight_from_noise_to_data(seed: int, axes: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (3, 2, 4, 5)[:axes]
    x, eps, tau = rng.normal(size=shape), rng.normal(size=shape), rng.uniform(size=3)
    got = interpolate(torch.tensor(x), torch.tensor(eps), torch.tensor(tau))
    for b in range(3):
        np.testing.assert_allclose(got[b], tau[b] * x[b] + (1 - tau[b]) * eps[b], atol=1e-14)


def test_the_ends_are_exact() -> None:
    x, eps = torch.randn(2, 2, 3)
    assert torch.equal(interpolate(x, eps, torch.ones(2)), x)
    assert torch.equal(interpolate(x, eps, torch.zeros(2)), eps)


def test_tau_may_be_one_number_or_one_for_each_time() -> None:
    x, eps = torch.randn(2, 2, 3, 4).double()
    torch.testing.assert_close(interpolate(x, eps, torch.tensor(0.3).double()), 0.3 * x + 0.7 * eps)
    tau = torch.rand(2, 3).double()
    torch.testing.assert_close(interpolate(x, eps, tau), tau[..., None] * x + (1 - tau[..., None]) * eps)


def test_velocity_is_the_derivative_of_the_path() -> None:
    x, eps = torch.randn(2, 4, 3).double()
    tau = torch.full((4,), 0.4).double()
    step = 1e-3
    slope = (interpolate(x, eps, tau + step) - interpolate(x, eps, tau - step)) / (2 * step)
    torch.testing.assert_close(velocity(x, eps), slope, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            (torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2)),
            r"eps: expected the axes of x, \(2, 3\), got \(2, 4\)",
        ),
        ((torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3)), r"tau: expected the first axes of x, .* got \(3,\)"),
        (
            (torch.zeros(2, 3), torch.zeros(2, 3), 0.5),
            "tau: expected the first axes of x, .* as a torch.Tensor, got 0.5",
        ),
    ],
)
def test_a_path_refuses_what_does_not_fit(given: tuple, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        interpolate(*given)


def test_a_velocity_is_of_two_points_alike() -> None:
    with pytest.raises(ValueError, match="eps: expected the axes of x"):
        velocity(torch.zeros(2, 3), torch.zeros(3))
