"""The recipe that encodes clips beforehand, and the training that reads its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encode_latents
import pytest
import torch
import train_world_model

from gaia2.data.clip_folder import write_chunk
from gaia2.models import presets
from tests.ranks import run_ranks
from tests.recipes.runs import last_state, same_tree
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    for number in range(2):
        write_chunk(tmp_path / "clips", number, [clip(2 * number + i) for i in range(2)])
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    return dict(data=tmp_path / "clips", tokenizer=tmp_path / "tokenizer")


def train(given: dict[str, Any], out: Path, **source: Path) -> dict[str, Any]:
    recipe = train_world_model.WorldModelRecipe(
        tokenizer=given["tokenizer"], out=out, steps=3, batch_size=2, validation_clips=1, device="cpu", **source
    )
    train_world_model.train(recipe)
    return last_state(out)


def test_a_training_on_the_shards_is_that_on_the_clips(given: dict[str, Any], tmp_path: Path) -> None:
    index = encode_latents.encode(encode_latents.EncodeRecipe(**given, out=tmp_path / "latents", device="cpu"))
    assert [entry.contents for entry in index.clips] == ["latents"] * 4
    assert (tmp_path / "latents" / "index.json").is_file()
    direct = train(given, tmp_path / "direct", data=given["data"])
    assert same_tree(direct, train(given, tmp_path / "stream", latents=tmp_path / "latents"))
    tokenizer(seed=1).save_pretrained(given["tokenizer"])
    with pytest.raises(ValueError, match=r"latents: expected latents of the tokenizer .*; encode the clips again"):
        train(given, tmp_path / "other", latents=tmp_path / "latents")
    with pytest.raises(ValueError, match="data, latents: expected one of them, got both"):
        train(given, tmp_path / "both", latents=tmp_path / "latents", data=given["data"])


def encode_in(rank: int, recipe: encode_latents.EncodeRecipe) -> None:
    encode_latents.encode(recipe)


@pytest.mark.slow
def test_two_processes_divide_the_shards(given: dict[str, Any], tmp_path: Path) -> None:
    alone = encode_latents.encode(encode_latents.EncodeRecipe(**given, out=tmp_path / "one", device="cpu"))
    run_ranks(encode_in, encode_latents.EncodeRecipe(**given, out=tmp_path / "two", device="cpu"))
    for shard in alone.shards:
        assert (tmp_path / "two" / shard.name).read_bytes() == (tmp_path / "one" / shard.name).read_bytes()
    assert torch.get_num_threads() >= 1
