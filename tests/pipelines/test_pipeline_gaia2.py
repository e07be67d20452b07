from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.pipelines.helpers import STEPS, C, H, Spy, W, latents_of, pipeline, scene, seeded, with_agents
from tests.tiny import clip, world_model


def test_kinds_of_output(pipe: Gaia2Pipeline) -> None:
    def make(kind: str) -> Gaia2PipelineOutput:
        return pipe(scene(), num_inference_steps=STEPS, generator=seeded(), output_type=kind)

    array, tensor, images, latents = (make(kind).frames for kind in ("np", "pt", "pil", "latent"))
    assert isinstance(array, np.ndarray)
    assert array.shape == (1, 16, 3, 32, 64, 3)
    assert array.dtype == np.float32
    assert 0 <= array.min() < array.max() <= 1
    assert array.std() > 0.01
    assert isinstance(tensor, torch.Tensor)
    np.testing.assert_array_equal(tensor, array)
    assert (len(images), len(images[0]), len(images[0][0])) == (1, 16, 3)
    assert isinstance(images[0][0][0], Image.Image)
    np.testing.assert_array_equal(images[0][3][1], np.round(array[0, 3, 1] * 255).astype(np.uint8))
    assert latents.shape == (1, 2, 3, H, W, C)
    decoded = (pipe.decode_latents(latents) + 1) / 2
    np.testing.assert_allclose(decoded.detach().permute(0, 1, 2, 4, 5, 3), array, atol=1e-5)


def test_the_result_tells_the_scene_as_it_was_used(pipe: Gaia2Pipeline) -> None:
    given = scene()
    frames, scenes = pipe(given, num_inference_steps=1, return_dict=False, output_type="latent")
    out = Gaia2PipelineOutput(frames=frames, scenes=scenes)
    assert scenes[0].rig == given.rig.fit(image_size=(32, 64))
    assert out.camera_names == given.rig.names
    np.testing.assert_array_equal(out.timestamps, given.timestamps[None])


def test_same_seed_same_video(pipe: Gaia2Pipeline) -> None:
    one, again, other = (latents_of(pipe, scene(), generator=seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert (one - other).abs().max() > 0.1


def test_scene_conditions_the_video(pipe: Gaia2Pipeline) -> None:
    base = latents_of(pipe, scene())
    for other in (
        scene(speed=20.0),
        scene(weather="snow"),
        scene(curvature=0.05),
        scene(rig="surround3", weather=None),
    ):
        assert (latents_of(pipe, other) - base).abs().max() > 1e-4


@pytest.mark.parametrize("with_context", [False, True])
def test_a_batch_with_a_generator_each_is_its_videos_one_by_one(pipe: Gaia2Pipeline, with_context: bool) -> None:
    scenes = [scene(24, "front"), scene(24, "front", weather="snow", speed=3.0)]
    frames = torch.stack([torch.as_tensor(clip(seed, 8).frames) for seed in (0, 1)])
    batch = latents_of(
        pipe, scenes, generator=[seeded(5), seeded(6)], context=frames if with_context else None, guidance_scale=2.0
    )
    for i, alone in enumerate(scenes):
        single = latents_of(
            pipe, alone, generator=seeded(5 + i), context=frames[i] if with_context else None, guidance_scale=2.0
        )
        torch.testing.assert_close(batch[i], single[0], atol=1e-4, rtol=0)


def test_context_is_kept_and_the_network_gets_it_clean(pipe: Gaia2Pipeline, spy: Spy) -> None:
    frames = torch.as_tensor(clip(0, 8, "surround3").frames)
    result = latents_of(pipe, scene(24), context=frames)
    with torch.no_grad():
        encoded = pipe.encode_frames(frames[None] / 127.5 - 1, seeded())
    assert torch.equal(result[:, :1], encoded)
    assert len(spy.calls) == STEPS
    noise = torch.randn(1, 3, 3, H, W, C, generator=_after_context(encoded))
    for index, call in enumerate(spy.calls):
        assert torch.equal(call["latents"][:, :1], encoded)
        assert call["known_mask"][:, :1].all()
        assert not call["known_mask"][:, 1:].any()
        assert call["known_mask"].shape == (1, 3, 3, H, W)
        if index == 0:
            assert torch.equal(call["latents"][:, 1:], noise[:, 1:])
    assert (result[:, 1:] - noise[:, 1:]).abs().max() > 1e-2


def _after_context(encoded: torch.Tensor) -> torch.Generator:
    generator = seeded()
    torch.randn(3, C, 1, H, W, generator=generator)
    return generator


def test_context_may_be_uint8_or_float_and_array_or_tensor(pipe: Gaia2Pipeline) -> None:
    frames = clip(0, 8).frames
    expected = latents_of(pipe, scene(rig="front"), context=frames)
    as_float = torch.as_tensor(frames).float() / 127.5 - 1
    for context in (torch.as_tensor(frames), as_float, as_float[None], as_float.double().numpy()):
        torch.testing.assert_close(latents_of(pipe, scene(rig="front"), context=context), expected)


def test_the_present_is_the_last_context_latent(pipe: Gaia2Pipeline, spy: Spy) -> None:
    frames = clip(0, 16).frames
    latents_of(pipe, scene(24, "front"), context=frames)
    times = spy.conditioning[0]["timestamps"][0, :, 0]
    torch.testing.assert_close(times, torch.tensor([-0.8, 0.0, 0.8]), atol=1e-5, rtol=0)
    latents_of(pipe, scene(24, "front"))
    times = spy.conditioning[-1]["timestamps"][0, :, 0]
    torch.testing.assert_close(times, torch.tensor([0.0, 0.8, 1.6]), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("overlap", "starts"), [(1, [0, 2, 4]), (2, [0, 1, 2, 3, 4])])
def test_longer_than_the_window(pipe: Gaia2Pipeline, spy: Spy, overlap: int, starts: list[int]) -> None:
    speed = np.repeat(np.arange(7.0), 8)
    result = latents_of(pipe, scene(56, "front", speed=speed), num_context_latents=overlap)
    assert result.shape == (1, 7, 1, H, W, C)
    calls = spy.calls[::STEPS]
    assert len(spy.calls) == STEPS * len(starts)
    for index, (call, start) in enumerate(zip(calls, starts, strict=True)):
        assert spy.conditioning[index]["speed"][0].tolist() == [start, start + 1, start + 2]
        if index:
            assert torch.equal(call["latents"][:, :overlap], result[:, start : start + overlap])
            assert call["known_mask"][0, :, 0, 0, 0].tolist() == [t < overlap for t in range(3)]
        else:
            assert call["known_mask"] is None


def test_the_first_window_of_a_long_video_is_that_of_a_short_one(pipe: Gaia2Pipeline) -> None:
    noise = torch.randn(1, 5, 1, H, W, C, generator=seeded())
    long = latents_of(pipe, scene(40, "front"), latents=noise)
    short = latents_of(pipe, scene(24, "front"), latents=noise[:, :3])
    torch.testing.assert_close(long[:, :3], short)
    frames = pipe(scene(40, "front"), latents=noise, num_inference_steps=STEPS).frames
    assert frames.shape == (1, 40, 1, 32, 64, 3)


def test_guidance(pipe: Gaia2Pipeline, spy: Spy) -> None:
    noise = torch.randn(1, 2, 1, H, W, C, generator=seeded())

    def velocity(**kwargs: Any) -> torch.Tensor:
        return latents_of(pipe, scene(rig="front"), latents=noise, num_inference_steps=1, **kwargs) - noise

    conditional = velocity()
    assert len(spy.calls) == 1
    free = velocity(guidance_scale=0.0)
    assert len(spy.calls) == 2
    assert len(spy.calls[1]["latents"]) == 2
    assert (conditional - free).abs().max() > 1e-3
    torch.testing.assert_close(velocity(guidance_scale=3.0), free + 3 * (conditional - free), atol=1e-5, rtol=0)


def test_a_callback_can_change_the_latents(pipe: Gaia2Pipeline, spy: Spy) -> None:
    seen: list[tuple[int, float]] = []

    def callback(pipe: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any] | None:
        seen.append((step, float(timestep)))
        return {"latents": tensors["latents"] * 0 + 7} if step == 0 else None

    latents_of(pipe, scene(rig="front"), num_inference_steps=3, callback_on_step_end=callback)
    assert [step for step, _ in seen] == [0, 1, 2]
    assert seen[0][1] == 0.0
    assert (spy.calls[1]["latents"] == 7).all()
    assert not (spy.calls[2]["latents"] == 7).any()


def test_a_callback_can_stop_everything(pipe: Gaia2Pipeline, spy: Spy) -> None:
    def callback(pipe: Gaia2Pipeline, step: int, *_: Any) -> None:
        pipe._interrupt = True

    noise = torch.randn(1, 5, 1, H, W, C, generator=seeded())
    stopped = latents_of(pipe, scene(40, "front"), latents=noise, callback_on_step_end=callback)
    assert len(spy.calls) == 1
    assert pipe.interrupt
    assert torch.equal(stopped[:, 3:], noise[:, 3:])
    latents_of(pipe, scene(rig="front"))
    assert not pipe.interrupt
    assert len(spy.calls) == 1 + STEPS


def test_another_image_size(pipe: Gaia2Pipeline) -> None:
    out = pipe(scene(8, "front"), image_size=(48, 32), num_inference_steps=1)
    assert out.frames.shape == (1, 8, 1, 48, 32, 3)
    assert out.scenes[0].rig.image_size.tolist() == [[48, 32]]


def test_encoding_takes_a_sample_or_the_mean(pipe: Gaia2Pipeline) -> None:
    frames = torch.as_tensor(clip(0, 8).frames)[None] / 127.5 - 1
    with torch.no_grad():
        mean, sample = pipe.encode_frames(frames, sample_posterior=False), pipe.encode_frames(frames, seeded())
        latent_dist = pipe.vae.encode(frames[0].permute(1, 2, 0, 3, 4)).latent_dist
    expected = pipe.vae.normalize(latent_dist.mean).permute(0, 2, 3, 4, 1)[:, :, None]
    torch.testing.assert_close(mean, expected)
    noise = torch.randn(latent_dist.mean.shape, generator=seeded())
    drawn = pipe.vae.normalize(latent_dist.mean + latent_dist.std * noise).permute(0, 2, 3, 4, 1)[:, :, None]
    torch.testing.assert_close(sample, drawn)
    assert (mean - sample).abs().max() > 1e-3


def test_encoding_takes_one_generator_or_one_for_each_sample(pipe: Gaia2Pipeline) -> None:
    frames = torch.zeros(3, 8, 2, 3, 32, 64)
    message = "generator: expected one, or one for each of 3 samples, got 2"
    with pytest.raises(ValueError, match=message):
        pipe.encode_frames(frames, [seeded(), seeded()])
    one, two, three = pipe.encode_frames(frames, [seeded(0), seeded(1), seeded(0)])
    assert torch.equal(one, three)
    assert (one - two).abs().max() > 1e-3


def test_goes_to_disk_and_back(pipe: Gaia2Pipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    assert '"WorldModel"' in (tmp_path / "model_index.json").read_text()
    loaded = Gaia2Pipeline.from_pretrained(tmp_path)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.text_encoder is None
    before, after = (
        p(scene(), num_inference_steps=STEPS, generator=seeded(), guidance_scale=2.0).frames for p in (pipe, loaded)
    )
    np.testing.assert_array_equal(before, after)


def test_a_model_with_its_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline(transformer=world_model(metadata={"weather": ["snow", "rain"]}))
    spy = Spy(pipe, monkeypatch)
    latents_of(pipe, scene(rig="front"))
    assert spy.conditioning[0]["metadata"].tolist() == [[1]]


def test_several_videos_of_each_scene(pipe: Gaia2Pipeline) -> None:
    scenes = [scene(8, "front"), scene(8, "front", weather="snow")]
    context = torch.stack([torch.as_tensor(clip(seed, 8).frames) for seed in (0, 1)])
    longer = [scene(16, "front"), scene(16, "front", weather="snow")]
    for given, frames in ((scenes, None), (longer, context)):
        generators = [seeded(seed) for seed in range(6)]
        got = latents_of(pipe, given, num_videos_per_scene=3, generator=generators, context=frames)
        assert len(got) == 6
        for index in (0, 2, 3, 5):
            own = None if frames is None else frames[index // 3]
            alone = latents_of(pipe, given[index // 3], generator=seeded(index), context=own)
            torch.testing.assert_close(got[index], alone[0], atol=1e-4, rtol=0)
    out = pipe(scenes, num_videos_per_scene=2, num_inference_steps=1, output_type="latent")
    assert [used.metadata["weather"] for used in out.scenes] == ["rain", "rain", "snow", "snow"]


@pytest.mark.parametrize("stochasticity", [0.0, 0.7])
def test_a_video_does_not_depend_on_its_batch(stochasticity: float) -> None:
    pipe = pipeline(scheduler=FlowMatchScheduler(stochasticity=stochasticity))
    scenes = [with_agents(scene(40, "front", speed=speed)) for speed in (1.0, 5.0, 9.0)]

    def run(chosen: list[int]) -> torch.Tensor:
        generators = [seeded(index) for index in chosen]
        arguments = dict(guidance_scale=2.0, guidance_region="agents", context_noise=0.1)
        return latents_of(pipe, [scenes[i] for i in chosen], generator=generators, num_inference_steps=3, **arguments)

    together = run([0, 1, 2])
    assert torch.equal(run([0, 1, 2]), together)
    torch.testing.assert_close(run([2, 0]), together[[2, 0]], atol=1e-4, rtol=0)


def test_the_callback_gets_the_tensors_that_it_names(pipe: Gaia2Pipeline) -> None:
    seen: list[dict[str, Any]] = []

    def callback(pipe: Gaia2Pipeline, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        assert pipe.guidance_scale == 2.0
        assert pipe.num_timesteps == STEPS
        assert pipe.current_timestep == pytest.approx(1000 * (1 - float(timestep)))
        seen.append(tensors)
        return {}

    names = ["velocity", "known_mask"]
    arguments = dict(callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names, guidance_scale=2.0)
    latents_of(pipe, scene(24, "front"), context=clip(0, 8).frames, **arguments)
    assert len(seen) == STEPS
    assert [set(tensors) for tensors in seen] == [set(names)] * STEPS
    assert seen[0]["velocity"].shape == (1, 3, 1, H, W, C)
    assert seen[0]["known_mask"][0, :, 0, 0, 0].tolist() == [True, False, False]


def test_flow_times_of_ones_own(pipe: Gaia2Pipeline, spy: Spy) -> None:
    latents_of(pipe, scene(8, "front"), timesteps=[0.0, 0.4, 0.7])
    assert [round(float(call["timestep"][0]), 6) for call in spy.calls] == [0.0, 0.4, 0.7]


def test_progress_counts_every_step_of_every_window(capsys: pytest.CaptureFixture[str]) -> None:
    pipe = pipeline()
    pipe.set_progress_bar_config(disable=False, desc="driving")
    latents_of(pipe, scene(40, "front"), num_inference_steps=3)
    shown = capsys.readouterr().err
    assert "driving" in shown
    assert "6/6" in shown
