from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AdaptiveProjectedGuidance,
    ClassifierFreeGuidance,
    FirstBlockCacheConfig,
    LayerSkipConfig,
    SkipLayerGuidance,
)

from gaia2.conditioning.dropout import drop
from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.conditioning.table import standard_conditions
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.guided_velocity import GuidedVelocity
from gaia2.pipelines.labels import agent_region
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import METADATA
from tests.pipelines.helpers import STEPS, C, H, Spy, W, pipeline, scene, seeded, with_agents
from tests.tiny import CLIP_DIM, SCENARIO_DIM, conditioning, world_model

GIVEN = dict(country="uk", time_of_day="night")


def everything() -> Any:
    return with_agents(scene(16, "front", **GIVEN)).replace(
        clip_embedding=np.linspace(-1, 1, CLIP_DIM), scenario_embedding=np.ones(SCENARIO_DIM)
    )


def velocity(pipe: Gaia2Pipeline, **kwargs: Any) -> torch.Tensor:
    noise = torch.randn(1, 2, 1, H, W, C, generator=seeded())
    return pipe(everything(), latents=noise, num_inference_steps=1, output_type="latent", **kwargs).frames - noise


@pytest.mark.parametrize(
    ("on", "changed"),
    [
        (("weather",), {"metadata"}),
        (("weather", "speed"), {"metadata", "speed"}),
        (("curvature",), {"curvature"}),
        (("agents",), {"agents"}),
        (("prompt",), {"clip_embedding"}),
        (("clip",), {"clip_embedding"}),
        (("scenario",), {"scenario_embedding"}),
        (("metadata",), {"metadata"}),
        (None, {"metadata", "speed", "curvature", "agents", "clip_embedding", "scenario_embedding"}),
    ],
)
def test_the_other_branch_lacks_what_is_guided_on(on: Any, changed: set[str]) -> None:
    full = conditioning(1, 2, 1)
    other = Guidance(scale=2.0, on=on).without(full, standard_conditions())
    assert {key for key in full if not torch.equal(full[key], other[key])} == changed
    if on and "weather" in on:
        column = list(METADATA).index("weather")
        assert (other["metadata"][:, column] == -1).all()
        rest = torch.arange(len(METADATA)) != column
        assert torch.equal(other["metadata"][:, rest], full["metadata"][:, rest])


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("on", [None, ("weather",), ("agents", "speed")])
def test_guidance_is_its_formula(pipe: Gaia2Pipeline, scale: float, on: Any) -> None:
    conditional = velocity(pipe)
    free = velocity(pipe, guidance_scale=0.0, guidance_on=on)
    assert (conditional - free).abs().max() > 1e-4
    got = velocity(pipe, guidance_scale=scale, guidance_on=on)
    torch.testing.assert_close(got, free + scale * (conditional - free), atol=1e-5, rtol=0)


def test_a_branch_is_what_a_scene_without_the_condition_gives(pipe: Gaia2Pipeline) -> None:
    noise = torch.randn(1, 2, 1, H, W, C, generator=seeded())
    without = pipe(
        everything().replace(weather=None), latents=noise, num_inference_steps=1, output_type="latent"
    ).frames
    torch.testing.assert_close(
        velocity(pipe, guidance_scale=0.0, guidance_on=("weather",)), without - noise, atol=1e-5, rtol=0
    )


def test_forwards_and_their_batch(pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(**kwargs: Any) -> list[int]:
        with monkeypatch.context() as patch:
            spy = Spy(pipe, patch)
            pipe([everything()] * 3, num_inference_steps=5, generator=seeded(), output_type="latent", **kwargs)
            return [len(call["latents"]) for call in spy.calls]

    assert batches() == [3] * 5
    assert batches(guidance_scale=1.0, guidance_on=("weather",), guidance_region="agents") == [3] * 5
    assert batches(guidance_scale=2.0) == [6] * 5
    assert batches(guidance_scale=2.0, guidance_interval=(0.01, 0.1)) == [3, 6, 6, 3, 3]  # at 0, .0125, .025, .14, .47
    assert batches(guidance_scale=2.0, guidance_region="agents") == [3] * 10


def test_outside_the_interval_nothing_is_guided(pipe: Gaia2Pipeline) -> None:
    def run(**kwargs: Any) -> torch.Tensor:
        return pipe(everything(), num_inference_steps=4, generator=seeded(), output_type="latent", **kwargs).frames

    plain, guided = run(), run(guidance_scale=3.0)
    assert torch.equal(run(guidance_scale=3.0, guidance_interval=(0.9, 1.0)), plain)
    torch.testing.assert_close(run(guidance_scale=3.0, guidance_interval=(0.0, 1.0)), guided)
    partly = run(guidance_scale=3.0, guidance_interval=(0.0, 0.1))
    assert (partly - plain).abs().max() > 1e-4
    assert (partly - guided).abs().max() > 1e-4


def test_the_interval_has_its_ends_though_flow_times_are_rounded() -> None:
    first, last = (float(torch.tensor(tau)) for tau in (0.7, 0.8))  # float32: below 0.7, above 0.8
    assert first < 0.7 < 0.8 < last
    guidance = Guidance(3.0, interval=(0.7, 0.8))
    assert [guidance.scale_at(tau) for tau in (first - 1e-5, first, 0.75, last, last + 1e-5)] == [1, 3, 3, 3, 1]


def test_outside_the_agents_region_the_velocity_is_that_without_guidance(pipe: Gaia2Pipeline) -> None:
    used = pipe(everything(), num_inference_steps=1, output_type="latent").scenes
    region = agent_region(used, 8, (H, W))
    assert 0 < region.sum() < region.numel()
    plain, free = velocity(pipe), velocity(pipe, guidance_scale=0.0, guidance_on=("agents",))
    got = velocity(pipe, guidance_scale=5.0, guidance_region="agents")
    assert torch.equal(got[~region], plain[~region])
    expected = free + 5 * (plain - free)
    torch.testing.assert_close(got[region], expected[region], atol=1e-5, rtol=0)
    assert (got - plain)[region].abs().amax(dim=-1).min() > 0


def test_outside_the_region_a_step_is_bit_equal() -> None:
    """With the network as it is, in a batch of two."""
    torch.manual_seed(0)
    model = world_model(dim=32)
    given = {k: v.float() if v.is_floating_point() else v for k, v in conditioning(2, 2, 3).items()}
    latents, region = torch.randn(2, 2, 3, 3, 4, 4), torch.rand(2, 2, 3, 3, 4) < 0.4
    tau = torch.tensor(0.3)
    with torch.no_grad():
        plain = GuidedVelocity(model, given, Guidance())(latents, tau, scale=1.0)
        selective = GuidedVelocity(model, given, Guidance(4.0, region="agents"), region)
        got = selective(latents, tau, scale=4.0)
        free = GuidedVelocity(model, drop(given, ["agents"]), Guidance())(latents, tau, scale=1.0)
    assert torch.equal(got[~region], plain[~region])
    torch.testing.assert_close(got[region], (free + 4 * (plain - free))[region])


def test_over_the_steps_attention_carries_it_out_of_the_region(pipe: Gaia2Pipeline) -> None:
    """What the documentation says of the region holds for a step, not for the video."""
    region = agent_region(pipe(everything(), num_inference_steps=1, output_type="latent").scenes, 8, (H, W))
    for steps, equal in ((1, True), (3, False)):
        arguments: dict[str, Any] = dict(num_inference_steps=steps, output_type="latent")
        plain, guided = (
            pipe(everything(), generator=seeded(), **arguments, **more).frames
            for more in ({}, dict(guidance_scale=5.0, guidance_region="agents"))
        )
        assert torch.equal(guided[~region], plain[~region]) is equal


def test_without_agents_in_sight_selective_guidance_costs_nothing(
    pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    spy = Spy(pipe, monkeypatch)
    pipe(scene(rig="front"), num_inference_steps=STEPS, guidance_scale=5.0, guidance_region="agents")
    assert [len(call["latents"]) for call in spy.calls] == [1] * STEPS


@pytest.mark.parametrize(
    "kwargs", [dict(), dict(guidance_scale=2.0), dict(guidance_scale=2.0, guidance_interval=(0, 0.1))]
)
def test_a_step_cache_that_never_skips_changes_nothing(kwargs: Any) -> None:
    def run(cached: bool) -> torch.Tensor:
        pipe = pipeline()
        if cached:
            pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
        arguments = dict(num_inference_steps=3, generator=seeded(), output_type="latent") | kwargs
        return pipe([scene(40, "front")] * 2, **arguments).frames  # two windows

    torch.testing.assert_close(run(cached=True), run(cached=False), atol=1e-6, rtol=0)


def test_a_step_cache_starts_afresh_in_each_window(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=1e9))  # only what it must not reuse is computed
    last = pipe.transformer.transformer_blocks[-1].mlp
    ran: list[int] = []
    handle = last.register_forward_hook(lambda *_: ran.append(1))
    pipe(scene(40, "front"), num_inference_steps=4, generator=seeded(), output_type="latent")
    handle.remove()
    assert len(ran) == 2  # the first step of each of the two windows


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(guidance_scale=-0.5), "guidance_scale: expected a number from 0 to 1000, got -0.5; 1 is no guidance"),
        (dict(guidance_scale=float("nan")), "guidance_scale: expected a number from 0 to 1000, got nan"),
        (dict(guidance_on=("wether",)), "guidance_on: unknown condition 'wether'; did you mean 'weather'"),
        (dict(guidance_on="weather"), "guidance_on: expected a tuple of names, such as .* got 'weather'"),
        (dict(guidance_on=()), "guidance_on: expected a tuple of names"),
        (dict(guidance_region="cars"), "guidance_region: expected one of None, agents, got 'cars'"),
        (dict(guidance_interval=(0.5, 0.2)), r"guidance_interval: expected two rising flow times .* got \(0.5, 0.2\)"),
        (dict(guidance_interval=(0.0, 1.5)), "guidance_interval: expected flow times from 0 to 1, got 1.5"),
        (dict(guider=ClassifierFreeGuidance()), "guider: expected no guidance_scale and guidance_interval beside it"),
        (dict(guidance_scale=1.0, guider=3.0), r"guider: expected a guider of diffusers, such as .* got 3.0"),
    ],
)
def test_bad_guidance_is_refused_before_the_first_step(
    pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], match: str
) -> None:
    spy = Spy(pipe, monkeypatch)
    with pytest.raises(ValueError, match=match):
        pipe(everything(), num_inference_steps=STEPS, **dict(guidance_scale=2.0) | arguments)
    assert spy.calls == []


def test_a_guider_of_diffusers_takes_the_scales_place(pipe: Gaia2Pipeline) -> None:
    """Plain classifier-free guidance is our formula; the projected one without projection and norm is, too."""
    expected = velocity(pipe, guidance_scale=3.0, guidance_on=("weather",))
    for guider in (
        ClassifierFreeGuidance(guidance_scale=3.0),
        ClassifierFreeGuidance(guidance_scale=2.0, use_original_formulation=True),
        AdaptiveProjectedGuidance(guidance_scale=3.0, eta=1.0, adaptive_projected_guidance_momentum=None),
    ):
        got = velocity(pipe, guider=guider, guidance_on=("weather",))
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    parallel = AdaptiveProjectedGuidance(guidance_scale=3.0, eta=0.0, adaptive_projected_guidance_momentum=None)
    assert (velocity(pipe, guider=parallel, guidance_on=("weather",)) - expected).abs().max() > 1e-3


def test_a_guider_acts_from_its_start_to_its_stop(pipe: Gaia2Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    spy = Spy(pipe, monkeypatch)
    guider = ClassifierFreeGuidance(guidance_scale=3.0, start=0.2, stop=0.6)
    pipe(everything(), num_inference_steps=5, generator=seeded(), guider=guider)
    times = [float(call["timestep"][0]) for call in spy.calls]
    assert [times.count(tau) for tau in dict.fromkeys(times)] == [1, 2, 2, 1, 1]


def test_a_guider_that_skips_layers_changes_the_network_for_its_branch_alone(pipe: Gaia2Pipeline) -> None:
    """Skip-layer guidance begins at the second step: two branches, then three, one of them without the block."""
    plain = velocity(pipe)
    ran: list[list[int]] = [[], []]
    hooks = [
        block.mlp.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        for block, runs in zip(pipe.transformer.transformer_blocks, ran, strict=True)
    ]

    def run(skip_scale: float) -> torch.Tensor:
        guider = SkipLayerGuidance(
            guidance_scale=2.0,
            skip_layer_guidance_scale=skip_scale,
            skip_layer_guidance_start=0.0,
            skip_layer_guidance_stop=1.0,
            skip_layer_config=LayerSkipConfig(indices=[1]),
        )
        arguments: dict[str, Any] = dict(generator=seeded(), output_type="latent", num_inference_steps=2)
        return pipe(everything(), guider=guider, **arguments).frames

    got = run(3.0)
    assert [len(runs) for runs in ran] == [5, 4]
    assert (got - run(0.0)).abs().max() > 1e-3
    assert all(hook.remove() is None for hook in hooks)
    assert torch.equal(velocity(pipe), plain)


def test_a_guider_and_a_region(pipe: Gaia2Pipeline) -> None:
    region = agent_region(pipe(everything(), num_inference_steps=1, output_type="latent").scenes, 8, (H, W))
    plain = velocity(pipe)
    got = velocity(pipe, guider=ClassifierFreeGuidance(guidance_scale=5.0), guidance_region="agents")
    expected = velocity(pipe, guidance_scale=5.0, guidance_region="agents")
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)
    assert torch.equal(got[~region], plain[~region])


def test_a_callback_assigns_a_guiders_scale(pipe: Gaia2Pipeline) -> None:
    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale += 1.0
        return tensors

    guider = ClassifierFreeGuidance(guidance_scale=2.0)
    pipe(everything(), num_inference_steps=3, guider=guider, callback_on_step_end=callback)
    assert pipe.guidance_scale == guider.guidance_scale == 5.0


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (dict(scale=1000.1), "guidance_scale: expected a number from 0 to 1000"),
        (dict(on=[3]), "guidance_on: expected a tuple of names"),
        (dict(on={"weather"}), "guidance_on: expected a tuple of names"),
        (dict(interval=0.5), "guidance_interval: expected two rising flow times"),
        (dict(interval=(0.0, 0.5, 1.0)), "guidance_interval: expected two rising flow times"),
        (dict(interval=(0.5, 0.5)), "guidance_interval: expected two rising flow times"),
        (dict(interval=(-0.1, 0.5)), "guidance_interval: expected flow times from 0 to 1"),
        (
            dict(guider=ClassifierFreeGuidance(), interval=(0.0, 0.5)),
            "guider: expected no guidance_scale and guidance_i",
        ),
        (
            dict(guider=ClassifierFreeGuidance(), interval=(0.1, 1.0)),
            "guider: expected no guidance_scale and guidance_i",
        ),
        (dict(guider=ClassifierFreeGuidance(), scale=0.5), "guider: expected no guidance_scale and guidance_interval"),
        (dict(guider="cfg"), "guider: expected a guider of diffusers"),
    ],
)
def test_guidance_that_means_nothing_is_refused(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Guidance(**given)


def test_guidance_at_its_limits() -> None:
    assert Guidance(scale=1000.0, on=["weather"], interval=[0, 1]).scale_at(1.0) == 1000
    beside_a_guider = Guidance(guider=ClassifierFreeGuidance(), interval=[0.0, 1.0])
    assert beside_a_guider.with_default(2.0).scale == 1
    assert [Guidance(scale=0.0).scale_at(tau) for tau in (0.0, 1.0)] == [0, 0]
    default = Guidance()
    assert (default.scale, default.on, default.region, default.interval) == (None, None, None, (0.0, 1.0))
    assert (default.scale_at(0.5), default.with_default(2.0).scale_at(0.5)) == (1.0, 2.0)
    assert Guidance(scale=0.0).with_default(2.0).scale == 0


def test_over_a_region_the_other_branch_lacks_the_agents_or_what_is_named() -> None:
    full = conditioning(1, 2, 1)
    for on, changed in ((None, {"agents"}), (("speed",), {"speed"})):
        other = Guidance(2.0, on=on, region="agents").without(full, standard_conditions())
        assert {key for key in full if not torch.equal(full[key], other[key])} == changed


class Recorded:
    """A world model's stand-in whose velocity is a constant for each branch, and that writes down its calls."""

    dtype = torch.float32
    conditions = standard_conditions()

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, Any]] = []

    def cache_context(self, name: str) -> Any:
        self.context = name
        return nullcontext()

    def encode_conditioning(self, given: dict[str, torch.Tensor], grid: Any = None) -> EncodedConditioning:
        there = given["speed"].isfinite().float().mean(dim=1)
        return EncodedConditioning(there, there, there, there)

    def prepare(self, encoded: EncodedConditioning, grid: Any = None) -> EncodedConditioning:
        return encoded

    def __call__(self, latents: torch.Tensor, tau: torch.Tensor, encoded: Any, known_mask: Any) -> Any:
        self.calls.append((self.context, len(latents), None if known_mask is None else known_mask.clone()))
        assert tau.shape == (len(latents),)
        return SimpleNamespace(sample=torch.ones_like(latents) * (2 + 3 * encoded.action.reshape(-1, 1, 1, 1, 1, 1)))


def test_each_branch_has_its_cache_and_both_have_the_known_tokens() -> None:
    latents, tau = torch.zeros(2, 2, 1, 2, 2, 3), torch.tensor(0.5)
    given = {"speed": torch.ones(2, 2)}
    known = torch.rand(2, 2, 1, 2, 2, generator=seeded()) < 0.5
    region = torch.zeros(2, 2, 1, 2, 2, dtype=torch.bool)
    region[0, 1] = True
    model = Recorded()
    both = GuidedVelocity(model, given, Guidance(4.0), known_mask=known)
    assert (both(latents, tau, scale=4.0) == 2 + 4 * 3).all()
    assert (both(latents, tau, scale=1.0) == 5).all()
    assert [(name, size) for name, size, _ in model.calls] == [("cond_uncond", 4), ("cond", 2)]
    assert torch.equal(model.calls[0][2], torch.cat([known, known]))
    assert torch.equal(model.calls[1][2], known)
    model.calls.clear()
    selective = GuidedVelocity(model, given, Guidance(4.0, on=("speed",), region="agents"), region, known)
    got = selective(latents, tau, scale=4.0)
    assert torch.equal(got, torch.where(region[..., None], 14.0, 5.0).expand_as(got))
    assert [(name, size) for name, size, _ in model.calls] == [("cond", 2), ("uncond", 2)]
    assert all(torch.equal(mask, known) for _, _, mask in model.calls)
    nowhere = GuidedVelocity(model, given, Guidance(4.0, region="agents"), torch.zeros_like(region))
    assert (nowhere(latents, tau, scale=4.0) == 5).all()


def test_a_known_mask_of_whole_frames_stays_small_for_both_branches() -> None:
    frames = torch.tensor([True, False])[None, :, None, None, None].expand(2, 2, 1, 2, 2)
    velocity_of = GuidedVelocity(Recorded(), {"speed": torch.ones(2, 2)}, Guidance(4.0), known_mask=frames)
    assert torch.equal(velocity_of.both_known_mask, torch.cat([frames, frames]))
    assert velocity_of.both_known_mask.untyped_storage().nbytes() == 4 * 2  # a number a sample and time


def test_a_guider_is_told_the_noise_level_in_thousandths() -> None:
    told = {}

    class Telling(ClassifierFreeGuidance):
        def set_state(self, **given: Any) -> None:
            told.update(given)
            super().set_state(**given)

    velocity_of = GuidedVelocity(Recorded(), {"speed": torch.ones(2, 2)}, Guidance(guider=Telling()))
    velocity_of(torch.zeros(2, 2, 1, 2, 2, 3), torch.tensor(0.25), scale=1.0, step=3, num_steps=7)
    assert {**told, "timestep": float(told["timestep"])} == {"step": 3, "num_inference_steps": 7, "timestep": 750}
    velocity_of(torch.zeros(2, 2, 1, 2, 2, 3), torch.tensor(0.0), scale=1.0)  # a step alone is the first of one
    assert {**told, "timestep": float(told["timestep"])} == {"step": 0, "num_inference_steps": 1, "timestep": 1000}
