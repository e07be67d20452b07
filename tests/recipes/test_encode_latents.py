"""The recipe that encodes clips beforehand, and the training that reads its shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import encode_latents
import pytest
import torch
import train_world_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gaia2.data.clip_folder import write_chunk
from gaia2.data.shards import ShardReader, ShardWriter
from gaia2.models import presets
from tests.ranks import run_ranks
from tests.recipes.runs import last_state, log_lines, same_tree
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(presets, "mini", lambda: PRESET)
    for number in range(2):
        write_chunk(tmp_path / "clips", number, [clip(2 * number + i) for i in range(2)])
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    return dict(data=tmp_path / "clips", tokenizer=tmp_path / "tokenizer")


def train(given: dict[str, Any], out: Path, **source: Any) -> dict[str, Any]:
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


def test_clips_can_be_encoded_whenever_a_step_draws_them(given: dict[str, Any], tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards" / "drive.tar", pixels="png") as shard:
        for number in range(4):
            shard.write(clip(number, 24))
    first = train(given, tmp_path / "first", data=tmp_path / "shards")
    meanwhile = train(given, tmp_path / "meanwhile", data=tmp_path / "shards", encode_first=False, workers=2)
    assert same_tree({**meanwhile, "step": 3}, first)
    assert log_lines(tmp_path / "meanwhile") == log_lines(tmp_path / "first")
    assert not (tmp_path / "meanwhile" / "latents").exists()
    assert (tmp_path / "first" / "latents").exists()
    with pytest.raises(ValueError, match="encode_first: expected true without data, and with image_encoder"):
        train(given, tmp_path / "bad", latents=tmp_path / "latents", encode_first=False)
    with pytest.raises(ValueError, match="expected clip shards with frames, got latents; give them as --latents"):
        train(given, tmp_path / "bad", data=tmp_path / "first" / "latents", encode_first=False)


def test_the_plan_is_what_encoding_takes(given: dict[str, Any], tmp_path: Path) -> None:
    recipe = encode_latents.EncodeRecipe(**given, out=tmp_path / "latents", precision="fp32", device="cpu")
    text = encode_latents.plan(recipe)
    assert not recipe.out.exists()
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        index = encode_latents.encode(recipe)
    said = {line[:23].strip(): line[23:].split() for line in text.splitlines()[2:]}
    assert float(said["operations"][0]) * 1e12 == pytest.approx(counter.get_total_flops(), rel=0.02)
    size = sum(t.nbytes for clip in index.clips for t in read_latents(recipe.out, clip).values())
    assert float(said["latents"][0]) * 1e9 == pytest.approx(size, rel=0.001)
    assert said["videos of one camera"][0] == "4,"


def read_latents(folder: Path, clip: Any) -> Any:
    return ShardReader(folder / clip.shard).read(clip.key).latents


def encode_in(rank: int, recipe: encode_latents.EncodeRecipe) -> None:
    encode_latents.encode(recipe)


@pytest.mark.slow
def test_two_processes_divide_the_shards(given: dict[str, Any], tmp_path: Path) -> None:
    alone = encode_latents.encode(encode_latents.EncodeRecipe(**given, out=tmp_path / "one", device="cpu"))
    run_ranks(encode_in, encode_latents.EncodeRecipe(**given, out=tmp_path / "two", device="cpu"))
    for shard in alone.shards:
        assert (tmp_path / "two" / shard.name).read_bytes() == (tmp_path / "one" / shard.name).read_bytes()
    assert torch.get_num_threads() >= 1
