"""What diffusers' users do with a pipeline besides calling it: load, convert, offload, change components."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

import gaia2
from gaia2 import Gaia2EditPipeline, Gaia2InpaintPipeline, Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.pipelines.helpers import pipeline, scene, seeded
from tests.tiny import CLIP_DIM, clip, tokenizer, world_model

PIPELINES = (Gaia2Pipeline, Gaia2InpaintPipeline, Gaia2EditPipeline)
FRAMES = clip(0, 16, "front").frames
MASK = np.zeros((16, 1, 32, 64), dtype=bool)
MASK[:, :, :16] = True


def run(pipe: Any, **kwargs: Any) -> torch.Tensor:
    task = {
        "Gaia2Pipeline": dict(context=FRAMES[:8]),
        "Gaia2InpaintPipeline": dict(video=FRAMES, mask=MASK),
        "Gaia2EditPipeline": dict(video=FRAMES, strength=0.6),
    }[type(pipe).__name__]
    pipe.set_progress_bar_config(disable=True)
    arguments = dict(num_inference_steps=3, generator=seeded(), guidance_scale=2.0, output_type="pt") | task
    return pipe(scene(16, "front"), **arguments | kwargs).frames


@pytest.mark.parametrize("cls", PIPELINES)
def test_to_disk_and_back(cls: type, tmp_path: Path) -> None:
    pipe = pipeline(cls)
    expected = run(pipe)
    pipe.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["_class_name"] == cls.__name__
    for loaded in (cls.from_pretrained(tmp_path), DiffusionPipeline.from_pretrained(tmp_path)):
        assert type(loaded) is cls
        assert torch.equal(run(loaded), expected)


@pytest.mark.parametrize("cls", PIPELINES)
@pytest.mark.parametrize("source", PIPELINES)
def test_from_one_task_to_another(cls: type, source: type) -> None:
    pipe = pipeline(source)
    other = cls.from_pipe(pipe)
    assert type(other) is cls
    assert other.transformer is pipe.transformer
    assert torch.equal(run(other), run(pipeline(cls)))


def test_the_default_model_serves_all_tasks() -> None:
    for cls in PIPELINES:
        assert type(cls.from_pretrained(gaia2.default_model())) is cls


@pytest.mark.parametrize("cls", PIPELINES)
@pytest.mark.parametrize("how", ["model", "sequential"])
def test_the_result_does_not_depend_on_offloading(cls: type, how: str) -> None:
    """On the CPU, with the hooks that `enable_model_cpu_offload` and `enable_sequential_cpu_offload` install."""
    expected, pipe = run(pipeline(cls)), pipeline(cls)
    if how == "model":
        pipe.enable_model_cpu_offload(device="cpu")
    else:
        for name in ("transformer", "vae"):
            accelerate.cpu_offload(getattr(pipe, name), torch.device("cpu"), offload_buffers=True)
        assert pipe.transformer.proj_in.weight.device.type == "meta"
    assert torch.equal(run(pipe), expected)
    assert torch.equal(run(pipe), expected)


@pytest.mark.parametrize("cls", PIPELINES)
def test_components_are_brought_in_before_they_are_used(cls: type) -> None:
    """Each method of a component that computes brings the component to its device, as `forward` does."""
    pipe = pipeline(cls)
    away: dict[str, bool] = {}

    class Hook(accelerate.hooks.ModelHook):
        def __init__(self, name: str) -> None:
            self.name = name
            away[name] = True

        def pre_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
            away[self.name] = False
            return args, kwargs

    def check(name: str) -> None:
        assert not away[name], f"{name} is used before it is there"

    for name, module in (
        ("vae", pipe.vae.encoder),
        ("vae", pipe.vae.decoder),
        ("transformer", pipe.transformer.conditioning),
    ):
        module.register_forward_pre_hook(lambda *_, name=name: check(name))
    for name in ("transformer", "vae"):
        accelerate.hooks.add_hook_to_module(getattr(pipe, name), Hook(name))
    run(pipe)
    assert away == {"transformer": False, "vae": False}


def test_half_precision() -> None:
    pipe = pipeline().to(dtype=torch.bfloat16)
    got, expected = run(pipe), run(pipeline())
    assert got.dtype == torch.float32
    assert 0 < (got - expected).abs().mean() < 0.05


@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(shift=2.0), UniPCMultistepScheduler(
    use_flow_sigmas=True, prediction_type="flow_prediction")])  # fmt: skip
@pytest.mark.parametrize("cls", PIPELINES)
def test_a_scheduler_of_diffusers_takes_part_as_it_is(cls: type, scheduler: Any, tmp_path: Path) -> None:
    pipe = pipeline(cls, scheduler=scheduler)
    expected = run(pipe)
    assert expected.isfinite().all()
    pipe.save_pretrained(tmp_path)
    loaded = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(loaded.scheduler) is type(scheduler)
    assert torch.equal(run(loaded), expected)


def test_euler_of_diffusers_gives_what_ours_gives() -> None:
    theirs = run(pipeline(scheduler=FlowMatchEulerDiscreteScheduler()), timesteps=[0.0, 0.2, 0.7])
    ours = run(pipeline(), timesteps=[0.0, 0.2, 0.7])
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)


def test_a_scheduler_that_does_not_fit_is_named() -> None:
    from diffusers import DDIMScheduler

    with pytest.raises(ValueError, match="scheduler: expected FlowMatchScheduler or a flow scheduler of diffusers"):
        run(pipeline(scheduler=DDIMScheduler()))


@pytest.mark.parametrize("config", [dict(solver="heun"), dict(solver="adams_bashforth"), dict(stochasticity=0.5),
                                    dict(grid="shifted"), dict(grid="linear")])  # fmt: skip
def test_configs_of_our_scheduler_repeat_and_save(config: dict[str, Any], tmp_path: Path) -> None:
    pipe = pipeline(scheduler=FlowMatchScheduler(**config))
    expected = run(pipe)
    assert torch.equal(run(pipe), expected)
    assert (expected - run(pipeline())).abs().max() > 1e-4
    pipe.save_pretrained(tmp_path)
    assert torch.equal(run(Gaia2Pipeline.from_pretrained(tmp_path)), expected)


def _clip_folder(folder: Path) -> Path:
    """A tiny CLIP with random weights, written as transformers writes one."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    for name in ("tokenizer", "text_encoder"):
        (folder / name).mkdir(parents=True)
    (folder / "tokenizer" / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    config = CLIPTextConfig(
        vocab_size=len(tokens), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=CLIP_DIM, bos_token_id=0, eos_token_id=1, max_position_embeddings=32,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPTextModelWithProjection(config).save_pretrained(folder / "text_encoder")
    return folder


def test_clip_comes_and_goes_with_the_pipeline(tmp_path: Path) -> None:
    folder = _clip_folder(tmp_path / "clip")
    pipeline().save_pretrained(tmp_path / "bare")
    pipe = Gaia2Pipeline.from_pretrained(
        tmp_path / "bare",
        text_encoder=CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer", model_max_length=32),
    )
    pipe.save_pretrained(tmp_path / "whole")
    for cls in PIPELINES:
        loaded = cls.from_pretrained(tmp_path / "whole")
        loaded.set_progress_bar_config(disable=True)
        task = {} if cls is Gaia2Pipeline else dict(video=FRAMES)
        task |= dict(mask=MASK) if cls is Gaia2InpaintPipeline else {}

        def made(prompt: str | None, **changes: Any) -> torch.Tensor:
            given = scene(16, "front", prompt=prompt).replace(**changes)
            arguments = dict(num_inference_steps=2, generator=seeded(), output_type="latent")
            return loaded(given, **arguments, **task).frames  # noqa: B023

        tokens = loaded.tokenizer(["a red tram"], return_tensors="pt")
        with torch.no_grad():
            embedding = loaded.text_encoder(**tokens).text_embeds[0]
            embedding = embedding / embedding.norm()
        got = made("a red tram")
        torch.testing.assert_close(got, made(None, clip_embedding=embedding.numpy()), atol=1e-5, rtol=0)
        if cls is Gaia2Pipeline:
            stream = loaded.stream(scene(16, "front", prompt="a red tram"), num_inference_steps=2, output_type="latent")
            assert next(stream).frames.shape == got.shape
        assert (got - made("a wet street")).abs().max() > 1e-6
        assert (got - made(None)).abs().max() > 1e-6


@pytest.mark.parametrize("cls", PIPELINES)
def test_a_prompt_without_clip_says_what_to_load(cls: type) -> None:
    pipe = pipeline(cls)
    task = {} if cls is Gaia2Pipeline else dict(video=FRAMES)
    with pytest.raises(ValueError, match=rf"prompt: .* pass both to {cls.__name__}.from_pretrained, or give scene"):
        pipe(scene(16, "front", prompt="a tram"), **task)


@pytest.mark.parametrize("name", ["clip_embedding", "scenario_embedding"])
def test_embeddings_of_another_model_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected . numbers, as the world model was trained with, got 9"):
        pipeline()(scene(8).replace(**{name: np.ones(9)}))


def test_clip_of_another_width_is_refused(tmp_path: Path) -> None:
    config = CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, projection_dim=9
    )
    pipe = pipeline(text_encoder=CLIPTextModelWithProjection(config), tokenizer=None)
    pipe.tokenizer = object()
    with pytest.raises(ValueError, match=f"text_encoder: expected embeddings of {CLIP_DIM} numbers, .* got 9; load"):
        pipe(scene(8, prompt="a tram"))


@pytest.mark.parametrize("cls", PIPELINES)
def test_components_that_do_not_fit_together_are_refused(cls: type) -> None:
    """At construction, and where a component is assigned later, before a call computes anything."""
    halved = tokenizer(decoder_strides=((1, 2, 2), (2, 2, 2), (2, 4, 4)))
    match = "vae: expected a tokenizer whose decoder gives the 8 frames of a latent .* got 4; change its frame_stride"
    with pytest.raises(ValueError, match=match):
        pipeline(cls, vae=halved)
    other = world_model(latent_channels=6)
    match = "transformer: expected latent_channels=4, as the tokenizer has, got 6; load the two that were trained toge"
    with pytest.raises(ValueError, match=match):
        pipeline(cls, transformer=other)
    pipe = pipeline(cls)
    pipe.transformer = other
    with pytest.raises(ValueError, match=match):
        run(pipe)
    assert cls(vae=None, transformer=other, scheduler=FlowMatchScheduler()).vae is None


def test_another_dtype_warns_of_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    assert pipeline().to(torch.bfloat16).dtype == torch.bfloat16
    assert "float32" not in capfd.readouterr().err


def test_components_in_each_others_place() -> None:
    parts = pipeline().components
    swapped = parts | dict(vae=parts["transformer"], transformer=parts["vae"])
    with pytest.raises(
        ValueError, match="vae: expected a VideoTokenizer, got a WorldModel; are the components in each"
    ):
        Gaia2Pipeline(**swapped)


def test_a_pipeline_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "drive").mkdir()
    message = r"pretrained_model_name_or_path: expected a folder, .*; there is no such folder, did you mean '.*drive'"
    with pytest.raises(ValueError, match=message):
        Gaia2Pipeline.from_pretrained(tmp_path / "drife")
