from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.latents import LatentDataset
from tests.tiny import clip, tokenizer


@pytest.fixture(scope="module")
def model() -> VideoTokenizer:
    return tokenizer(latents_mean=[0.1, -0.1, 0.0, 0.2], latents_std=[0.5, 0.4, 0.6, 2.0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i, 16, "surround3") for i in range(3)])
    return ClipFolder(path)


@pytest.fixture
def data(folder: ClipFolder, model: VideoTokenizer, tmp_path: Path) -> LatentDataset:
    return LatentDataset.encode(folder, model, cache=tmp_path / "latents.pt", held_out=1, max_agents=2)


def test_holds_the_normalised_distribution_of_each_camera(
    data: LatentDataset, folder: ClipFolder, model: VideoTokenizer
) -> None:
    assert len(data) == 3
    assert data.mean.shape == data.std.shape == (3, 2, 3, 2, 4, 4)
    shift, scale = torch.tensor([0.1, -0.1, 0.0, 0.2]), torch.tensor([0.5, 0.4, 0.6, 2.0])
    for index in range(3):
        for camera in range(3):
            frames = folder.frames(index, camera).float() / 127.5 - 1
            with torch.no_grad():
                latent_dist = model.encode(frames.transpose(0, 1)[None]).latent_dist
            mean, std = (value[0].permute(1, 2, 3, 0) for value in (latent_dist.mean, latent_dist.std))
            torch.testing.assert_close(data.mean[index, :, camera], (mean - shift) / scale, atol=1e-4, rtol=0)
            torch.testing.assert_close(data.std[index, :, camera], std / scale, atol=1e-4, rtol=0)
    torch.testing.assert_close(data.mean_latents, (data.mean[1] + data.mean[2]) / 2)


def test_holds_the_conditions_of_each_clip(data: LatentDataset, folder: ClipFolder) -> None:
    for index in range(3):
        expected = scene_conditioning(folder.scene(index), max_agents=2)
        assert expected.keys() == data.conditioning.keys()
        for name, value in expected.items():
            torch.testing.assert_close(data.conditioning[name][index], value[0], equal_nan=True)


def test_a_batch_samples_the_distribution(data: LatentDataset) -> None:
    rows = torch.tensor([2, 0, 2])
    latents, conditioning = data.batch(rows, torch.Generator().manual_seed(3))
    noise = torch.randn(3, 2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(latents, data.mean[rows] + data.std[rows] * noise)
    assert torch.equal(conditioning["speed"], data.conditioning["speed"][rows])
    assert conditioning["speed"][:, 0].tolist() == [2.0, 0.0, 2.0]
    moved = data.to("cpu")
    assert torch.equal(moved.batch(rows, torch.Generator().manual_seed(3))[0], latents)


def test_a_second_call_reads_the_cache(
    data: LatentDataset, folder: ClipFolder, model: VideoTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(self: Any, *_: Any, **__: Any) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(VideoTokenizer, "encode", encode)
    again = LatentDataset.encode(folder, model, cache=tmp_path / "latents.pt", held_out=1, max_agents=2)
    for name in ("mean", "std", "mean_latents"):
        assert torch.equal(getattr(again, name), getattr(data, name))
    assert again.conditioning.keys() == data.conditioning.keys()
    with pytest.raises(AssertionError, match="encoded again"):
        LatentDataset.encode(folder, model, cache=tmp_path / "other.pt", held_out=1)


def test_more_clips_are_encoded_anew(data: LatentDataset, model: VideoTokenizer, tmp_path: Path) -> None:
    write_chunk(tmp_path / "clips", 0, [clip(i, 16, "surround3") for i in range(4)])
    more = LatentDataset.encode(
        ClipFolder(tmp_path / "clips"), model, cache=tmp_path / "latents.pt", held_out=1, max_agents=2
    )
    assert len(more) == 4
    torch.testing.assert_close(more.mean[:3], data.mean)
