from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.pipelines.denoise import Window, denoise, windows
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule

SHAPE = (2, 3, 2, 2, 3, 4)


class FakeTransformer:
    """Gives a velocity that a function of latents and flow time says, and writes down how it was called."""

    def __init__(self, conditional: Any, unconditional: Any = None, dtype: torch.dtype = torch.float64) -> None:
        self.velocity = {"cond": conditional, "uncond": unconditional}
        self.dtype = dtype
        self.calls: list[SimpleNamespace] = []
        self.branch = ""

    @contextmanager
    def cache_context(self, name: str) -> Any:
        self.branch = name
        yield
        self.branch = ""

    def __call__(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: dict[str, torch.Tensor],
        known_mask: torch.Tensor | None = None,
    ) -> SimpleNamespace:
        self.calls.append(
            SimpleNamespace(
                branch=self.branch,
                latents=latents.clone(),
                timestep=timestep,
                conditioning=conditioning,
                known_mask=known_mask,
            )
        )
        return SimpleNamespace(sample=self.velocity[self.branch](latents, timestep))


def exact(x: torch.Tensor, steps: int) -> Any:
    """The velocity that leads to `x`, at the exact flow time of the grid."""
    grid = linear_quadratic_schedule(steps)

    def velocity(latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        tau = grid[(grid - timestep[0].double()).abs().argmin()]
        return (x - latents) / (1 - tau)

    return velocity


def random(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("mask", ["none", "context", "scattered", "all"])
def test_the_exact_velocity_leads_to_the_data(steps: int, mask: str) -> None:
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
    transformer = FakeTransformer(exact(x, steps))
    got = denoise(transformer, FlowMatchScheduler(), start, {}, num_inference_steps=steps, known_mask=known_mask)
    torch.testing.assert_close(got[~known], x[~known], atol=1e-12, rtol=0)
    assert torch.equal(got[known], given_latents[known])
    for call in transformer.calls:
        assert call.known_mask is known_mask
        assert torch.equal(call.latents[known], given_latents[known])


def test_without_guidance_a_step_is_one_forward() -> None:
    transformer = FakeTransformer(lambda x, tau: x)
    denoise(transformer, FlowMatchScheduler(), random(0), {"speed": torch.ones(2, 3)}, num_inference_steps=7)
    assert [call.branch for call in transformer.calls] == ["cond"] * 7
    times = torch.stack([call.timestep for call in transformer.calls])
    assert times.shape == (7, 2)
    torch.testing.assert_close(times[:, 0].double(), linear_quadratic_schedule(7)[:-1], atol=1e-7, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_guidance_goes_from_unconditional_to_conditional_and_beyond(scale: float) -> None:
    conditional, unconditional, start = random(0), random(1), random(2)
    transformer = FakeTransformer(lambda *_: conditional, lambda *_: unconditional)
    conditioning = {
        "speed": torch.ones(2, 3),
        "timestamps": torch.zeros(2, 3, 2),
        "metadata": torch.zeros(2, 11).long(),
    }
    got = denoise(transformer, FlowMatchScheduler(), start, conditioning, num_inference_steps=4, guidance_scale=scale)
    torch.testing.assert_close(got, start + unconditional + scale * (conditional - unconditional))
    assert [call.branch for call in transformer.calls] == ["cond", "uncond"] * 4
    assert transformer.calls[0].conditioning is conditioning
    dropped = transformer.calls[1].conditioning
    assert dropped["speed"].isnan().all()
    assert (dropped["metadata"] == -1).all()
    assert torch.equal(dropped["timestamps"], conditioning["timestamps"])
    assert torch.equal(transformer.calls[0].latents, transformer.calls[1].latents)


def test_the_callback_sees_each_step_and_may_change_the_latents() -> None:
    seen = []

    def on_step(index: int, tau: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        seen.append((index, float(tau), latents.clone()))
        return latents * 0 + index

    transformer = FakeTransformer(lambda x, tau: torch.ones_like(x))
    got = denoise(transformer, FlowMatchScheduler(), random(0), {}, num_inference_steps=3, on_step=on_step)
    grid = linear_quadratic_schedule(3)
    assert [index for index, *_ in seen] == [0, 1, 2]
    assert [tau for _, tau, _ in seen] == pytest.approx(grid[:-1].tolist())
    assert (got == 2).all()
    assert (transformer.calls[2].latents == 1).all()
    torch.testing.assert_close(seen[2][2], torch.full(SHAPE, 1 + float(grid[3] - grid[2])).double())


def test_interruption_ends_the_loop() -> None:
    transformer = FakeTransformer(lambda x, tau: x)
    start = random(0)
    got = denoise(transformer, FlowMatchScheduler(), start, {}, num_inference_steps=5, interrupted=lambda: True)
    assert torch.equal(got, start)
    assert transformer.calls == []
    denoise(
        transformer,
        FlowMatchScheduler(),
        start,
        {},
        num_inference_steps=5,
        interrupted=lambda: len(transformer.calls) == 2,
    )
    assert len(transformer.calls) == 2


def test_the_network_gets_its_own_type_and_the_latents_keep_theirs() -> None:
    transformer = FakeTransformer(lambda x, tau: x, dtype=torch.bfloat16)
    got = denoise(transformer, FlowMatchScheduler(), random(0).float(), {}, num_inference_steps=2)
    assert transformer.calls[0].latents.dtype == torch.bfloat16
    assert got.dtype == torch.float32


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
