"""The tiny models that the tests of the recipes train."""

from __future__ import annotations

from gaia2.models import presets
from tests.tiny import TOKENIZER, WORLD_MODEL

PRESET = presets.Preset(
    tokenizer=TOKENIZER,
    world_model=WORLD_MODEL | {"clip_dim": 4, "scenario_dim": 4, "window_latents": 2},
    image_size=(32, 64),
    num_frames=16,
)
