from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gaia2.data.shards import ShardWriter
from gaia2.training.encoding import clip_groups, encode_clips_to_shards
from gaia2.training.latents import LatentShards
from gaia2.training.ranks import Ranks
from gaia2.training.world_model_data import ShardSource
from tests.tiny import clip, tokenizer

RIGS = ("front", "front", "front", "surround3", "surround3", "front")


@pytest.fixture(scope="module")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    with ShardWriter(path / "clips" / "drive.tar", pixels="png") as shard:
        for number, rig in enumerate(RIGS):
            shard.write(clip(number, 24, rig))
    encode_clips_to_shards(clip_groups(path / "clips"), tokenizer(), path / "latents")
    return path / "latents"


def source(latents: Path, **options: Any) -> ShardSource:
    return ShardSource(LatentShards(latents, window=2), **dict(num_held_out=2, steps=50) | options)


def test_what_a_step_sees_does_not_depend_on_who_asks(latents: Path) -> None:
    own = source(latents)
    for step in range(1, 6):
        whole = own.batch(step, range(4), 4)
        parts = [own.batch(step, samples, 4) for samples in (range(1), range(1, 4))]
        assert torch.equal(whole.tensors["x"], torch.cat([part.tensors["x"] for part in parts]))
        assert whole.names == [name for part in parts for name in part.names]
        numbers = [[torch.rand(1, generator=g).item() for g in one.generators] for one in (whole, *parts)]
        assert numbers[0] == numbers[1] + numbers[2]
    assert source(latents, seed=1).batch(1, range(4), 4).names != own.batch(1, range(4), 4).names


def test_held_out_clips_are_never_trained_on_and_rigs_are_never_mixed(latents: Path) -> None:
    own = source(latents)
    seen = set()
    for step in range(1, 40):
        rows = [row for row, _ in own.batch(step, range(4), 4).names]
        assert len({RIGS[row] for row in rows}) == 1
        seen |= set(rows)
    assert seen == {2, 3, 4, 5}


def test_balanced_clips_are_drawn_as_often_as_their_features_are_evened_out(latents: Path) -> None:
    own = source(latents, num_held_out=0, balanced={"num_cameras": None})
    rows = [row for step in range(1, 400) for row, _ in own.batch(step, range(4), 4).names]
    wide = sum(RIGS[row] == "surround3" for row in rows) / len(rows)
    # 2 of 6 clips: shares 1/3 and 2/3, tempered by a half
    root = (1 / 3) ** 0.5, (2 / 3) ** 0.5
    assert wide == pytest.approx(root[0] / sum(root), abs=0.1)  # 400 draws of a group
    counts = [rows.count(row) for row in (0, 1, 2, 5)]
    assert min(counts) > 0.8 * max(counts)


def test_latents_are_drawn_from_their_distribution(latents: Path) -> None:
    own = source(latents, num_held_out=0)
    drawn = [own.batch(step, range(8), 8) for step in range(1, 60)]
    noise = []
    for batch in drawn:
        for x, (row, start) in zip(batch.tensors["x"], batch.names, strict=True):
            sample = own.data.read(row, start)
            noise.append(((x - sample.mean.float()) / sample.std.float()).flatten())
    values = torch.cat(noise)
    assert values.mean().abs() < 0.01
    assert values.std() == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("count", "size", "world"), [(2, 4, 1), (3, 1, 2), (5, 2, 2), (6, 2, 4)])
def test_ranks_share_the_held_out_clips_and_have_equally_many_batches(
    count: int, size: int, world: int, latents: Path
) -> None:
    own = source(latents, num_held_out=min(count, 5))
    shares = [list(own.held_out(size, Ranks(rank=rank, world=world))) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for numbers, _ in share for row in numbers]
    assert sorted(rows) == list(range(min(count, 5)))
    for share in shares:
        for numbers, (x, conditioning) in share:
            assert len(x) == len(conditioning["speed"]) == max(1, len(numbers))


def test_too_many_held_out(latents: Path) -> None:
    with pytest.raises(ValueError, match=r"validation_clips: expected fewer than the 6 clips of .*latents, got 64"):
        source(latents, num_held_out=64)


def test_what_is_kept_in_memory_does_not_grow_with_the_data(latents: Path) -> None:
    whole = LatentShards(latents, window=2)
    size = sum(value.nbytes for value in (whole.read(0).mean, whole.read(0).std, *whole.read(0).conditioning.values()))
    some = LatentShards(latents, window=2, cache_bytes=int(1.5 * size))
    for row in (0, 1, 2, 5, 0):
        for mine, other in zip(some.read(row)[:2], whole.read(row)[:2], strict=True):
            assert torch.equal(mine, other)
    assert len(some._cache) == 1
    assert len(whole._cache) == 4
