"""Rendered latents: what a shard holds, mirror images among it, and processes that share the rendering."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from einops import rearrange

from gaia2.data.mirror import mirror_scene
from gaia2.data.procedural import ProceduralWorld
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.training import rendered_latents
from gaia2.training.rendered_latents import RenderedLatents
from gaia2.video import from_uint8
from tests import tiny


@pytest.fixture(scope="module")
def world() -> ProceduralWorld:
    return ProceduralWorld(rig="random", num_cameras=2, image_size=(32, 64), num_frames=8, rays=1)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny.tokenizer()


def make(folder: Path, drives: ProceduralWorld, tokenizer, **changes) -> RenderedLatents:
    return RenderedLatents(folder, [drives], tokenizer, clips=2, **changes)


def test_a_shard_holds_the_latents_of_its_seeds_and_of_their_mirror_images(tmp_path, world, tokenizer) -> None:
    data = make(tmp_path, world, tokenizer, mirrored=True, with_maps=True, first_seed=70)
    data.grow(2)
    shard = data.shards[1]
    scenes = world.sample_scenes([72, 73])
    frames = world.render(scenes, [72, 73])
    with torch.no_grad():
        for rows, pixels in ((slice(0, 2), frames), (slice(2, 4), frames.flip(-1))):
            video = from_uint8(rearrange(pixels, "i tv n c h w -> (i n) c tv h w"))
            mean = tokenizer.normalize(tokenizer.encode(video).latent_dist.mean)
            mean = rearrange(mean, "(i n) c t h w -> i t n h w c", i=2)
            torch.testing.assert_close(shard["mean"][rows].float(), mean, rtol=0.05, atol=0.05)  # bfloat16
    curvature = shard["conditioning"]["curvature"]
    torch.testing.assert_close(curvature[2:], -curvature[:2])
    torch.testing.assert_close(shard["weight"][2:], shard["weight"][:2].flip(-1))


def test_a_batch_is_a_sample_of_the_distribution(tmp_path, world, tokenizer) -> None:
    data = make(tmp_path, world, tokenizer)
    tensors, conditioning = data.batch(1, 400, torch.Generator().manual_seed(0))
    shard = data.shards[0]
    speed = shard["conditioning"]["speed"]
    for row in range(2):
        of_row = tensors["x"][(conditioning["speed"] == speed[row]).all(dim=1)]
        assert len(of_row) > 150
        off = (of_row.mean(dim=0) - shard["mean"][row].float()) / shard["std"][row].float()
        assert off.abs().mean() < 2 / len(of_row) ** 0.5
        ratio = of_row.std(dim=0) / shard["std"][row].float()
        assert ratio.mean().item() == pytest.approx(1.0, abs=0.05)


def test_what_is_there_is_read_and_what_is_of_other_clips_is_made_anew(
    tmp_path, world, tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, world, tokenizer).grow(1)
    rendered = []
    original = rendered_latents.RenderedClips.render

    def counting(world, seeds, **options):
        rendered.append(list(seeds))
        return original(world, seeds, **options)

    monkeypatch.setattr(rendered_latents.RenderedClips, "render", counting)
    make(tmp_path, world, tokenizer).grow(1)
    assert rendered == []
    make(tmp_path, world, tokenizer, first_seed=9).grow(1)
    assert rendered == [[9, 10]]
    make(tmp_path, world, tiny.tokenizer(seed=1)).grow(1)
    assert len(rendered) == 2


def test_processes_share_the_rendering_and_have_the_same(tmp_path, world, tokenizer) -> None:
    alone = make(tmp_path / "alone", world, tokenizer)
    alone.grow(3)
    both = [make(tmp_path / "both", world, tokenizer, rank=rank, world=2) for rank in range(2)]
    threads = [threading.Thread(target=data.grow, args=(3,)) for data in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    for data in both:
        assert [shard["mean"].sum() for shard in data.shards] == [shard["mean"].sum() for shard in alone.shards]


def test_scenario_embeddings_are_those_of_the_scenes_also_where_latents_are_read_again(
    tmp_path, world, tokenizer
) -> None:
    encoder = BehaviourEncoder(embedding_dim=6, dim=8, num_heads=2, num_blocks=1)
    make(tmp_path, world, tokenizer, mirrored=True).grow(2)  # rendered without
    data = make(tmp_path, world, tokenizer, mirrored=True, embed=encoder.embed)
    data.grow(3)
    for index, shard in enumerate(data.shards):
        first = data.first_seed + 2 * index
        scenes = world.sample_scenes([first, first + 1])
        wanted = encoder.embed(scenes + [mirror_scene(scene) for scene in scenes])
        torch.testing.assert_close(shard["conditioning"]["scenario_embedding"], torch.from_numpy(wanted))
        assert shard["conditioning"]["curvature"].shape[0] == 4
    _, conditioning = data.batch(3, 5, torch.Generator().manual_seed(0))
    assert conditioning["scenario_embedding"].shape == (5, 6)
