from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule


@settings(max_examples=20, deadline=None)
@given(steps=st.integers(1, 60), seed=st.integers(0, 100))
def test_the_exact_velocity_leads_to_the_data(steps: int, seed: int) -> None:
    torch.manual_seed(seed)
    x, latents = torch.randn(2, 2, 3, 4).double()
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(steps)
    for index, tau in enumerate(scheduler.timesteps):
        exact = scheduler.grid[index]
        assert float(tau) == pytest.approx(float(exact), abs=1e-7)
        latents = scheduler.step((x - latents) / (1 - exact), tau, latents).prev_sample
    torch.testing.assert_close(latents, x, atol=1e-12, rtol=0)


def test_a_constant_velocity_is_integrated_over_the_whole_time() -> None:
    scheduler = FlowMatchScheduler()
    start, velocity = torch.randn(2, 3).double(), torch.randn(2, 3).double()
    for steps in (1, 2, 3, 7, 50):
        scheduler.set_timesteps(steps)
        latents = start
        for tau in scheduler.timesteps:
            latents = scheduler.step(velocity, tau, latents).prev_sample
        torch.testing.assert_close(latents, start + velocity, atol=1e-12, rtol=0)


def test_one_step_has_the_width_of_the_grid() -> None:
    scheduler = FlowMatchScheduler(threshold_noise=0.1, linear_steps=3)
    scheduler.set_timesteps(8)
    grid = linear_quadratic_schedule(8, 0.1, 3)
    torch.testing.assert_close(scheduler.timesteps, grid[:-1].float())
    # beginning in the middle, as an editing pipeline does
    latents = scheduler.step(torch.ones(2), scheduler.timesteps[5], torch.zeros(2)).prev_sample
    torch.testing.assert_close(latents, (grid[6] - grid[5]).float().expand(2))
    latents = scheduler.step(torch.ones(2), scheduler.timesteps[6], latents, return_dict=False)[0]
    torch.testing.assert_close(latents, (grid[7] - grid[5]).float().expand(2))


def test_known_tokens_stay_bit_equal() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4)
    sample = torch.randn(2, 5, 3)
    mask = torch.rand(2, 5, 1) < 0.5
    nonsense = torch.where(mask, torch.nan, torch.randn_like(sample))
    moved = scheduler.step(nonsense, 0.0, sample, known_mask=mask).prev_sample
    known = mask.expand_as(sample)
    assert torch.equal(moved[known], sample[known])
    assert (moved != sample)[~known].all()


def test_the_sample_keeps_its_type() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(2)
    assert scheduler.step(torch.ones(2).bfloat16(), 0.0, torch.zeros(2)).prev_sample.dtype == torch.float32


def test_set_timesteps_begins_anew() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(1)
    scheduler.step(torch.ones(1), 0.0, torch.zeros(1))
    with pytest.raises(ValueError, match="step: expected at most 1 steps, got one more; call set_timesteps again"):
        scheduler.step(torch.ones(1), 1.0, torch.zeros(1))
    scheduler.set_timesteps(3)
    assert scheduler.step(torch.ones(1), 0.0, torch.zeros(1)).prev_sample == scheduler.grid[1].float()


def test_needs_a_grid() -> None:
    with pytest.raises(ValueError, match="step: expected set_timesteps to be called before"):
        FlowMatchScheduler().step(torch.ones(1), 0.0, torch.zeros(1))


def test_scale_noise_is_the_path() -> None:
    x, eps = torch.randn(2, 2, 3).double()
    scheduler = FlowMatchScheduler()
    torch.testing.assert_close(scheduler.scale_noise(x, 0.25, eps), 0.25 * x + 0.75 * eps)
    tau = torch.tensor([0.1, 0.9]).double()
    torch.testing.assert_close(scheduler.scale_noise(x, tau, eps), tau[:, None] * x + (1 - tau[:, None]) * eps)
    torch.manual_seed(0)
    drawn = scheduler.scale_noise(torch.zeros(20_000), 0.25)
    assert drawn.std().item() == pytest.approx(0.75, rel=0.03)


def test_config_goes_to_disk_and_back(tmp_path: Path) -> None:
    FlowMatchScheduler(threshold_noise=0.1, linear_steps=2).save_pretrained(tmp_path)
    loaded = FlowMatchScheduler.from_pretrained(tmp_path)
    loaded.set_timesteps(6)
    torch.testing.assert_close(loaded.grid, linear_quadratic_schedule(6, 0.1, 2), rtol=0, atol=0)
