from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from gaia2.schedulers.diffusers_adapter import DiffusersFlowAdapter, as_flow_scheduler
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.grids import flow_grid

FLOW = dict(use_flow_sigmas=True, prediction_type="flow_prediction")
FITTING: dict[str, dict[str, Any]] = {
    "FlowMatchEulerDiscreteScheduler": dict(shift=3.0),
    "FlowMatchHeunDiscreteScheduler": dict(shift=3.0),
    "FlowMatchLCMScheduler": dict(),
    "UniPCMultistepScheduler": FLOW,
    "DPMSolverMultistepScheduler": FLOW,
}


def theirs(name: str, **changes: Any) -> Any:
    return getattr(diffusers, name)(**FITTING[name] | changes)


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("steps", [2, 5, 20])
def test_the_exact_velocity_leads_to_the_data_and_known_tokens_stay(name: str, steps: int) -> None:
    scheduler = DiffusersFlowAdapter(theirs(name))
    scheduler.set_timesteps(steps)
    assert (scheduler.timesteps.diff() >= 0).all()
    assert scheduler.timesteps[0] < 0.002
    x, latents = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    known = torch.tensor([True, False, False, True])
    start = latents
    for tau in scheduler.timesteps:
        latents = scheduler.step((x - latents) / (1 - tau), tau, latents, known_mask=known).prev_sample
    assert torch.equal(latents[..., known], start[..., known])
    torch.testing.assert_close(latents[..., ~known], x[..., ~known], atol=2e-3, rtol=0)


def test_euler_of_diffusers_is_ours() -> None:
    adapter, ours = DiffusersFlowAdapter(theirs("FlowMatchEulerDiscreteScheduler")), FlowMatchScheduler()
    adapter.set_timesteps(6)
    ours.set_timesteps(timesteps=adapter.timesteps.double().clamp(min=0).tolist())
    a = b = torch.linspace(-1, 1, 8)
    for tau in adapter.timesteps:
        a = adapter.step(torch.cos(a + tau), tau, a).prev_sample
        b = ours.step(torch.cos(b + tau), tau, b, return_dict=False)[0]
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_grid_of_ones_own_where_the_scheduler_takes_one() -> None:
    adapter = DiffusersFlowAdapter(theirs("FlowMatchEulerDiscreteScheduler", shift=1.0))
    grid = flow_grid("linear_quadratic", 8)
    adapter.set_timesteps(timesteps=grid[:-1].tolist())
    torch.testing.assert_close(adapter.timesteps, grid[:-1].float(), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="timesteps: expected a scheduler that takes a grid, got FlowMatchHeun"):
        DiffusersFlowAdapter(theirs("FlowMatchHeunDiscreteScheduler")).set_timesteps(timesteps=[0.0, 0.5])


@pytest.mark.parametrize("name", FITTING)
def test_beginning_in_the_middle(name: str) -> None:
    scheduler = DiffusersFlowAdapter(theirs(name))
    scheduler.set_timesteps(10)
    whole = scheduler.timesteps
    tau = scheduler.begin_at(0.4)
    assert tau >= 0.4
    assert tau == scheduler.timesteps[0] == whole[whole >= 0.4][0]
    x, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    latents = scheduler.scale_noise(x, tau, noise)
    for now in scheduler.timesteps:
        latents = scheduler.step((x - latents) / (1 - now), now, latents).prev_sample
    torch.testing.assert_close(latents, x, atol=2e-3, rtol=0)


def test_what_is_no_flow_scheduler_is_refused() -> None:
    for scheduler in (diffusers.DDIMScheduler(), diffusers.UniPCMultistepScheduler(), object()):
        with pytest.raises(
            ValueError, match=r"scheduler: expected FlowMatchScheduler or a flow scheduler .* UniPC and"
        ):
            DiffusersFlowAdapter(scheduler)
    with pytest.raises(ValueError, match="scheduler: expected a fixed shift, got use_dynamic_shifting=True"):
        DiffusersFlowAdapter(theirs("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True))


def test_ours_needs_no_adapter() -> None:
    ours = FlowMatchScheduler()
    assert as_flow_scheduler(ours) is ours
    adapter = as_flow_scheduler(theirs("FlowMatchEulerDiscreteScheduler"))
    assert isinstance(adapter, DiffusersFlowAdapter)
    assert as_flow_scheduler(adapter) is adapter
