from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gaia2.data.camera_clips import CameraClips
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.data.video_clips import VideoClips
from gaia2.video.files import write_video
from tests.tiny import clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> ClipFolder:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i, 12, "surround3") for i in range(2)])
    return ClipFolder(path)


def stored(index: int, camera: int) -> torch.Tensor:
    frames = torch.from_numpy(np.asarray(clip(index, 12, "surround3").frames)[:, camera])
    return frames.transpose(0, 1).float() / 127.5 - 1


def test_whole_clips_of_one_camera(folder: ClipFolder) -> None:
    clips = CameraClips(folder)
    for seed in (-1, 5):
        video = clips[1, 2, seed]
        assert video.shape == (3, 12, 32, 64)
        torch.testing.assert_close(video, stored(1, 2))


def place_of(crop: torch.Tensor, whole: torch.Tensor) -> tuple[int, int, int]:
    """The only place where a crop `(c, tv, hv, wv)` is found in a clip."""
    _, tv, hv, wv = crop.shape
    windows = whole.unfold(1, tv, 1).unfold(2, hv, 1).unfold(3, wv, 1)  # (c, t, y, x, tv, hv, wv)
    match = (windows[0] == crop[0]).all(dim=(-1)).all(dim=-1).all(dim=-1).nonzero().tolist()
    assert len(match) == 1
    return tuple(match[0])


def test_random_windows_in_time_and_space(folder: ClipFolder) -> None:
    clips = CameraClips(folder, image_size=(28, 58), num_frames=8)
    places = {place_of(clips[0, 1, seed], stored(0, 1)) for seed in range(40)}
    assert {t for t, _, _ in places} == {0, 1, 2, 3, 4}
    assert {y for _, y, _ in places} == {0, 1, 2, 3, 4}
    assert {x for _, _, x in places} == {0, 1, 2, 3, 4, 5, 6}
    assert torch.equal(clips[0, 1, 7], clips[0, 1, 7])
    assert place_of(clips[0, 1, -1], stored(0, 1)) == (0, 2, 3)  # for validation: the beginning, the middle


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_examples_comes_from_video_files(folder: ClipFolder, tmp_path: Path, share: float) -> None:
    write_video(tmp_path / "grey.mp4", np.full((12, 32, 64, 3), 128, np.uint8), frame_rate=10.0)
    videos = VideoClips([tmp_path / "grey.mp4"], image_size=(32, 64), num_frames=12)
    clips = CameraClips(folder, videos=videos, video_share=share)
    grey = [bool(clips[0, 0, seed].std() < 0.05) for seed in range(60)]
    assert abs(sum(grey) / 60 - share) < 0.2
    assert sum(grey) == 60 * share or 0 < share < 1
    assert clips[0, 0, -1].std() > 0.3


def test_clips_that_are_too_small(folder: ClipFolder) -> None:
    message = r"expected clips of at least \(tv, hv, wv\) = \(16, 32, 64\), got \(12, 32, 64\); render larger clips"
    with pytest.raises(ValueError, match=message):
        CameraClips(folder, num_frames=16)
    with pytest.raises(ValueError, match=r"= \(12, 448, 960\), got \(12, 32, 64\)"):
        CameraClips(folder, image_size=(448, 960))


def test_the_importance_of_pixels_is_cut_as_the_frames_are(tmp_path: Path) -> None:
    drives = [clip(i, 12, "surround3") for i in range(2)]
    red = np.stack([np.asarray(drive.frames)[:, :, 0] for drive in drives])  # so that it can be told where it was cut
    write_chunk(tmp_path, 0, drives, importance=red)
    clips = CameraClips(ClipFolder(tmp_path), image_size=(28, 58), num_frames=8)
    mirrored = CameraClips(ClipFolder(tmp_path), image_size=(28, 58), num_frames=8, mirrored_share=1.0)
    for seed in (-1, 0, 1, 2):
        for source in (clips, mirrored):
            frames, importance = source.with_importance((1, 2, seed))
            assert torch.equal(frames, source[1, 2, seed])
            torch.testing.assert_close(importance, (frames[0] + 1) / 2)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_a_share_of_the_examples_is_mirrored(folder: ClipFolder, share: float) -> None:
    straight, clips = CameraClips(folder), CameraClips(folder, mirrored_share=share)
    mirrored = [bool((clips[1, 2, seed] != straight[1, 2, seed]).any()) for seed in range(60)]
    assert abs(sum(mirrored) / 60 - share) < 0.2
    assert sum(mirrored) == 60 * share or 0 < share < 1
    for seed in range(5):
        assert torch.equal(clips[1, 2, seed], straight[1, 2, seed].flip(-1) if mirrored[seed] else straight[1, 2, seed])
    assert torch.equal(clips[1, 2, -1], straight[1, 2, -1])  # not for validation


def test_nothing_is_important_in_video_files(folder: ClipFolder, tmp_path: Path) -> None:
    write_video(tmp_path / "grey.mp4", np.full((12, 32, 64, 3), 128, np.uint8), frame_rate=10.0)
    videos = VideoClips([tmp_path / "grey.mp4"], image_size=(32, 64), num_frames=12)
    frames, importance = CameraClips(folder, videos=videos, video_share=1.0).with_importance((0, 0, 3))
    assert importance.shape == frames.shape[1:]
    assert not importance.any()
