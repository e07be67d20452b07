"""The guidance that a checkpoint says, and calls that leave it to the checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ClassifierFreeGuidance, DiffusionPipeline

from gaia2 import Gaia2EditPipeline, Gaia2Env, Gaia2InpaintPipeline, Gaia2Pipeline
from tests.pipelines.helpers import Spy, latents_of, pipeline, scene, seeded
from tests.tiny import clip

FRAMES = clip(0, 16, "front").frames
MASK = np.zeros((16, 1, 32, 64), dtype=bool)
MASK[:, :, :16] = True
TASKS: list[tuple[type, dict[str, Any]]] = [
    (Gaia2Pipeline, {}),
    (Gaia2Pipeline, dict(context=FRAMES[:8])),
    (Gaia2InpaintPipeline, dict(video=FRAMES, mask=MASK)),
    (Gaia2EditPipeline, dict(video=FRAMES, strength=0.6)),
]
PIPELINES = (Gaia2Pipeline, Gaia2InpaintPipeline, Gaia2EditPipeline)


def index_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "model_index.json").read_text())


@pytest.mark.parametrize(("cls", "task"), TASKS)
def test_a_call_that_says_nothing_is_guided_as_the_checkpoint_says(cls: type, task: dict[str, Any]) -> None:
    """Bit for bit what the number said in the call gives to a checkpoint without one, which itself means 1."""
    said, unsaid, given = pipeline(cls, default_guidance_scale=2.5), pipeline(cls), scene(16, "front")
    guided = latents_of(unsaid, given, **task, guidance_scale=2.5)
    plain = latents_of(unsaid, given, **task, guidance_scale=1)
    assert not torch.equal(guided, plain)
    assert torch.equal(latents_of(said, given, **task), guided)
    assert torch.equal(latents_of(said, given, **task, guidance_scale=None), guided)
    assert torch.equal(latents_of(said, given, **task, guidance_scale=1), plain)
    assert torch.equal(latents_of(unsaid, given, **task), plain)


def test_a_stream_is_guided_as_a_call() -> None:
    pipe, given = pipeline(default_guidance_scale=2.5), scene(40, "front")
    options: dict[str, Any] = dict(num_inference_steps=2, output_type="latent")
    parts = [part.frames for part in pipe.stream(given, **options, generator=seeded())]
    expected = pipeline()(given, **options, guidance_scale=2.5, generator=seeded()).frames
    assert torch.equal(torch.cat(parts, dim=1), expected)


def test_a_drive_is_guided_as_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = pipeline(default_guidance_scale=2.5)
    spy = Spy(pipe, monkeypatch)
    Gaia2Env(pipe, scene(16, "front")).reset(seed=0)
    assert {len(call["latents"]) for call in spy.calls} == {2}  # both branches
    assert pipe.guidance_scale == 2.5


def test_the_scale_is_read_before_a_call_and_changed_during_it() -> None:
    pipe = pipeline(default_guidance_scale=2.5)
    assert pipe.guidance_scale == 2.5
    seen = []

    def callback(pipe: Any, *_: object) -> None:
        seen.append(pipe.guidance_scale)
        pipe._guidance_scale += 1.0

    latents_of(pipe, scene(8, "front"), num_inference_steps=3, callback_on_step_end=callback)
    assert seen == [2.5, 3.5, 4.5]
    assert pipe.config.default_guidance_scale == 2.5


def test_a_guider_is_no_clash_with_what_the_checkpoint_says() -> None:
    pipe, given = pipeline(default_guidance_scale=2.5), scene(8, "front")
    got = latents_of(pipe, given, guider=ClassifierFreeGuidance(guidance_scale=4.0))
    torch.testing.assert_close(got, latents_of(pipe, given, guidance_scale=4.0), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="guider: expected no guidance_scale"):
        latents_of(pipe, given, guider=ClassifierFreeGuidance(), guidance_scale=2.5)


def test_where_and_when_apply_to_it() -> None:
    pipe, given = pipeline(default_guidance_scale=2.5), scene(8, "front")
    for options in (dict(guidance_on=("weather",)), dict(guidance_interval=(0.0, 0.1))):
        got, expected = (latents_of(p, given, **options, **scale) for p, scale in
                         ((pipe, {}), (pipeline(), dict(guidance_scale=2.5))))  # fmt: skip
        assert torch.equal(got, expected)


@pytest.mark.parametrize("cls", PIPELINES)
def test_it_goes_to_disk_and_back(cls: type, tmp_path: Path) -> None:
    pipeline(cls, default_guidance_scale=2.5).save_pretrained(tmp_path)
    assert index_of(tmp_path)["default_guidance_scale"] == 2.5
    for loaded in (cls.from_pretrained(tmp_path), DiffusionPipeline.from_pretrained(tmp_path)):  # type: ignore[attr-defined]
        assert loaded.config.default_guidance_scale == loaded.guidance_scale == 2.5
    other = cls.from_pretrained(tmp_path, default_guidance_scale=1.0)  # type: ignore[attr-defined]
    other.save_pretrained(tmp_path / "other")
    assert index_of(tmp_path / "other")["default_guidance_scale"] == 1.0


def test_a_checkpoint_of_before_says_none(tmp_path: Path) -> None:
    pipeline(default_guidance_scale=2.5).save_pretrained(tmp_path)
    index = index_of(tmp_path)
    del index["default_guidance_scale"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    loaded = Gaia2Pipeline.from_pretrained(tmp_path)
    assert loaded.config.default_guidance_scale == loaded.guidance_scale == 1.0
    loaded.set_progress_bar_config(disable=True)
    given = scene(8, "front")
    assert torch.equal(latents_of(loaded, given), latents_of(pipeline(), given, guidance_scale=1))


@pytest.mark.parametrize("cls", PIPELINES)
@pytest.mark.parametrize("source", PIPELINES)
def test_another_task_takes_it_over(cls: type, source: type) -> None:
    other = cls.from_pipe(pipeline(source, default_guidance_scale=2.5))  # type: ignore[attr-defined]
    assert other.config.default_guidance_scale == other.guidance_scale == 2.5
    changed = cls.from_pipe(other, default_guidance_scale=4.0)  # type: ignore[attr-defined]
    assert changed.config.default_guidance_scale == 4.0


@pytest.mark.parametrize("scale", [-1, 1000.5, float("nan"), float("inf"), None, True, "2", [2.0]])
def test_what_is_no_scale_is_refused(scale: Any, tmp_path: Path) -> None:
    message = "default_guidance_scale: expected a number from 0 to 1000, got"
    with pytest.raises(ValueError, match=message):
        pipeline(default_guidance_scale=scale)
    pipe = pipeline(default_guidance_scale=np.float32(2))  # a number of numpy's is one
    with pytest.raises(ValueError, match=message):
        pipe.register_to_config(default_guidance_scale=scale)
    pipe.save_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text(json.dumps({**index_of(tmp_path), "default_guidance_scale": scale}))
    with pytest.raises(ValueError, match=message):
        Gaia2Pipeline.from_pretrained(tmp_path)
