from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule as sigmas_of_mochi
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule


@pytest.mark.parametrize("threshold_noise", [0.025, 0.1, 0.4])
def test_equals_mochi(threshold_noise: float) -> None:
    for num_steps in range(2, 101):
        expected = 1 - np.array([*sigmas_of_mochi(num_steps, threshold_noise), 0.0])
        got = linear_quadratic_schedule(num_steps, threshold_noise)
        assert got.dtype == torch.float64
        np.testing.assert_allclose(got, expected, atol=1e-12, rtol=0)


def test_equals_mochi_with_a_given_linear_part() -> None:
    for linear_steps in range(1, 10):
        expected = 1 - np.array([*sigmas_of_mochi(10, 0.1, linear_steps), 0.0])
        np.testing.assert_allclose(linear_quadratic_schedule(10, 0.1, linear_steps), expected, atol=1e-12, rtol=0)


def test_one_step() -> None:
    assert linear_quadratic_schedule(1).tolist() == [0.0, 1.0]


def test_without_a_linear_part_it_is_a_parabola() -> None:
    assert linear_quadratic_schedule(4, linear_steps=0).tolist() == [0.0, 1 / 16, 1 / 4, 9 / 16, 1.0]


@settings(max_examples=100, deadline=None)
@given(num_steps=st.integers(1, 200), threshold_noise=st.floats(1e-4, 0.5))
def test_rises_strictly_from_0_to_1(num_steps: int, threshold_noise: float) -> None:
    tau = linear_quadratic_schedule(num_steps, threshold_noise).numpy()
    assert tau.shape == (num_steps + 1,)
    assert tau[0] == 0
    assert tau[-1] == pytest.approx(1, abs=1e-12)
    assert tau[-1] <= 1
    assert (np.diff(tau) > 0).all()


@settings(max_examples=200, deadline=None)
@given(num_steps=st.integers(1, 60), threshold_noise=st.floats(0.001, 0.999), data=st.data())
def test_a_grid_rises_strictly_or_is_refused(num_steps: int, threshold_noise: float, data: st.DataObject) -> None:
    linear_steps = data.draw(st.integers(0, num_steps - 1))
    last = num_steps - linear_steps
    overshoots = False
    if linear_steps:
        # the parabola of the last steps, at integers from 0 to `last`: slope a, value threshold at 0 and 1 at `last`
        a = threshold_noise / linear_steps
        j = np.arange(last + 1)
        parabola = threshold_noise + a * j + (1 - threshold_noise - a * last) * (j / last) ** 2
        rise = np.diff(parabola).min()
        assume(abs(rise) > 1e-9)
        overshoots = rise < 0
    if overshoots:
        with pytest.raises(ValueError, match="expected a grid that rises from 0 to 1"):
            linear_quadratic_schedule(num_steps, threshold_noise, linear_steps)
        return
    tau = linear_quadratic_schedule(num_steps, threshold_noise, linear_steps).numpy()
    assert (np.diff(tau) > 0).all()
    assert (tau[0], tau[-1]) == (0, pytest.approx(1, abs=1e-12))


def test_the_first_steps_are_those_of_a_fine_even_grid_and_slope_and_end_fit() -> None:
    tau = linear_quadratic_schedule(50).numpy()
    np.testing.assert_allclose(tau[:26], np.arange(26) / 1000, atol=1e-15)
    quadratic = tau[25:]
    np.testing.assert_allclose(np.diff(quadratic, n=3), 0, atol=1e-14)  # a parabola
    curvature = np.diff(quadratic, n=2)[0] / 2
    slope = quadratic[1] - quadratic[0] - curvature
    assert slope == pytest.approx(1 / 1000, rel=1e-9)  # that goes on as the line did


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((0,), "num_steps: expected a whole number from 1 to 10000, got 0"),
        ((-3,), "num_steps: expected a whole number from 1 to 10000, got -3"),
        ((4, 0.0), "threshold_noise: expected a flow time above 0 and below 1, got 0.0"),
        ((4, 1.0), "threshold_noise: expected a flow time above 0 and below 1, got 1.0"),
        ((4, 0.1, 4), "linear_steps: expected a whole number from 0 to 3, got 4; of num_steps=4"),
        ((4, 0.1, -1), "linear_steps: expected a whole number from 0 to 3, got -1"),
        ((4, 0.9), "expected a grid that rises from 0 to 1, .*; lower threshold_noise=0.9 or raise linear_steps=2"),
        ((100, 0.025, 1), "expected a grid that rises from 0 to 1, .*; lower threshold_noise=0.025 or raise linear_s"),
    ],
)
def test_bad_input(arguments: tuple[float, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        linear_quadratic_schedule(*arguments)  # type: ignore[arg-type]
