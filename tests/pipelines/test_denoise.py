from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.pipelines.denoise import Grid, Window, denoise, windows
from gaia2.pipelines.guidance import Guidance, GuidedVelocity
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule

SHAPE = (2, 3, 2, 2, 3, 4)


class FakeTransformer:
    """Gives a velocity that a function of latents and flow time says, and writes down how it was called."""

    def __init__(self, velocity: Any, dtype: torch.dtype = torch.float64) -> None:
        self.velocity = velocity
        self.dtype = dtype
        self.calls: list[SimpleNamespace] = []

    def cache_context(self, name: str) -> Any:
        return nullcontext()

    def encode_conditioning(self, conditioning: dict[str, torch.Tensor]) -> EncodedConditioning:
        return EncodedConditioning(*(torch.zeros(SHAPE[0]) for _ in range(4)))

    def __call__(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: EncodedConditioning,
        known_mask: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        self.calls.append(SimpleNamespace(latents=latents.clone(), timestep=timestep, known_mask=known_mask))
        return SimpleNamespace(sample=self.velocity(latents, timestep))


def run(transformer: FakeTransformer, start: torch.Tensor, steps: int, scheduler: Any = None, **kwargs: Any) -> Any:
    velocity_of = GuidedVelocity(transformer, {}, Guidance(), (), known_mask=kwargs.get("known_mask"))
    return denoise(velocity_of, scheduler or FlowMatchScheduler(), start, Grid(steps), **kwargs)


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
    got = run(transformer, start, 5, interrupted=lambda tau: True)
    assert torch.equal(got, start)
    assert transformer.calls == []
    times: list[float] = []
    run(transformer, start, 5, interrupted=lambda tau: times.append(float(tau)) or len(transformer.calls) == 2)
    assert len(transformer.calls) == 2
    assert times == pytest.approx(linear_quadratic_schedule(5)[:3].tolist())


def test_the_network_gets_its_own_type_and_the_latents_keep_theirs() -> None:
    transformer = FakeTransformer(lambda x, tau: x, dtype=torch.bfloat16)
    got = run(transformer, random(0).float(), 2)
    assert transformer.calls[0].latents.dtype == torch.bfloat16
    assert got.dtype == torch.float32


def test_a_grid_of_ones_own_and_one_that_begins_later() -> None:
    for grid, times in (
        (Grid(None, timesteps=[0.0, 0.3]), [0.0, 0.3]),
        (Grid(None, timesteps=[0.0, 0.3, 0.8], begin=0.5), [0.5, 0.8]),
    ):
        transformer = FakeTransformer(lambda x, tau: x)
        denoise(GuidedVelocity(transformer, {}, Guidance(), ()), FlowMatchScheduler(), random(0), grid)
        assert [float(call.timestep[0]) for call in transformer.calls] == pytest.approx(times)
        assert transformer.calls[0].timestep.shape == SHAPE[:1]


@settings(max_examples=300, deadline=None)
@given(length=st.integers(1, 40), window=st.integers(2, 8), data=st.data())
def test_windows_make_every_latent_once(length: int, window: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, window - 1))
    given_latents = data.draw(st.integers(0, length - 1))
    plan = list(windows(length, window, overlap, given_latents))
    made = [t for w in plan for t in range(w.start + w.context, w.stop)]
    assert made == list(range(given_latents, length))
    for index, w in enumerate(plan):
        assert 0 <= w.start < w.stop <= length
        assert w.stop - w.start == min(window, length)
        assert 0 <= w.context < w.stop - w.start
        if index or given_latents:
            assert w.context >= 1
            assert w.context >= min(overlap, w.start + w.context)  # as much as there is, up to the overlap
    assert all(w.context == overlap for w in plan[1:-1])


def test_windows_of_the_paper() -> None:
    assert list(windows(12, 6, 3)) == [Window(0, 6, 0), Window(3, 9, 3), Window(6, 12, 3)]
    assert list(windows(6, 6, 3, given=3)) == [Window(0, 6, 3)]
    assert list(windows(10, 6, 3, given=1)) == [Window(0, 6, 1), Window(3, 9, 3), Window(4, 10, 5)]
    assert list(windows(2, 6, 3)) == [Window(0, 2, 0)]
