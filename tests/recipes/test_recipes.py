"""The recipes on tiny models: they run, go on where they were killed, and make what the pipeline loads."""

from __future__ import annotations

import dataclasses
import itertools
import json
from functools import partial
from pathlib import Path
from typing import Any

import measure_latents
import numpy as np
import pytest
import render_procedural
import sample_videos
import torch
import train_mini
import train_tokenizer
import train_world_model
import tyro

from gaia2.data.clip import Clip
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.models import presets
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.training.learning_rate import warmup_cosine
from gaia2.video.files import read_video
from gaia2.zoo.manifest import check_manifest
from tests.recipes.runs import killed_after, last_state, log_lines, same_tree
from tests.recipes.tiny_preset import PRESET
from tests.tiny import TOKENIZER, clip, tokenizer

STEPS = 4


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "mini", lambda: PRESET)


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
        patch.setattr(presets, "mini", lambda: PRESET)
        return train_tokenizer.train(tokenizer_recipe(clips, tmp_path_factory.mktemp("tokenizer"), steps=2))


def test_a_killed_tokenizer_training_goes_on_as_if_nothing_had_been(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "killed"))
    assert last_state(tmp_path / "killed")["step"] == 2
    assert not (tmp_path / "killed" / "tokenizer").exists()
    resumed = train_tokenizer.train(tokenizer_recipe(clips, tmp_path / "killed"))
    states = [last_state(tmp_path / run) for run in ("straight", "killed")]
    assert states[0]["step"] == STEPS
    assert same_tree(*states)
    weights = [VideoTokenizer.from_pretrained(path).state_dict() for path in (straight, resumed)]
    assert same_tree(*weights)
    torch.manual_seed(0)
    start = VideoTokenizer(**TOKENIZER).state_dict()
    assert all((states[0][f"tokenizer/weights/model.{name}"] != value).any() for name, value in start.items())
    assert [line["step"] for line in log_lines(tmp_path / "straight") if "validation_psnr" in line] == [3, 4]
    assert log_lines(tmp_path / "straight") == log_lines(tmp_path / "killed")
    assert json.loads((tmp_path / "straight" / "recipe.json").read_text())["steps"] == STEPS


def test_a_killed_world_model_training_goes_on_as_if_nothing_had_been(
    clips: Path, trained_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "straight"))
    with monkeypatch.context() as patch:
        killed_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "killed"))
    assert last_state(tmp_path / "killed")["step"] == 2
    resumed = train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "killed", workers=1))
    states = [last_state(tmp_path / run) for run in ("straight", "killed")]
    assert states[0]["step"] == STEPS
    assert same_tree(*states)
    weights = [WorldModel.from_pretrained(path).state_dict() for path in (straight, resumed)]
    assert same_tree(*weights)
    assert weights[0]["proj_out.weight"].any()
    assert [line["step"] for line in log_lines(tmp_path / "straight") if "validation_ratio" in line] == [3, 4]
    assert [line["samples"] for line in log_lines(tmp_path / "straight") if "samples" in line]
    assert log_lines(tmp_path / "straight") == log_lines(tmp_path / "killed")


def test_videos_are_written_meanwhile_and_change_nothing(
    clips: Path, trained_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_world_model, "write_videos", partial(sample_videos.write_videos, num_inference_steps=2))
    changes = dict(validation_clips=2, batch_size=1)
    train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "plain", **changes))
    recipe = world_model_recipe(clips, trained_tokenizer, tmp_path / "shown", **changes, videos_every=3)
    train_world_model.train(recipe)
    videos = sorted(path.name for path in (tmp_path / "shown" / "videos").iterdir())
    steps = ("step-000000003", "step-000000004")
    assert videos == [f"{step}-{scene}.{kind}" for step in steps for scene in (0, 1) for kind in ("mp4", "png")]
    assert read_video(tmp_path / "shown" / "videos" / "step-000000003-0.mp4")[0].shape[0] == 16
    states = [last_state(tmp_path / run) for run in ("plain", "shown")]
    assert same_tree(*states)
    assert log_lines(tmp_path / "plain") == log_lines(tmp_path / "shown")


def test_other_options_are_refused_by_name(clips: Path, trained_tokenizer: Path, tmp_path: Path) -> None:
    train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "run"))
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "recipe.json"}
    recipe = world_model_recipe(
        clips, trained_tokenizer, tmp_path / "run", learning_rate=0.1, batch_size=4, steps=8, log_every=1
    )
    message = (
        r"step-000000004: expected the options that the run was begun with, batch_size=2, learning_rate=0.001, got "
        r"batch_size=4, learning_rate=0.1; give those, .* --accept-changes batch_size learning_rate"
    )
    with pytest.raises(ValueError, match=message):
        train_world_model.train(recipe)
    assert {path: path.read_bytes() for path in files} == files
    more = world_model_recipe(clips, trained_tokenizer, tmp_path / "run", steps=6, log_every=1)
    train_world_model.train(more)
    assert last_state(tmp_path / "run")["step"] == 6
    accepted = dict(learning_rate=0.1, accept_changes=("learning_rate",), steps=8, log_every=1)
    train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path / "run", **accepted))
    rates = {line["step"]: line["lr"] for line in log_lines(tmp_path / "run") if "lr" in line}
    final = 2e-5 / 0.1
    assert rates[8] == pytest.approx(0.1 * warmup_cosine(7, total=8, warmup=2, final=final))
    assert rates[5] == pytest.approx(1e-3 * warmup_cosine(4, total=6, warmup=2, final=0.02))


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
    recipe = measure_latents.MeasureRecipe(
        data=clips, tokenizer=path, validation_clips=0, precision="fp32", device="cpu"
    )
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


def test_held_out_clips_are_not_measured(tmp_path: Path, trained_tokenizer: Path) -> None:
    path = tmp_path / "tokenizer"
    dark, bright = (np.full((16, 1, 3, 32, 64), value, np.uint8) for value in (10, 240))
    write_chunk(tmp_path / "both", 0, [Clip(clip(0).scene, dark), Clip(clip(1).scene, bright)])
    write_chunk(tmp_path / "one", 0, [Clip(clip(1).scene, bright)])
    stats = []
    for folder, held_out in (("both", 1), ("one", 0), ("both", 0)):
        VideoTokenizer.from_pretrained(trained_tokenizer).save_pretrained(path)
        measure_latents.measure(
            measure_latents.MeasureRecipe(
                data=tmp_path / folder, tokenizer=path, validation_clips=held_out, precision="fp32", device="cpu"
            )
        )
        stats.append(VideoTokenizer.from_pretrained(path).config.latents_mean)
    assert stats[0] == stats[1] != stats[2]


def test_a_tokenizer_of_another_model(clips: Path, tmp_path: Path) -> None:
    tokenizer(latent_channels=6).save_pretrained(tmp_path / "tokenizer")
    message = r"tokenizer: expected latents of the model's 4 channels, got 6 of .*tokenizer; take the tokenizer of this"
    with pytest.raises(ValueError, match=message):
        train_world_model.train(world_model_recipe(clips, tmp_path / "tokenizer", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_too_few_clips_to_hold_any_out(clips: Path, trained_tokenizer: Path, tmp_path: Path) -> None:
    message = "validation_clips: expected fewer than the 4 clips of .*, got 4"
    with pytest.raises(ValueError, match=message):
        train_tokenizer.train(tokenizer_recipe(clips, tmp_path, validation_clips=4))
    with pytest.raises(ValueError, match=message):
        train_world_model.train(world_model_recipe(clips, trained_tokenizer, tmp_path, validation_clips=4))
    recipe = measure_latents.MeasureRecipe(data=clips, tokenizer=trained_tokenizer, validation_clips=4)
    with pytest.raises(ValueError, match=message):
        measure_latents.measure(recipe)


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


def test_importance_is_rendered_beside_the_same_pictures(tmp_path: Path) -> None:
    def render(name: str, **options: Any) -> ClipFolder:
        render_procedural.render(
            render_procedural.RenderRecipe(
                out=tmp_path / name, num_clips=2, clips_per_chunk=2, rig="random", num_cameras=2, frame_rates=(20.0,),
                image_size=(32, 64), num_frames=8, device="cpu", **options,
            )
        )  # fmt: skip
        return ClipFolder(tmp_path / name)

    plain, told = render("plain"), render("told", importance=True)
    world = ProceduralWorld(rig="random", num_cameras=2, frame_rates=(20.0,), image_size=(32, 64), num_frames=8)
    _, masks = world.render_with_masks(world.sample_scenes([0, 1]), [0, 1], 4)
    agents = [number for number, name in enumerate(CLASSES) if name.startswith("agent:")]
    for index in range(2):
        assert torch.equal(plain.frames(index), told.frames(index))
        assert plain.scene(index) == told.scene(index)
        for camera, frame in itertools.product(range(2), range(8)):  # each map is for four frames
            shown = np.isin(masks.classes[index, frame // 4, camera], agents)
            assert (told.importance(index, camera)[frame].numpy()[shown] >= 191).all()
    assert np.diff(told.scene(0).frame_times)[0] == pytest.approx(1 / 20)
    with pytest.raises(ValueError, match="num_frames: expected a multiple of 4 with importance, got 6"):
        render_procedural.render(
            render_procedural.RenderRecipe(out=tmp_path / "odd", num_frames=6, importance=True, device="cpu")
        )


def test_the_whole_way_to_a_pipeline(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def render(recipe: render_procedural.RenderRecipe) -> None:
        importance = np.full((3, 4, 1, 32, 64), 255, np.uint8) if recipe.importance else None
        write_chunk(recipe.out, 0, [clip(i) for i in range(3)], importance=importance)

    monkeypatch.setattr(train_mini, "render", render)
    small = dict(validation_clips=1, batch_size=1, device="cpu")
    monkeypatch.setattr(train_mini, "TokenizerRecipe", lambda **kw: train_tokenizer.TokenizerRecipe(**kw | small))

    def in_this_process(recipe: train_mini.MiniRecipe, tokenizer: Path, scenario_encoder: Path) -> Path:
        options = train_mini.world_model_recipe(recipe, tokenizer, scenario_encoder)
        plain = dict(
            data=recipe.runs / "clips",
            scenario_encoder=None,
            cameras=(),
            weighted=False,
            hidden_maps=0.0,
            cooldown_steps=None,
        )
        return train_world_model.train(dataclasses.replace(options, **plain, **small))

    monkeypatch.setattr(train_mini, "train_mini_world_model", in_this_process)
    monkeypatch.setattr(
        train_mini, "MeasureRecipe", lambda **kw: measure_latents.MeasureRecipe(**kw, validation_clips=1, device="cpu")
    )
    recipe = train_mini.MiniRecipe(
        runs=tmp_path / "runs",
        num_clips=3,
        tokenizer_steps=1,
        num_streets=3,
        streets_steps=1,
        scenario_steps=1,
        world_model_steps=1,
        compile=False,
        out=tmp_path / "mini",
    )
    train_mini.main(recipe)
    config = VideoTokenizer.from_pretrained(tmp_path / "mini" / "vae").config
    assert len(config.latents_std) == 4
    first = VideoTokenizer.from_pretrained(tmp_path / "runs" / "tokenizer" / "tokenizer")
    assert config.latents_std == first.config.latents_std  # the second training keeps them, as it keeps latents near
    second = VideoTokenizer.from_pretrained(tmp_path / "runs" / "streets" / "tokenizer").state_dict()
    shipped = VideoTokenizer.from_pretrained(tmp_path / "mini" / "vae", dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(value.to(shipped[name].dtype), shipped[name]) for name, value in second.items())
    assert not all(torch.equal(value, second[name]) for name, value in first.state_dict().items())
    train_mini.main(recipe)  # everything is there already: nothing is trained or measured twice
    assert VideoTokenizer.from_pretrained(tmp_path / "mini" / "vae").config.latents_std == config.latents_std
    pipe = Gaia2Pipeline.from_pretrained(tmp_path / "mini", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.config.default_guidance_scale == 2.0
    frames = pipe(clip(0).scene, num_inference_steps=1).frames
    assert frames.shape == (1, 16, 1, 32, 64, 3)
    assert np.isfinite(frames).all()
    assert BehaviourEncoder.from_pretrained(tmp_path / "mini" / "scenario_encoder").embed([clip(0).scene]).shape == (
        1,
        512,
    )
    manifest = check_manifest(tmp_path / "mini")
    assert manifest["options"]["world_model_steps"] == "1"
    assert "validation_loss" in manifest["curves"]["world_model"][-1]


def test_options_become_the_words_that_give_them(tmp_path: Path) -> None:
    recipe = train_mini.MiniRecipe(runs=tmp_path / "runs", compile=False)
    options = train_mini.world_model_recipe(recipe, tmp_path / "tokenizer", tmp_path / "encoder")
    assert tyro.cli(train_world_model.WorldModelRecipe, args=train_mini.command_line(options)) == options
    assert tyro.cli(train_mini.MiniRecipe, args=train_mini.command_line(recipe)) == recipe
