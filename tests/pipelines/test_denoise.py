from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.conditioning.table import standard_conditions
from gaia2.pipelines.denoise import denoise
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.guided_velocity import GuidedVelocity
from gaia2.pipelines.sampling import Sampling
from gaia2.pipelines.state import CallState
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule

SHAPE = (2, 3, 2, 2, 3, 4)


class FakeTransformer:
    """Gives a velocity that a function of latents and flow time says, and writes down how it was called."""

    def __init__(self, velocity: Any, dtype: torch.dtype = torch.float64) -> None:
        self.velocity = velocity
        self.dtype = dtype
        self.conditions = standard_conditions()
        self.calls: list[SimpleNamespace] = []

    def cache_context(self, name: str) -> Any:
        return nullcontext()

    def encode_conditioning(self, conditioning: dict[str, torch.Tensor], grid: Any = None) -> EncodedConditioning:
        return EncodedConditioning(*(torch.zeros(SHAPE[0]) for _ in range(4)))

    def prepare(self, encoded: EncodedConditioning, grid: Any = None) -> EncodedConditioning:
        return encoded

    def __call__(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: EncodedConditioning,
        known_mask: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        self.calls.append(SimpleNamespace(latents=latents.clone(), timestep=timestep, known_mask=known_mask))
        return SimpleNamespace(sample=self.velocity(latents, timestep))


def run(
    transformer: FakeTransformer,
    start: torch.Tensor,
    sampling: int | Sampling,
    scheduler: Any = None,
    state: CallState | None = None,
    **kwargs: Any,
) -> Any:
    velocity_of = GuidedVelocity(transformer, {}, Guidance(), known_mask=kwargs.get("known_mask"))
    sampling = Sampling(sampling) if isinstance(sampling, int) else sampling
    laid = sampling.lay(scheduler or FlowMatchScheduler())
    return denoise(velocity_of, laid, start, state or CallState(), **kwargs)


def random(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 8, 50])
@pytest.mark.parametrize("mask", ["none", "context", "scattered", "all"])
@pytest.mark.parametrize("solver", ["euler", "heun", "adams_bashforth"])
def test_the_exact_velocity_leads_to_the_data(steps: int, mask: str, solver: str) -> None:
    x, noise = random(0), random(1)
    known_mask = {
        "none": None,
        "context": (torch.arange(3) < 1)[None, :, None, None, None].expand(SHAPE[:-1]),
        "scattered": torch.rand(SHAPE[:-1], generator=torch.Generator().manual_seed(2)) < 0.4,
        "all": torch.ones(SHAPE[:-1]).bool(),
    }[mask]
    known = torch.zeros(SHAPE).bool() if known_mask is None else known_mask[..., None].expand(SHAPE)
    given_latents = random(3)
    start = torch.where(known, given_latents, noise)
    transformer = FakeTransformer(lambda latents, tau: (x - latents) / (1 - tau[0].double()))
    got = run(transformer, start, steps, FlowMatchScheduler(solver=solver), known_mask=known_mask)
    torch.testing.assert_close(got[~known], x[~known], atol=1e-5, rtol=0)
    assert torch.equal(got[known], given_latents[known])
    for call in transformer.calls:
        assert call.known_mask is known_mask
        assert torch.equal(call.latents[known], given_latents[known])


def test_the_callback_sees_each_step_and_may_change_the_latents() -> None:
    seen = []

    def on_step(index: int, tau: torch.Tensor, tensors: dict[str, torch.Tensor | None]) -> torch.Tensor:
        assert (tensors["velocity"] == 1).all()
        assert tensors["known_mask"] is None
        seen.append((index, float(tau), tensors["latents"].clone()))
        return tensors["latents"] * 0 + index

    transformer = FakeTransformer(lambda x, tau: torch.ones_like(x))
    got = run(transformer, random(0), 3, on_step=on_step)
    grid = linear_quadratic_schedule(3)
    assert [index for index, *_ in seen] == [0, 1, 2]
    assert [tau for _, tau, _ in seen] == pytest.approx(grid[:-1].tolist())
    assert (got == 2).all()
    assert (transformer.calls[2].latents == 1).all()
    torch.testing.assert_close(seen[2][2], torch.full(SHAPE, 1 + float(grid[3] - grid[2])).double())


def test_interruption_ends_the_loop() -> None:
    transformer = FakeTransformer(lambda x, tau: x)
    start = random(0)
    got = run(transformer, start, 5, state=CallState(interrupt=True))
    assert torch.equal(got, start)
    assert transformer.calls == []
    state = CallState()

    def on_step(index: int, tau: torch.Tensor, tensors: dict[str, torch.Tensor | None]) -> torch.Tensor:
        assert state.tau == float(tau)
        state.interrupt = index == 1
        return tensors["latents"]

    run(transformer, start, 5, state=state, on_step=on_step)
    assert len(transformer.calls) == 2
    assert state.tau == pytest.approx(linear_quadratic_schedule(5)[2].item())  # where it would have gone on


def test_guidance_is_asked_for_before_each_step() -> None:
    """Both branches of the same network give the same velocity; a guided step is told by its batch of both."""
    transformer = FakeTransformer(lambda x, tau: x)
    state = CallState(Guidance(interval=(0.0, 0.8)))

    def on_step(index: int, tau: torch.Tensor, tensors: dict[str, torch.Tensor | None]) -> torch.Tensor:
        scale = {0: 1.0, 1: 2.0, 2: 1.0, 3: 3.0}.get(index, state.guidance.scale)
        state.guidance = replace(state.guidance, scale=scale)
        return tensors["latents"]

    run(transformer, random(0), Sampling(timesteps=(0.0, 0.1, 0.2, 0.3, 0.7, 0.9)), state=state, on_step=on_step)
    assert [len(call.latents) // SHAPE[0] for call in transformer.calls] == [1, 1, 2, 1, 2, 1]


def test_the_network_gets_its_own_type_and_the_latents_keep_theirs() -> None:
    transformer = FakeTransformer(lambda x, tau: x, dtype=torch.bfloat16)
    got = run(transformer, random(0).float(), 2)
    assert transformer.calls[0].latents.dtype == torch.bfloat16
    assert got.dtype == torch.float32


def test_a_grid_of_ones_own_and_one_that_begins_later() -> None:
    for sampling, times in (
        (Sampling(timesteps=(0.0, 0.3)), [0.0, 0.3]),
        (Sampling(timesteps=(0.0, 0.3, 0.8), begin=0.5), [0.5, 0.8]),
    ):
        transformer = FakeTransformer(lambda x, tau: x)
        run(transformer, random(0), sampling)
        assert [float(call.timestep[0]) for call in transformer.calls] == pytest.approx(times)
        assert transformer.calls[0].timestep.shape == SHAPE[:1]


def test_what_a_step_draws_comes_from_the_generator() -> None:
    """Of a scheduler that renews all noise: the same numbers give the same video, and no others are drawn."""
    transformer = FakeTransformer(lambda x, tau: -x)
    scheduler = FlowMatchScheduler(stochasticity=1.0)

    def once(seed: int) -> torch.Tensor:
        return run(transformer, random(0), 3, scheduler, generator=torch.Generator().manual_seed(seed))

    state = torch.get_rng_state()
    assert torch.equal(once(0), once(0))
    assert not torch.equal(once(0), once(1))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_guider_is_told_the_step_and_how_many_there_are() -> None:
    told = []

    class Velocity:
        def __call__(self, latents: torch.Tensor, tau: torch.Tensor, **given: Any) -> torch.Tensor:
            told.append((float(tau), given))
            return latents

    laid = Sampling(timesteps=(0.0, 0.25, 0.5)).lay(FlowMatchScheduler())
    denoise(Velocity(), laid, random(0), CallState(Guidance(2.0, interval=(0.2, 1.0))))
    assert told == [
        (tau, {"scale": scale, "step": step, "num_steps": 3})
        for step, (tau, scale) in enumerate([(0.0, 1.0), (0.25, 2.0), (0.5, 2.0)])
    ]
