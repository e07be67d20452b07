"""From clips to latent shards: what they hold, and when they are made again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from gaia2.conditioning.clip_embedding import embed_images
from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.table import standard_conditions
from gaia2.data.clip import Clip
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.data.shards import ShardReader, ShardWriter
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.encoding import clip_groups, encode_clips_to_shards
from gaia2.training.latents import LatentShards
from gaia2.training.ranks import Ranks
from tests.tiny import clip, tokenizer


@pytest.fixture(scope="module")
def model() -> VideoTokenizer:
    return tokenizer(latents_mean=[0.1, -0.1, 0.0, 0.2], latents_std=[0.5, 0.4, 0.6, 2.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i, 16, "surround3") for i in range(2)])
    write_chunk(path, 1, [clip(2, 16, "surround3")])
    return path


def encode(folder: Path, model: VideoTokenizer, out: Path, **options: Any) -> LatentShards:
    index = encode_clips_to_shards(clip_groups(folder), model, out, **options)
    return LatentShards(out, index, conditions=standard_conditions(max_agents=2))


def test_holds_the_normalised_distribution_of_each_camera(folder: Path, model: VideoTokenizer, tmp_path: Path) -> None:
    data = encode(folder, model, tmp_path)
    assert len(data) == 3
    shift, scale = torch.tensor([0.1, -0.1, 0.0, 0.2]), torch.tensor([0.5, 0.4, 0.6, 2.0])
    clips = ClipFolder(folder)
    for index in range(3):
        sample = data.read(index)
        assert sample.mean.shape == sample.std.shape == (2, 3, 2, 4, 4)
        for camera in range(3):
            frames = clips.frames(index, camera).float() / 127.5 - 1
            with torch.no_grad():
                latent_dist = model.encode(frames.transpose(0, 1)[None]).latent_dist
            mean, std = (value[0].permute(1, 2, 3, 0) for value in (latent_dist.mean, latent_dist.std))
            half = dict(atol=1e-3, rtol=2**-8)  # bfloat16
            torch.testing.assert_close(sample.mean[:, camera].float(), (mean - shift) / scale, **half)
            torch.testing.assert_close(sample.std[:, camera].float(), std / scale, **half)
        expected = scene_conditioning(clips.scene(index), max_agents=2)
        assert expected.keys() == sample.conditioning.keys()
        for name, value in expected.items():
            torch.testing.assert_close(sample.conditioning[name], value, equal_nan=True)


def test_what_is_there_is_not_encoded_again(
    folder: Path, model: VideoTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode(folder, model, tmp_path)
    (tmp_path / "clips-00001.json").unlink()  # as a kill leaves it
    encoded = []
    once = VideoTokenizer.encode

    def count(self: VideoTokenizer, *args: Any, **kwargs: Any) -> Any:
        encoded.append(1)
        return once(self, *args, **kwargs)

    monkeypatch.setattr(VideoTokenizer, "encode", count)
    again = encode(folder, model, tmp_path)
    assert len(encoded) == 1
    assert all(torch.equal(first.read(row).mean, again.read(row).mean) for row in range(3))


def changed(model: VideoTokenizer, **config: Any) -> VideoTokenizer:
    copy = VideoTokenizer(**{**{k: v for k, v in model.config.items() if not k.startswith("_")}, **config})
    copy.load_state_dict(model.state_dict())
    return copy.eval()


def test_other_statistics_weights_or_clips_are_encoded_anew(tmp_path: Path, model: VideoTokenizer) -> None:
    """None of these changes the number of clips or the sum of the weights' sizes."""
    clips, out = tmp_path / "clips", tmp_path / "latents"
    write_chunk(clips, 0, [clip(i, 16, "surround3") for i in range(2)])
    first = encode(clips, model, out).read(0)
    measured = encode(clips, changed(model, latents_std=[1.0, 1.0, 1.0, 1.0]), out).read(0)
    ratio = measured.std.float() / first.std.float()
    torch.testing.assert_close(ratio, torch.tensor([0.5, 0.4, 0.6, 2.0]).expand_as(ratio), rtol=0.02, atol=0)
    negated = changed(model)
    with torch.no_grad():
        for parameter in negated.encoder.parameters():
            parameter.neg_()
    assert not torch.allclose(encode(clips, negated, out).read(0).mean, first.mean, atol=1e-2)
    write_chunk(clips, 0, [clip(i, 16, "surround3") for i in range(3, 5)])
    assert not torch.allclose(encode(clips, model, out).read(0).mean, first.mean, atol=1e-2)


def test_ranks_divide_the_shards(folder: Path, model: VideoTokenizer, tmp_path: Path) -> None:
    class Apart(Ranks):
        def barrier(self) -> None:
            pass

    with pytest.raises(FileNotFoundError):
        encode_clips_to_shards(clip_groups(folder), model, tmp_path, ranks=Apart(rank=1, world=2))
    assert [path.name for path in tmp_path.glob("*.tar")] == ["clips-00001.tar"]
    index = encode_clips_to_shards(clip_groups(folder), model, tmp_path, ranks=Apart(rank=0, world=2))
    assert [shard.name for shard in index.shards] == ["clips-00000.tar", "clips-00001.tar"]


def test_clip_shards_are_read_like_folders(model: VideoTokenizer, tmp_path: Path) -> None:
    clips = [clip(i, 20, "front") for i in range(2)]
    write_chunk(tmp_path / "folder", 0, [one.window(0, 16) for one in clips])
    with ShardWriter(tmp_path / "shards" / "drive.tar", pixels="png") as shard:
        for one in clips:
            shard.write(one)
    plain, data = (encode(tmp_path / name, model, tmp_path / f"{name}-out") for name in ("folder", "shards"))
    assert len(data) == 2
    assert torch.equal(data.read(1).mean, plain.read(1).mean)  # the last 4 frames make no latent
    with pytest.raises(ValueError, match="expected clips with frames, got latents; give this folder as --latents"):
        encode(tmp_path / "shards-out", model, tmp_path / "again")


def test_clips_embeddings_are_those_of_their_frames(folder: Path, model: VideoTokenizer, tmp_path: Path) -> None:
    config = CLIPVisionConfig(
        hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16, patch_size=8,
        projection_dim=6,
    )  # fmt: skip
    torch.manual_seed(0)
    encoder = CLIPVisionModelWithProjection(config).eval()
    encode(folder, model, tmp_path)  # without
    data = encode(folder, model, tmp_path, image_encoder=encoder)
    embeddings = [data.read(row).conditioning["clip_embedding"][0] for row in range(3)]
    mean = embed_images(ClipFolder(folder).frames(2)[[0, 8]], encoder).mean(dim=(0, 1))
    torch.testing.assert_close(embeddings[2], mean / mean.norm())
    assert not torch.allclose(embeddings[0], embeddings[1], atol=1e-5)


def test_a_condition_that_some_clips_have_is_absent_in_the_others(tmp_path: Path, model: VideoTokenizer) -> None:
    clips = [clip(i, 16, "front") for i in range(3)]
    scene = clips[1].scene.replace(clip_embedding=np.array([0.6, 0.8]))
    write_chunk(tmp_path / "clips", 0, [clips[0], Clip(scene, clips[1].frames), clips[2]])
    index = encode_clips_to_shards(clip_groups(tmp_path / "clips"), model, tmp_path / "out")
    data = LatentShards(tmp_path / "out", index, conditions=standard_conditions(clip_dim=2, scenario_dim=3))
    given = data.batch([(0, 0), (1, 0), (2, 0)]).conditioning
    assert given["clip_embedding"][1].tolist() == pytest.approx([0.6, 0.8])
    assert given["clip_embedding"][[0, 2]].isnan().all()
    assert given["scenario_embedding"].shape == (3, 3)
    assert given["scenario_embedding"].isnan().all()


def test_long_clips_have_many_windows_and_short_ones_are_refused(model: VideoTokenizer, tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "shards" / "drive.tar", pixels="png") as shard:
        for frames in (32, 16):
            shard.write(clip(1, frames, "front"))
    out = tmp_path / "out"
    index = encode_clips_to_shards(clip_groups(tmp_path / "shards"), model, out)
    data = LatentShards(out, index, window=2)
    assert data.places == [3, 1]
    whole = ShardReader(out / "drive.tar").read(data.entries[0].key)
    sample = data.read(0, 2)
    assert torch.equal(sample.mean, whole.latents["mean"][2:4])
    expected = scene_conditioning(whole.scene.window(16, 32))
    torch.testing.assert_close(sample.conditioning["timestamps"], expected["timestamps"])
    with pytest.raises(
        ValueError, match=r"expected clips of at least 3 latents, the window of the model, got 2 in drive-"
    ):
        LatentShards(out, index, window=3)
    with pytest.raises(ValueError, match=r"expected shards of latents, got 2 clips without; encode them with"):
        LatentShards(tmp_path / "shards")
