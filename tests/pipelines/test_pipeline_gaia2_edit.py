from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.pipelines.helpers import C, H, Spy, W, pipeline, scene, seeded
from tests.tiny import clip

FRAMES = clip(0, 24, "front").frames


@pytest.fixture(scope="module")
def pipe() -> Gaia2EditPipeline:
    return pipeline(Gaia2EditPipeline)


def edit(
    pipe: Gaia2EditPipeline, strength: float, given: Any = None, video: Any = FRAMES, **kwargs: Any
) -> torch.Tensor:
    defaults = dict(num_inference_steps=8, generator=seeded(), output_type="latent", sample_posterior=False)
    return pipe(given or scene(24, "front"), video, strength, **defaults | kwargs).frames


def encoded(pipe: Gaia2EditPipeline, frames: np.ndarray = FRAMES) -> torch.Tensor:
    with torch.no_grad():
        return pipe.encode_frames(torch.as_tensor(frames)[None] / 127.5 - 1, sample_posterior=False)


def test_strength_0_is_the_tokenizers_reconstruction(pipe: Gaia2EditPipeline, spy: Spy) -> None:
    with torch.no_grad():
        rebuilt = pipe.vae(torch.as_tensor(FRAMES).permute(1, 2, 0, 3, 4) / 127.5 - 1).sample.clamp(-1, 1) / 2 + 0.5
    got = pipe(scene(24, "front"), FRAMES, 0.0, sample_posterior=False).frames
    np.testing.assert_allclose(got[0], rebuilt.permute(2, 0, 3, 4, 1), atol=1e-5)
    assert torch.equal(edit(pipe, 1e-20), encoded(pipe))
    assert spy.calls == []


def test_the_video_becomes_a_sample_of_its_latents(pipe: Gaia2EditPipeline) -> None:
    """As in the paper, "during both training and inference" (§2.1.1); its noise is drawn after that of the steps."""
    got, generator = edit(pipe, 1e-20, sample_posterior=True), seeded()
    pipe.noise((1, 3, 1, H, W, C), generator)
    with torch.no_grad():
        expected = pipe.encode_frames(torch.as_tensor(FRAMES)[None] / 127.5 - 1, generator)
    assert torch.equal(got, expected)
    assert (got - encoded(pipe)).abs().max() > 1e-3
    defaults = pipe(scene(24, "front"), FRAMES, 1e-20, generator=seeded(), output_type="latent").frames
    assert torch.equal(defaults, got)


@pytest.mark.parametrize("frames", [24, 40])
def test_strength_1_is_a_generation_from_scratch(pipe: Gaia2EditPipeline, frames: int) -> None:
    video = clip(0, frames, "front").frames
    scratch = Gaia2Pipeline.from_pipe(pipe)
    expected = scratch(scene(frames, "front"), num_inference_steps=8, generator=seeded(), output_type="latent").frames
    assert torch.equal(edit(pipe, 1.0, scene(frames, "front"), video), expected)
    noise = torch.randn(1, frames // 8, 1, H, W, C, generator=seeded(5))
    expected = scratch(scene(frames, "front"), num_inference_steps=8, latents=noise, output_type="latent").frames
    assert torch.equal(edit(pipe, 1.0, scene(frames, "front"), video, latents=noise), expected)


@pytest.mark.parametrize("solver", ["euler", "heun", "adams_bashforth"])
def test_steps_begin_where_the_strength_says(monkeypatch: pytest.MonkeyPatch, solver: str) -> None:
    pipe = pipeline(Gaia2EditPipeline, scheduler=FlowMatchScheduler(grid="linear", solver=solver))
    spy = Spy(pipe, monkeypatch)
    noise = torch.randn(1, 3, 1, H, W, C, generator=seeded())
    edit(pipe, 0.6, latents=noise, num_inference_steps=10)
    times = [round(float(call["timestep"][0]), 4) for call in spy.calls]
    later = [0.5, 0.6, 0.7, 0.8, 0.9]
    assert times == [0.4, *(tau for tau in later for _ in range(2 if solver == "heun" else 1))]
    torch.testing.assert_close(spy.calls[0]["latents"], 0.4 * encoded(pipe) + 0.6 * noise)
    assert pipe.num_timesteps == len(times)


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(shift=3.0), FlowMatchHeunDiscreteScheduler()])
def test_with_a_scheduler_of_diffusers(monkeypatch: pytest.MonkeyPatch, scheduler: Any) -> None:
    pipe = pipeline(Gaia2EditPipeline, scheduler=scheduler)
    spy = Spy(pipe, monkeypatch)
    noise = torch.randn(1, 3, 1, H, W, C, generator=seeded())
    got = edit(pipe, 0.6, latents=noise, num_inference_steps=10)
    tau = float(spy.calls[0]["timestep"][0])
    assert 0.4 <= tau < 0.6
    torch.testing.assert_close(spy.calls[0]["latents"], tau * encoded(pipe) + (1 - tau) * noise)
    assert got.isfinite().all()


def test_the_weaker_the_nearer_to_the_video(pipe: Gaia2EditPipeline) -> None:
    start = encoded(pipe)
    change = [(edit(pipe, strength) - start).abs().mean().item() for strength in (0.0, 0.1, 0.4, 1.0)]
    assert change == sorted(change)
    assert change[0] == 0


def test_the_new_conditions_count(pipe: Gaia2EditPipeline) -> None:
    a, b = (edit(pipe, 0.7, scene(24, "front", weather=weather)) for weather in ("snow", "fog"))
    assert (a - b).abs().max() > 1e-3


def test_later_windows_begin_with_what_was_edited(pipe: Gaia2EditPipeline, spy: Spy) -> None:
    video = clip(0, 40, "front").frames
    got = edit(pipe, 0.5, scene(40, "front"), video, num_context_latents=1)
    second = spy.calls[len(spy.calls) // 2]
    assert torch.equal(second["latents"][:, 0], got[:, 2])
    assert second["known_mask"][0, :, 0, 0, 0].tolist() == [True, False, False]


def test_one_video_under_several_scenes(pipe: Gaia2EditPipeline) -> None:
    scenes = [scene(24, "front", weather=weather) for weather in ("snow", "fog")]
    got = edit(pipe, 0.7, scenes, generator=[seeded(1), seeded(2)])
    for index, seed in enumerate((1, 2)):
        alone = edit(pipe, 0.7, scenes[index], generator=seeded(seed))
        torch.testing.assert_close(got[index : index + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (dict(strength=1.1), "strength: expected a noise level from 0 to 1, got 1.1; 0 changes nothing"),
        (dict(strength=-0.1), "strength: expected a noise level .* got -0.1"),
        (dict(strength=float("nan")), "strength: expected a noise level .* got nan"),
        (dict(video=clip(0, 40, "front").frames), "video: expected 24 frames, one for each of the scene's timestamps"),
        (dict(video=FRAMES / 255 * 3), r"video: expected uint8, or float in \[-1, 1\], got values from"),
        (dict(video=FRAMES.transpose(0, 1, 3, 4, 2)), r"video: expected \(b=1, .*, got \(1, 24, 1, 32, 64, 3\)"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(
    pipe: Gaia2EditPipeline, spy: Spy, arguments: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        pipe(**dict(scene=scene(24, "front"), video=FRAMES, strength=0.5, num_inference_steps=2) | arguments)
    assert spy.calls == []
