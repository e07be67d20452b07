"""Solvers against equations whose solution is known."""

from __future__ import annotations

import math

import pytest
import torch

from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.solvers import AdamsBashforth2, Euler, Heun


def integrate(scheduler: FlowMatchScheduler, steps: int, start: float = 1.0) -> float:
    """Solve dx / dtau = cos(3 tau) x, whose solution is x(1) = x(0) exp(sin(3) / 3)."""
    scheduler.set_timesteps(steps)
    x = torch.tensor([start], dtype=torch.float64)
    for tau in scheduler.timesteps:
        x = scheduler.step(math.cos(3 * float(tau)) * x, tau, x).prev_sample
    return float(x)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2), ("adams_bashforth", 2)])
def test_error_falls_with_the_solvers_order(solver: str, order: int) -> None:
    scheduler = FlowMatchScheduler(grid="linear", solver=solver)
    truth = math.exp(math.sin(3) / 3)
    coarse, fine = (abs(integrate(scheduler, steps) - truth) for steps in (80, 160))
    assert coarse / fine == pytest.approx(2**order, rel=0.2)


def test_second_order_solvers_are_nearer_than_euler_on_the_papers_grid() -> None:
    truth = math.exp(math.sin(3) / 3)
    error = {s: abs(integrate(FlowMatchScheduler(solver=s), 50) - truth) for s in ("euler", "heun", "adams_bashforth")}
    assert error["heun"] < error["euler"] / 4
    assert error["adams_bashforth"] < error["euler"] / 4


def test_heun_is_diffusers_heun() -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler

    theirs = FlowMatchHeunDiscreteScheduler()
    theirs.set_timesteps(6)
    ours = FlowMatchScheduler(solver="heun")
    ours.set_timesteps(timesteps=(1 - theirs.sigmas.double())[::2][:6].tolist())
    torch.testing.assert_close(ours.timesteps, 1 - theirs.timesteps / 1000, atol=1e-6, rtol=0)
    assert (ours.order, len(ours.timesteps)) == (2, 11)
    a = b = torch.linspace(-1, 1, 8)
    for tau, timestep in zip(ours.timesteps, theirs.timesteps, strict=True):
        velocity = torch.sin(4 * tau + 2 * a) + a
        a = ours.step(velocity, tau, a).prev_sample
        b = theirs.step(-velocity, timestep, b).prev_sample
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_a_jump_of_the_grid_does_not_magnify_errors() -> None:
    scheduler = FlowMatchScheduler(solver="adams_bashforth")
    scheduler.set_timesteps(timesteps=[0.0, 1e-4, 2e-4])
    x = torch.zeros(1, dtype=torch.float64)
    for tau, error in zip(scheduler.timesteps, (0.0, 0.0, 1e-3), strict=True):
        x = scheduler.step(torch.ones_like(x) + error, tau, x).prev_sample
    assert abs(float(x) - 1) < 4e-3


def test_a_step_of_adams_and_bashforth_integrates_the_line_through_two_velocities() -> None:
    """Up to a step four times as long as the one before; a longer one counts as that."""
    for width, counted in ((0.2, 0.2), (0.5, 0.5), (1.6, 1.6), (3.0, 1.6)):
        solver = AdamsBashforth2()
        x = solver.advance(torch.tensor([1.0]), torch.tensor([2.0]), 0.4, is_last=False)
        assert x.item() == pytest.approx(1.8)
        got = solver.advance(x, torch.tensor([3.0]), width, is_last=True)
        slope = (3.0 - 2.0) / 0.4
        assert got.item() == pytest.approx(1.8 + width * (3.0 + slope * counted / 2), rel=1e-6)


def test_heun_ends_with_a_step_of_euler() -> None:
    solver, x = Heun(), torch.tensor([1.0])
    assert solver.advance(x, torch.tensor([2.0]), 0.5, is_last=True).item() == 2
    assert solver.advance(x, torch.tensor([4.0]), 0.5, is_last=True).item() == 3  # begins anew
    assert [solver.order for solver in (Euler, Heun, AdamsBashforth2)] == [1, 2, 1]
