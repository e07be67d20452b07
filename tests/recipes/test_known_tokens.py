"""What the network is given in training: context as it is, the rest noised along the path of Eq. 1."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
import train_world_model
from einops import rearrange

from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from gaia2.models.world_model import WorldModel
from gaia2.training.latents import LatentDataset
from tests.tiny import TOKENIZER, WORLD_MODEL, clip, tokenizer


def test_context_reaches_the_network_unchanged_and_the_future_noised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = presets.Preset(tokenizer=TOKENIZER, world_model=WORLD_MODEL, image_size=(32, 64), num_frames=24)
    monkeypatch.setattr(presets, "mini", lambda: preset)
    write_chunk(tmp_path / "clips", 0, [clip(i, 24, "front") for i in range(3)])
    tokenizer().save_pretrained(tmp_path / "tokenizer")

    latents, calls = [], []
    draw, forward = LatentDataset.batch, WorldModel.forward

    def spy_on_batch(self: LatentDataset, *args: Any, **kwargs: Any) -> Any:
        x, conditioning = draw(self, *args, **kwargs)
        latents.append(x)
        return x, conditioning

    def spy_on_forward(self: WorldModel, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(forward).bind(self, *args, **kwargs)
        calls.append({name: v.clone() if torch.is_tensor(v) else v for name, v in bound.arguments.items()})
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(LatentDataset, "batch", spy_on_batch)
    monkeypatch.setattr(WorldModel, "forward", spy_on_forward)
    train_world_model.train(
        train_world_model.WorldModelRecipe(
            data=tmp_path / "clips",
            tokenizer=tmp_path / "tokenizer",
            out=tmp_path / "out",
            steps=3,
            batch_size=32,
            warmup_steps=1,
            validation_clips=1,
            validate_every=9,
            save_every=9,
            context_share=0.5,
            inpainting_share=0.25,
            bf16=False,
            device="cpu",
        )
    )

    steps = [(x, call) for x, call in zip(latents, calls, strict=True) if call.get("known_mask") is not None]
    assert len(steps) == 3
    noise = []
    for x, call in steps:
        known, given = call["known_mask"], call["hidden_states"]
        assert known.any()
        assert not known.all()
        assert torch.equal(given[known], x[known])
        tau = rearrange(call["timestep"], "b -> b 1 1 1 1 1").expand(x.shape)[~known]
        noise.append((given[~known] - tau * x[~known]) / (1 - tau))
    drawn = torch.cat(noise).flatten()
    assert drawn.mean().abs() < 0.05
    assert drawn.std() == pytest.approx(1.0, abs=0.05)
