"""The recipes on tiny models: they run, go on where they were killed, and make what the pipeline loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import measure_latents
import numpy as np
import pytest
import render_procedural
import torch
import train_mini
import train_tokenizer
import train_world_model

from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.training import state as training_state
from gaia2.training.checkpoint import load_checkpoint
from tests.tiny import TOKENIZER, WORLD_MODEL, clip

STEPS = 4


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = presets.Preset(
        tokenizer=TOKENIZER,
        world_model=WORLD_MODEL | {"clip_dim": 4, "scenario_dim": 4},
        image_size=(32, 64),
        num_frames=16,
    )
    monkeypatch.setattr(presets, "mini", lambda: preset)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i, 16, "front") for i in range(4)])
    return path


def tokenizer_recipe(clips: Path, out: Path, **changes: Any) -> train_tokenizer.TokenizerRecipe:
    defaults = dict(
        steps=STEPS, batch_size=2, warmup_steps=2, cooldown_steps=2, validation_clips=1, validate_every=3, save_every=2
    )
    return train_tokenizer.TokenizerRecipe(data=clips, out=out, device="cpu", **defaults | changes)


def world_model_recipe(clips: Path, tokenizer: Path, out: Path, **changes: Any) -> train_world_model.WorldModelRecipe:
    defaults = dict(steps=STEPS, batch_size=2, warmup_steps=2, validation_clips=1, validate_every=3, save_every=2)
    return train_world_model.WorldModelRecipe(
        data=clips, tokenizer=tokenizer, out=out, device="cpu", **defaults | changes
    )


@pytest.fixture(scope="module")
def trained_tokenizer(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        preset = presets.Preset(tokenizer=TOKENIZER, world_model={}, image_size=(32, 64), num_frames=16)
        patch.setattr(presets, "mini", lambda: preset)
        return train_tokenizer.train(tokenizer_recipe(clips, tmp_path_factory.mktemp("tokenizer"), steps=2))


def killed_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    save = training_state.save_checkpoint

    def save_and_die(path: Path, state: dict[str, Any]) -> None:
        save(path, state)
        if state["step"] == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(training_state, "save_checkpoint", save_and_die)


def same_tree(one: Any, other: Any) -> bool:
    """Whether nested states are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tree(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_tree, one, other))
    return one == other


def test_a_killed_tokenizer_training_goes_on_as_if_nothing_had_been(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "killed"))
    assert load_checkpoint(tmp_path / "killed" / "training.pt")["step"] == 2
    assert not (tmp_path / "killed" / "tokenizer").exists()
    resumed = train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "killed"))
    states = [load_checkpoint(tmp_path / run / "training.pt") for run in ("straight", "killed")]
    assert states[0]["step"] == STEPS
    assert same_tree(*states)
    weights = [VideoTokenizer.from_pretrained(path).state_dict() for path in (straight, resumed)]
    assert same_tree(*weights)
    torch.manual_seed(0)
    start = VideoTokenizer(**TOKENIZER).state_dict()
    assert all((states[0]["model"][name] != value).any() for name, value in start.items())
    lines = [json.loads(line) for line in (tmp_path / "straight" / "scalars.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_psnr" in line] == [3, 4]
    assert json.loads((tmp_path / "straight" / "recipe.json").read_text())["steps"] == STEPS


def test_a_killed_world_model_training_goes_on_as_if_nothing_had_been(
    clips: Path, trained_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "killed"))
    assert load_checkpoint(tmp_path / "killed" / "training.pt")["step"] == 2
    resumed = train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "killed"))
    states = [load_checkpoint(tmp_path / run / "training.pt") for run in ("straight", "killed")]
    assert states[0]["step"] == STEPS
    assert same_tree(*states)
    weights = [WorldModel.from_pretrained(path).state_dict() for path in (straight, resumed)]
    assert same_tree(*weights)
    assert weights[0]["proj_out.weight"].any()
    lines = [json.loads(line) for line in (tmp_path / "straight" / "scalars.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "validation_ratio" in line] == [3, 4]


def test_a_world_model_training_begins_with_given_weights(clips: Path, trained_tokenizer: Path, tmp_path: Path) -> None:
    first = train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "first"))
    recipe = world_model_recipe(
        clips, trained_tokenizer, tmp_path / "second", start_from=first, learning_rate=1e-9, steps=1
    )
    second = train_world_model.train(recipe)
    before, after = (WorldModel.from_pretrained(path).state_dict() for path in (first, second))
    for name, weight in before.items():
        torch.testing.assert_close(after[name], weight, atol=1e-6, rtol=0)


def test_a_finished_training_is_only_written_again(clips: Path, trained_tokenizer: Path) -> None:
    before = VideoTokenizer.from_pretrained(trained_tokenizer).state_dict()
    again = train_tokenizer.train(tokenizer_recipe(clips, trained_tokenizer.parent, steps=2))
    assert again == trained_tokenizer
    assert same_tree(VideoTokenizer.from_pretrained(again).state_dict(), before)


def test_measured_latents_are_normal(clips: Path, trained_tokenizer: Path, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer"
    VideoTokenizer.from_pretrained(trained_tokenizer).save_pretrained(path)
    recipe = measure_latents.MeasureRecipe(data=clips, tokenizer=path, bf16=False, device="cpu")
    assert measure_latents.measure(recipe) == path
    measured, before = (VideoTokenizer.from_pretrained(p) for p in (path, trained_tokenizer))
    assert same_tree(measured.state_dict(), before.state_dict())
    assert len(measured.config.latents_mean) == len(measured.config.latents_std) == 4
    folder = ClipFolder(clips)
    frames = torch.stack([folder.frames(i, 0) for i in range(4)]).transpose(1, 2).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        latent_dist = measured.encode(frames).latent_dist
        draws = torch.cat([measured.normalize(latent_dist.sample(generator)) for _ in range(200)])
    torch.testing.assert_close(draws.mean(dim=(0, 2, 3, 4)), torch.zeros(4), atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(dim=(0, 2, 3, 4)), torch.ones(4), atol=0.02, rtol=0)


def test_too_few_clips_to_hold_any_out(clips: Path, trained_tokenizer: Path, tmp_path: Path) -> None:
    message = "validation_clips: expected fewer than the 4 clips of .*, got 4"
    with pytest.raises(ValueError, match=message):
        train_tokenizer.train(tokenizer_recipe(clips, tmp_path, validation_clips=4))


def test_rendering_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    def recipe(num_clips: int) -> render_procedural.RenderRecipe:
        return render_procedural.RenderRecipe(
            out=tmp_path, num_clips=num_clips, clips_per_chunk=1, rig="front", image_size=(32, 64), num_frames=8,
            first_seed=5, device="cpu",
        )  # fmt: skip

    render_procedural.render(recipe(1))
    first = (tmp_path / "clips-00000.npy").stat().st_mtime_ns
    render_procedural.render(recipe(3))
    assert (tmp_path / "clips-00000.npy").stat().st_mtime_ns == first
    folder = ClipFolder(tmp_path)
    assert (len(folder), folder.num_frames, folder.num_cameras, folder.image_size) == (3, 8, 1, (32, 64))
    assert len({folder.frames(i).numpy().tobytes() for i in range(3)}) == 3
    assert folder.frames(0).float().std() > 5


def test_the_whole_way_to_a_pipeline(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_mini, "render", lambda recipe: write_chunk(recipe.out, 0, [clip(i) for i in range(3)]))
    small = dict(validation_clips=1, batch_size=1, device="cpu")
    monkeypatch.setattr(train_mini, "TokenizerRecipe", lambda **kw: train_tokenizer.TokenizerRecipe(**kw | small))
    monkeypatch.setattr(train_mini, "WorldModelRecipe", lambda **kw: train_world_model.WorldModelRecipe(**kw | small))
    recipe = train_mini.MiniRecipe(
        runs=tmp_path / "runs",
        num_clips=3,
        tokenizer_steps=1,
        world_model_steps=1,
        compile=False,
        out=tmp_path / "mini",
    )
    train_mini.main(recipe)
    config = VideoTokenizer.from_pretrained(tmp_path / "mini" / "vae").config
    assert len(config.latents_std) == 4
    train_mini.main(recipe)  # everything is there already: nothing is trained or measured twice
    assert VideoTokenizer.from_pretrained(tmp_path / "mini" / "vae").config.latents_std == config.latents_std
    pipe = Gaia2Pipeline.from_pretrained(tmp_path / "mini", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    frames = pipe(clip(0).scene, num_inference_steps=1).frames
    assert frames.shape == (1, 16, 1, 32, 64, 3)
    assert np.isfinite(frames).all()
