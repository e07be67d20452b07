"""The whole of the default model's training on a GPU, for a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import train_mini

from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Scene


@pytest.mark.gpu
@pytest.mark.slow
def test_fifty_steps_of_everything(tmp_path: Path) -> None:
    train_mini.main(
        train_mini.MiniRecipe(
            runs=tmp_path / "runs",
            num_clips=80,
            tokenizer_steps=50,
            tokenizer_cooldown_steps=10,
            world_model_steps=50,
            world_model_cooldown_steps=10,
            processes=1,
            out=tmp_path / "mini",
            compile=False,
        )
    )
    pipe = Gaia2Pipeline.from_pretrained(tmp_path / "mini").to("cuda")
    frames = pipe(Scene.create(rig="surround", num_frames=24, speed=5.0), num_inference_steps=2).frames
    assert frames.shape == (1, 24, 5, 64, 128, 3)
