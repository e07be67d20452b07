from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel


def test_paper_world_model_has_the_papers_size() -> None:
    with torch.device("meta"):
        model = WorldModel(**presets.paper().world_model)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(8.4e9, rel=0.01)
    assert len(model.transformer_blocks) == 22
    assert model.config.dim // model.config.num_heads == 128
    assert all(block.spatial_attention.heads == 32 for block in model.transformer_blocks)
    assert model.config.window_latents == 6


@pytest.mark.parametrize("preset", [presets.paper(), presets.mini()])
def test_models_of_a_preset_fit_each_other(preset: presets.Preset) -> None:
    with torch.device("meta"):
        tokenizer, model = VideoTokenizer(**preset.tokenizer), WorldModel(**preset.world_model)
    assert tokenizer.config.latent_channels == model.config.latent_channels
    assert preset.num_frames == tokenizer.frames_per_latent * model.config.window_latents
    assert all(size % tokenizer.spatial_compression_ratio == 0 for size in preset.image_size)
    json.dumps([preset.tokenizer, preset.world_model])


def test_mini_fits_a_laptop() -> None:
    with torch.device("meta"):
        tokenizer, model = (cls(**kw) for cls, kw in zip(
            (VideoTokenizer, WorldModel), (presets.mini().tokenizer, presets.mini().world_model), strict=True,
        ))  # fmt: skip
    size = sum(p.numel() for module in (tokenizer, model) for p in module.parameters())
    assert 2 * size <= 32e6  # bytes in bfloat16


def test_a_preset_can_be_changed_without_changing_the_next() -> None:
    presets.mini().world_model["dim"] = 7
    assert presets.mini().world_model["dim"] != 7
    assert dataclasses.replace(presets.mini(), num_frames=48).num_frames == 48
