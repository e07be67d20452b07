"""What callbacks may read and assign, and what a call that is refused leaves as it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline
from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.pipelines.helpers import Spy, pipeline, scene, seeded, with_agents
from tests.tiny import clip

FRAMES = clip(0, 16, "front").frames
MASK = np.zeros((16, 1, 32, 64), dtype=bool)
MASK[..., 32:] = True
TASKS = [
    (Gaia2Pipeline, {}),
    (Gaia2InpaintPipeline, dict(video=FRAMES, mask=MASK)),
    (Gaia2EditPipeline, dict(video=FRAMES, strength=0.9)),
]


def latents_of(pipe: Any, given: Any = None, **kwargs: Any) -> torch.Tensor:
    defaults = dict(num_inference_steps=4, generator=seeded(), output_type="latent")
    return pipe(given or scene(16, "front"), **defaults | kwargs).frames


@pytest.mark.parametrize(("cls", "task"), TASKS)
@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_a_callback_may_increase_the_guidance_scale(cls: type, task: dict[str, Any], solver: str) -> None:
    """As diffusers' `test_callback_cfg` asks for."""

    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._guidance_scale += 1.0
        return tensors

    pipe = pipeline(cls, scheduler=FlowMatchScheduler(solver=solver))
    latents_of(
        pipe,
        guidance_scale=2.0,
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs,
        **task,
    )
    assert pipe.guidance_scale == 2.0 + pipe.num_timesteps


@pytest.mark.parametrize(("first", "then"), [(1.0, 3.0), (3.0, 1.0), (2.0, 5.0)])
@pytest.mark.parametrize("region", [None, "agents"])
def test_an_assigned_scale_guides_the_steps_after(
    first: float, then: float, region: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps, the second under another scale, are one step and one more of a call that begins there."""
    pipe = pipeline()
    spy = Spy(pipe, monkeypatch)
    given, times = with_agents(scene(16, "front")), [0.0, 0.4]
    seen: list[torch.Tensor] = []

    def callback(pipe: Any, index: int, timestep: Any, tensors: dict[str, Any]) -> None:
        seen.append(tensors["latents"])
        pipe._guidance_scale = then

    arguments: dict[str, Any] = dict(timesteps=times, guidance_region=region)
    got = latents_of(pipe, given, guidance_scale=first, callback_on_step_end=callback, **arguments)
    guided = [2] if region is None else [1, 1]  # both branches at once, or one after the other
    expected_calls = [size for scale in (first, then) for size in ([1] if scale == 1 else guided)]
    assert [len(call["latents"]) for call in spy.calls] == expected_calls
    plain = latents_of(pipe, given, guidance_scale=first, **arguments)
    assert (got - plain).abs().max() > 1e-4
    arguments["timesteps"] = [0.4]
    expected = latents_of(pipe, given, guidance_scale=then, latents=seen[0], **arguments)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_an_assigned_scale_lasts_to_the_end_of_its_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    spy = Spy(pipe, monkeypatch)

    def callback(pipe: Any, index: int, *_: Any) -> None:
        if len(spy.calls) == 1:
            pipe._guidance_scale = 2.0

    latents_of(pipe, scene(40, "front"), num_inference_steps=2, callback_on_step_end=callback)  # two windows
    assert [len(call["latents"]) for call in spy.calls] == [1, 2, 2, 2]
    latents_of(pipe, num_inference_steps=1)
    assert len(spy.calls[-1]["latents"]) == 1
    assert pipe.guidance_scale == 1.0


def test_an_assigned_scale_stays_with_its_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    spy = Spy(pipe, monkeypatch)

    def callback(pipe: Any, *_: Any) -> None:
        pipe._guidance_scale = 2.0

    arguments: dict[str, Any] = dict(num_inference_steps=1, output_type="latent")
    one = pipe.stream(scene(40, "front"), callback_on_step_end=callback, **arguments)
    other = pipe.stream(scene(40, "front"), **arguments)
    for stream in (one, other, one, other):
        next(stream)
    assert [len(call["latents"]) for call in spy.calls] == [1, 1, 2, 1]


def test_the_interval_holds_for_an_assigned_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline()
    spy = Spy(pipe, monkeypatch)

    def callback(pipe: Any, *_: Any) -> None:
        pipe._guidance_scale = 4.0

    times = dict(timesteps=[0.0, 0.2, 0.5, 0.8], guidance_interval=(0.1, 0.6))
    latents_of(pipe, callback_on_step_end=callback, **times)
    assert [len(call["latents"]) for call in spy.calls] == [1, 2, 2, 1]


def test_a_bad_scale_is_refused_where_it_is_assigned() -> None:
    pipe = pipeline()
    with pytest.raises(ValueError, match="guidance_scale: expected a number from 0 to 1000, got -1"):
        pipe._guidance_scale = -1.0


@pytest.mark.parametrize(
    ("cls", "arguments", "match"),
    [
        (Gaia2Pipeline, dict(timesteps=[0.5, 0.2]), "timesteps: expected flow times that rise"),
        (Gaia2Pipeline, dict(guidance_on=("wether",)), "guidance_on: unknown condition"),
        (Gaia2Pipeline, dict(context=FRAMES), "context: expected a multiple of 8 frames"),
        (Gaia2Pipeline, dict(latents=torch.zeros(1, 2, 1, 2, 4, 5)), "latents: expected"),
        (Gaia2Pipeline, dict(context=FRAMES[:8], latents=torch.zeros(1, 2, 1, 2, 4, 5)), "latents: expected"),
        (Gaia2InpaintPipeline, dict(video=FRAMES, mask=MASK[:8]), "mask: expected"),
        (Gaia2InpaintPipeline, dict(video=FRAMES, mask=MASK, latents=torch.zeros(1)), "latents: expected"),
        (Gaia2EditPipeline, dict(video=FRAMES[:8]), "video: expected 16 frames"),
        (Gaia2EditPipeline, dict(video=FRAMES, latents=torch.zeros(1)), "latents: expected"),
    ],
)
def test_a_refused_call_changes_nothing(cls: type, arguments: dict[str, Any], match: str) -> None:
    """Neither the last call's state, nor the scheduler, nor the random numbers."""
    pipe, generator = pipeline(cls), seeded()
    state, scheduler, random = pipe._state, vars(pipe.scheduler).copy(), generator.get_state()
    defaults: dict[str, Any] = dict(num_inference_steps=3, generator=generator, guidance_scale=3.0)
    with pytest.raises(ValueError, match=match):
        pipe(scene(16, "front"), **defaults | arguments)
    assert pipe._state is state
    assert (pipe.guidance_scale, pipe.num_timesteps, pipe.current_timestep, pipe.interrupt) == (1.0, 0, None, False)
    assert vars(pipe.scheduler) == scheduler
    assert torch.equal(generator.get_state(), random)
