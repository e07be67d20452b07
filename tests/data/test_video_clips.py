from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gaia2.data.video_clips import VideoClips
from gaia2.video.files import write_video

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "solid_white_right.mp4"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def brightness(video: np.ndarray | torch.Tensor) -> np.ndarray:
    return np.asarray(video, dtype=float).mean(axis=(1, 2, 3))


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 frames that each are brighter than the one before, and darker at the left than at the right."""
    path = tmp_path_factory.mktemp("videos") / "drive.mp4"
    ramp = np.linspace(0, 60, 96)[None, None, :, None]
    frames = (4.0 * np.arange(40)[:, None, None, None] + ramp).astype(np.uint8)
    write_video(path, np.broadcast_to(frames, (40, 64, 96, 3)), frame_rate=10.0, quality=1)
    return path


def frame_numbers(clip: torch.Tensor) -> np.ndarray:
    """Which frames of `drive` a clip may hold, by brightness, up to the unknown place of the crop."""
    return brightness(clip) / 4.0


def test_a_sample_is_a_stretch_of_frames_of_the_asked_size(drive: Path) -> None:
    clips = VideoClips([drive], image_size=(16, 32), num_frames=8)
    for seed in range(10):
        clip = clips.sample(generator(seed))
        assert clip.shape == (8, 3, 16, 32)
        assert clip.dtype == torch.uint8
        np.testing.assert_allclose(np.diff(brightness(clip)), 4.0, atol=1.5)  # frames in a row, at the file's own rate
    assert torch.equal(clips.sample(generator(3)), clips.sample(generator(3)))
    assert not torch.equal(clips.sample(generator(3)), clips.sample(generator(4)))


def test_half_of_the_samples_are_mirrored(drive: Path) -> None:
    clips = VideoClips([drive], image_size=(16, 32), num_frames=2)
    slopes = [float(clips.sample(generator(seed)).float().mean(dim=(0, 1, 2)).diff().mean()) for seed in range(60)]
    assert 15 < sum(slope < 0 for slope in slopes) < 45
    assert min(map(abs, slopes)) > 0.3


def test_crops_differ_in_size_and_place(drive: Path) -> None:
    clips = VideoClips([drive], image_size=(16, 32), num_frames=2, min_crop=0.5)
    steepness = [abs(float(clips.sample(generator(s)).float().mean(dim=(0, 1, 2)).diff().mean())) for s in range(40)]
    assert max(steepness) / min(steepness) > 1.5  # a smaller crop, enlarged, is less steep
    whole = VideoClips([drive], image_size=(16, 32), num_frames=2, min_crop=1.0)
    steepness = [abs(float(whole.sample(generator(s)).float().mean(dim=(0, 1, 2)).diff().mean())) for s in range(20)]
    assert max(steepness) / min(steepness) < 1.2


def test_held_out_frames_are_never_sampled(drive: Path) -> None:
    clips = VideoClips([drive, drive], image_size=(16, 32), num_frames=8, held_out_frames=12)
    first, second = clips.held_out()
    assert torch.equal(first, second)
    assert first.shape == (12, 3, 16, 32)
    np.testing.assert_allclose(brightness(first), 4.0 * np.arange(28, 40) + 30, atol=4)
    # a crop lies within 0..60 of the ramp, so the last frame of a sample is at most frame 27 at the ramp's end
    latest = max(float(brightness(clips.sample(generator(seed)))[-1]) for seed in range(100))
    assert latest <= 4.0 * 27 + 60 + 3
    earliest = min(float(brightness(clips.sample(generator(seed)))[0]) for seed in range(100))
    assert earliest < 50
    assert VideoClips([drive], image_size=(16, 32), num_frames=8).held_out() == []


def test_a_video_may_be_just_long_enough(drive: Path) -> None:
    clips = VideoClips([drive], image_size=(16, 32), num_frames=28, held_out_frames=12)
    assert clips.sample(generator()).shape == (28, 3, 16, 32)
    with pytest.raises(
        ValueError, match=r"drive.mp4: expected at least 29 frames and 12 held out, got 40; use a longer"
    ):
        VideoClips([drive], image_size=(16, 32), num_frames=29, held_out_frames=12)


def test_small_videos_are_enlarged(drive: Path) -> None:
    assert VideoClips([drive], image_size=(128, 256), num_frames=1).sample(generator()).shape == (1, 3, 128, 256)


def test_bad_files(tmp_path: Path, drive: Path) -> None:
    def clips(path: Path, **changes: float) -> VideoClips:
        return VideoClips([path], image_size=(16, 32), num_frames=8, **changes)

    with pytest.raises(FileNotFoundError, match=r"expected a video file, found none at .*missing\.mp4"):
        clips(tmp_path / "missing.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"text\.mp4: expected a video, got a file that cannot be read as one"):
        clips(tmp_path / "text.mp4")
    (tmp_path / "half.mp4").write_bytes(drive.read_bytes()[:400])
    with pytest.raises(ValueError, match=r"half\.mp4: expected a video, got a file that cannot be read as one"):
        clips(tmp_path / "half.mp4")
    for min_crop in (0.0, 1.5):
        with pytest.raises(ValueError, match=r"min_crop: expected a fraction in \(0, 1\], got"):
            clips(drive, min_crop=min_crop)


@pytest.mark.skipif(not REAL.is_file(), reason="needs ../shared/data/solid_white_right.mp4")
def test_real_footage() -> None:
    clips = VideoClips([REAL], image_size=(64, 128), num_frames=24, held_out_frames=60)
    assert clips.videos[0].shape == (221, 540, 960, 3)
    clip, (end,) = clips.sample(generator()), clips.held_out()
    assert clip.shape == (24, 3, 64, 128)
    assert end.shape == (60, 3, 64, 128)
    assert clip.float().std() > 20
    change = end.float().diff(dim=0).abs().mean()
    assert 0.5 < change < 20  # it moves, frame by frame
