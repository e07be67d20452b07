from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaia2.schedulers.grids import GRIDS, custom_grid, flow_grid
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule


@given(name=st.sampled_from(GRIDS), steps=st.integers(1, 200), shift=st.floats(0.1, 20))
def test_every_grid_rises_from_noise_to_data(name: str, steps: int, shift: float) -> None:
    grid = flow_grid(name, steps, shift=shift)
    assert grid.dtype == torch.float64
    assert len(grid) == steps + 1
    assert (grid[0], grid[-1]) == (0, 1)
    assert (grid.diff() > 0).all()


def test_the_named_grids() -> None:
    torch.testing.assert_close(flow_grid("linear_quadratic", 7), linear_quadratic_schedule(7), rtol=0, atol=0)
    assert flow_grid("linear", 4).tolist() == [0, 0.25, 0.5, 0.75, 1]
    torch.testing.assert_close(flow_grid("shifted", 9, shift=1.0), flow_grid("linear", 9))


@pytest.mark.parametrize("shift", [0.5, 3.0, 7.0])
def test_shifting_is_that_of_diffusers(shift: float) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=shift)
    theirs.set_timesteps(sigmas=(1 - flow_grid("linear", 10)[:-1]).tolist())
    torch.testing.assert_close(1 - theirs.sigmas, flow_grid("shifted", 10, shift=shift).float(), atol=1e-6, rtol=0)


def test_a_grid_of_ones_own() -> None:
    assert custom_grid([0.0, 0.5]).tolist() == [0, 0.5, 1]
    assert custom_grid((0.25, 0.5, 1.0)).tolist() == [0.25, 0.5, 1]
    assert custom_grid(torch.tensor([0.5])).tolist() == [0.5, 1]


@pytest.mark.parametrize(
    "times", [[], [1.0], [0.5, 0.5], [0.5, 0.25], [-0.1, 0.5], [0.0, 1.2], [0.0, float("nan"), 0.5]]
)
def test_a_wrong_grid_is_refused(times: list[float]) -> None:
    with pytest.raises(
        ValueError, match=r"timesteps: expected flow times that rise from 0 .* sigmas become flow times"
    ):
        custom_grid(times)


def test_wrong_names_and_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="grid: expected one of linear_quadratic, linear, shifted, got 'cosine'"):
        flow_grid("cosine", 4)
    with pytest.raises(ValueError, match="num_inference_steps: expected a whole number from 1 to 10000, got 0"):
        flow_grid("linear", 0)
    with pytest.raises(ValueError, match=r"shift: expected a number above 0 and below 1e.06, got 0; 1 is no shift"):
        flow_grid("shifted", 4, shift=0)


def test_what_the_grids_are_by_default() -> None:
    assert flow_grid("shifted", 2).tolist() == [0, 0.25, 1]
    assert flow_grid("linear_quadratic", 4)[2] == 0.025
    assert torch.equal(flow_grid("linear_quadratic", 8, linear_steps=3), linear_quadratic_schedule(8, linear_steps=3))
    assert torch.equal(flow_grid("linear_quadratic", 8, threshold_noise=0.1), linear_quadratic_schedule(8, 0.1))


def test_limits_of_shift_and_steps() -> None:
    assert len(flow_grid("linear", 10_000)) == 10_001
    for make in (lambda: flow_grid("linear", 10_001), lambda: flow_grid("shifted", 2, shift=1e6)):
        with pytest.raises(ValueError, match=r"(num_inference_steps|shift): expected"):
            make()


@pytest.mark.parametrize("times", ["0.5", None, [0.0, "half"], object()])
def test_a_grid_of_no_numbers_is_refused(times: object) -> None:
    with pytest.raises(ValueError, match="timesteps: expected flow times that rise from 0"):
        custom_grid(times)


def test_a_grid_of_one_step_that_says_its_end() -> None:
    assert custom_grid([0.5, 1.0]).tolist() == [0.5, 1]
    assert custom_grid(torch.tensor([[0.0], [0.5]])).tolist() == [0, 0.5, 1]
    assert custom_grid([0.5]).dtype == torch.float64
