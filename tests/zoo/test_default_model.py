"""The weights in the package: what they weigh, how well they rebuild, and whether they obey."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.metrics.reconstruction import psnr
from gaia2.metrics.sharpness import seam_ratio
from gaia2.models.world_model import WorldModel

STEPS = 12  # few enough for a test; the differences looked for are large


@pytest.fixture(scope="module")
def pipe():
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def generate(pipe):
    """Frames `(b, tv, n, hv, wv, 3)` in [0, 1] of scenes that differ in one condition, from one noise, unguided."""

    def run(*scenes: gaia2.Scene, seeds: int = 3) -> np.ndarray:
        generators = [torch.Generator().manual_seed(seed) for seed in range(seeds) for _ in scenes]
        many = list(scenes) * seeds
        return pipe(many, num_inference_steps=STEPS, guidance_scale=1.0, generator=generators).frames

    return run


def scene(**conditions) -> gaia2.Scene:
    base = dict(rig="surround", num_frames=24, speed=10.0, weather="clear", time_of_day="day", number_of_lanes=2)
    return gaia2.Scene.create(**base | conditions)


def test_weights_are_small_bfloat16_safetensors():
    from safetensors import safe_open

    folder = Path(gaia2.default_model())
    files = list(folder.rglob("*.safetensors"))
    assert {file.parent.name for file in files} == {"vae", "transformer", "few_steps", "scenario_encoder"}
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 35e6
    for file in files:
        with safe_open(file, "pt") as weights:
            floats = [weights.get_slice(name).get_dtype() for name in weights.keys()]  # noqa: SIM118
        assert set(floats) <= {"BF16", "I64"}


def test_the_adapter_for_few_steps_ends_near_many_guided_ones():
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    pipe.set_progress_bar_config(disable=True)
    scenes = [
        scene(rig="front", time_of_day=time, weather=weather) for time, weather in (("day", "snow"), ("dusk", "rain"))
    ]

    def ends(**sampling: float) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(scenes))]
        return pipe(scenes, output_type="latent", generator=generators, **sampling).frames

    many = ends(num_inference_steps=50)  # guided, as the model says
    few = ends(num_inference_steps=8, guidance_scale=1.0)
    pipe.load_lora_weights(gaia2.default_model(), subfolder="few_steps")
    adapted = ends(num_inference_steps=8, guidance_scale=1.0)
    assert (adapted - many).square().mean() < 0.5 * (few - many).square().mean()


def test_model_index_names_the_library_and_not_its_files():
    index = json.loads((gaia2.default_model() / "model_index.json").read_text())
    assert index["_class_name"] == "Gaia2Pipeline"
    assert index["default_guidance_scale"] == 2.0
    assert index["vae"] == ["gaia2", "VideoTokenizer"]
    assert index["transformer"] == ["gaia2", "WorldModel"]
    assert index["scheduler"] == ["gaia2", "FlowMatchScheduler"]


def test_missing_weights_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(gaia2.zoo, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match="expected the default model's weights"):
        gaia2.zoo.default_model()


def test_tokenizer_rebuilds_held_out_clips_above_28_db(pipe):
    seeds = list(range(10_000_000, 10_000_016))
    world = ProceduralWorld(rig="surround", image_size=(64, 128), num_frames=24)
    cameras = torch.arange(len(seeds)) % 5
    frames = world.render(world.sample_scenes(seeds), seeds, cameras=cameras)
    video = rearrange(frames, "b tv 1 c hv wv -> b c tv hv wv").float() / 127.5 - 1
    with torch.no_grad():
        quality = psnr(pipe.vae(video).sample, video)
    assert quality.mean() >= 28, quality


def test_rolling_decode_of_ten_seconds_has_no_seam(pipe):
    seeds = list(range(10_000_100, 10_000_105))
    world = ProceduralWorld(rig="front", image_size=(64, 128), num_frames=104)
    frames = world.render(world.sample_scenes(seeds), seeds)
    video = rearrange(frames, "b tv 1 c hv wv -> b c tv hv wv").float() / 127.5 - 1
    with torch.no_grad():
        decoded = pipe.vae.rolling_decode(pipe.vae.encode(video).latent_dist.mean)
    ratio = seam_ratio(decoded, pipe.vae.frames_per_latent)
    assert (ratio <= 1.1).all(), ratio


def test_night_is_darker_than_day(generate):
    frames = generate(scene(time_of_day="day"), scene(time_of_day="night"))
    day, night = frames[0::2].mean(axis=(1, 2, 3, 4, 5)), frames[1::2].mean(axis=(1, 2, 3, 4, 5))
    assert (night < 0.6 * day).all(), (day, night)


def test_ground_moves_with_speed_and_rests_without(generate):
    frames = generate(scene(speed=0.0), scene(speed=15.0))
    ground = frames[:, :, 0, 44:, :, :]  # lower third of the front camera
    change = np.abs(np.diff(ground, axis=1)).mean(axis=(1, 2, 3, 4))
    standing, driving = change[0::2], change[1::2]
    assert (driving > 1.2 * standing).all(), (standing, driving)
    assert driving.mean() > 1.5 * standing.mean(), (standing, driving)


def test_every_camera_has_a_bright_sky_above_a_darker_ground(generate):
    frames = generate(scene(), seeds=8)  # in a single one a house may fill a picture
    top, bottom = frames[..., :8, :, 2].mean(axis=(0, 1, 3, 4)), frames[..., -8:, :, 2].mean(axis=(0, 1, 3, 4))
    assert (top > bottom).all(), (top, bottom)


def test_world_model_is_the_mini_preset():
    from gaia2.models import presets

    config = WorldModel.load_config(gaia2.default_model(), subfolder="transformer")
    for name, value in presets.mini().world_model.items():
        assert config[name] == value
