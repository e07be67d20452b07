"""What the flow-matching scheduler refuses, and what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from gaia2.schedulers.flow_match import FlowMatchScheduler


def _laid(**config: Any) -> FlowMatchScheduler:
    scheduler = FlowMatchScheduler(**config)
    scheduler.set_timesteps(4)
    return scheduler


def test_needs_a_grid() -> None:
    with pytest.raises(ValueError, match="step: expected set_timesteps to be called before"):
        FlowMatchScheduler().step(torch.ones(1), 0.0, torch.zeros(1))


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (dict(grid="cosine"), "grid: expected one of linear_quadratic, linear, shifted, got 'cosine'"),
        (dict(solver="rk4"), "solver: expected one of euler, heun, adams_bashforth, got 'rk4'"),
        (dict(stochasticity=1.5), "stochasticity: expected a share from 0 to 1, got 1.5"),
        (dict(stochasticity=0.5, solver="heun"), "stochasticity: expected the solver 'euler' with it, got 'heun'"),
    ],
)
def test_wrong_configs_are_refused(config: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FlowMatchScheduler(**config)


def test_steps_or_flow_times_but_not_both() -> None:
    with pytest.raises(
        ValueError, match="set_timesteps: expected either num_inference_steps or timesteps, got neither"
    ):
        FlowMatchScheduler().set_timesteps()
    with pytest.raises(ValueError, match=r"set_timesteps: expected either .* got both"):
        FlowMatchScheduler().set_timesteps(4, timesteps=[0.0])


def test_a_shift_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="shift: expected the grid 'shifted' with it, got 'linear'"):
        FlowMatchScheduler(grid="linear", shift=5.0)


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (dict(threshold_noise=0.0), "threshold_noise: expected a flow time above 0 and below 1, got 0"),
        (dict(threshold_noise=1.0), "threshold_noise: expected a flow time above 0 and below 1, got 1"),
        (dict(linear_steps=-1), "linear_steps: expected a whole number from 0 to 9999, got -1"),
        (dict(linear_steps=10_000), "linear_steps: expected a whole number from 0 to 9999, got 10000"),
        (dict(stochasticity=-0.1), "stochasticity: expected a share from 0 to 1, got -0.1"),
        (dict(grid="shifted", shift=0.0), "shift: expected a number above 0"),
        (dict(shift=-1.0), "shift: expected a number above 0"),
    ],
)
def test_numbers_out_of_range_are_refused(config: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FlowMatchScheduler(**config)
    assert FlowMatchScheduler(linear_steps=0).config.linear_steps == 0
    assert FlowMatchScheduler(linear_steps=9_999, stochasticity=1.0).config.stochasticity == 1


def test_beginning_is_within_the_time_of_the_path() -> None:
    scheduler = _laid(grid="linear")
    for tau in (-0.1, 1.0):
        with pytest.raises(ValueError, match="tau: expected a flow time from 0 to below 1"):
            scheduler.begin_at(tau)
    scheduler.begin_at(0.5 - 1e-8)  # rounded: no step of no width
    assert scheduler.grid.tolist() == pytest.approx([0.5, 0.75, 1.0])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(model_output=torch.zeros(2, 4)), r"model_output: expected the axes of sample, \(2, 3\), got \(2, 4\)"),
        (dict(timestep=1.5), "timestep: expected a flow time from 0 to 1, got 1.5"),
        (dict(generator=[torch.Generator()]), "generator: expected one, or one for each of 2 samples, got 1"),
        (
            dict(known_mask=torch.zeros(2, 3)),
            "known_mask: expected a boolean tensor that broadcasts .* got torch.float32",
        ),
        (dict(known_mask=True), "known_mask: expected a boolean tensor that broadcasts .* got True"),
        (dict(known_mask=torch.ones(2, 2).bool()), r"known_mask: expected axes that broadcast against .* got \(2, 2\)"),
        (dict(known_mask=torch.ones(1, 1, 3).bool()), r"known_mask: expected axes that broadcast .* got \(1, 1, 3\)"),
        (
            dict(per_token_timesteps=torch.full((2,), 1.5)),
            "per_token_timesteps: expected flow times from 0 to 1, got 1.5",
        ),
        (dict(per_token_timesteps=0.5), "per_token_timesteps: expected a torch.Tensor, got 0.5"),
    ],
)
def test_a_step_refuses_what_does_not_fit(changes: dict[str, Any], match: str) -> None:
    given = dict(model_output=torch.zeros(2, 3), timestep=0.0, sample=torch.zeros(2, 3)) | changes
    with pytest.raises(ValueError, match=match):
        _laid().step(**given)


def test_noising_refuses_what_does_not_fit() -> None:
    scheduler, x = FlowMatchScheduler(), torch.zeros(2, 3)
    for given, match in (
        ((x, 1.5), "timestep: expected a flow time from 0 to 1, got 1.5"),
        ((x, 0.5, torch.zeros(2, 4)), r"noise: expected the axes of sample, \(2, 3\), got \(2, 4\)"),
        ((x.int(), 0.5), "sample: expected floating-point numbers"),
    ):
        with pytest.raises(ValueError, match=match):
            scheduler.scale_noise(*given)
