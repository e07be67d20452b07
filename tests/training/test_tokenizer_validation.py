from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.camera_clips import CameraClips
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.data.video_clips import VideoClips
from gaia2.metrics.reconstruction import psnr, ssim
from gaia2.metrics.sharpness import high_frequency_ratio, seam_ratio
from gaia2.training.tokenizer_validation import validate_tokenizer
from gaia2.video.files import write_video
from tests.tiny import clip, tokenizer

INDICES = [(0, 0, -1), (1, 0, -1), (2, 0, -1)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> CameraClips:
    path = tmp_path_factory.mktemp("clips")
    write_chunk(path, 0, [clip(i) for i in range(4)])
    drive = np.random.default_rng(0).integers(0, 256, (40, 32, 64, 3), dtype=np.uint8)
    write_video(path / "drive.mp4", drive, frame_rate=10.0)
    videos = VideoClips([path / "drive.mp4"], image_size=(32, 64), num_frames=16, held_out_frames=21)
    return CameraClips(ClipFolder(path), videos=videos, video_share=0.5)


def test_means_over_the_held_out_clips(clips: CameraClips) -> None:
    model = tokenizer()
    scalars, _ = validate_tokenizer(model, clips, INDICES, batch_size=2)
    frames = torch.stack([clips[index] for index in INDICES])
    with torch.no_grad():
        decoded = model(frames).sample
    for name, metric in (("psnr", psnr), ("ssim", ssim), ("sharpness", high_frequency_ratio)):
        assert scalars[name] == pytest.approx(float(metric(decoded, frames).mean()), rel=1e-4)


def test_the_end_of_a_video_is_decoded_whole_whatever_its_length(clips: CameraClips) -> None:
    model = tokenizer()
    scalars, _ = validate_tokenizer(model, clips, INDICES)
    frames = clips.videos.held_out()[0].transpose(0, 1)[None].float() / 127.5 - 1
    assert frames.shape == (1, 3, 21, 32, 64)
    padded = torch.cat([frames, frames[:, :, -1:].expand(-1, -1, 3, -1, -1)], dim=2)
    with torch.no_grad():
        decoded = model.rolling_decode(model.encode(padded).latent_dist.mean)[:, :, :21]
    assert scalars["psnr_videos"] == pytest.approx(float(psnr(decoded, frames)), rel=1e-4)
    assert scalars["seams_videos"] == pytest.approx(float(seam_ratio(decoded, 8)), rel=1e-4)
    assert scalars.keys() == {
        "psnr", "ssim", "sharpness", "psnr_videos", "ssim_videos", "sharpness_videos", "seams_videos",
    }  # fmt: skip


def test_examples_for_pictures(clips: CameraClips) -> None:
    model = tokenizer()
    _, examples = validate_tokenizer(model, clips, INDICES)
    assert examples.keys() == {"clips", "clips_videos"}
    shown = examples["clips"]
    assert shown.frames.shape == shown.reconstruction.shape == (2, 16, 32, 64, 3)
    for i in range(2):
        np.testing.assert_array_equal(shown.frames[i], np.asarray(clip(i).frames)[:, 0].transpose(0, 2, 3, 1))
    with torch.no_grad():
        latents = model.encode(torch.stack([clips[index] for index in INDICES[:2]])).latent_dist.mean
    np.testing.assert_allclose(shown.latents, latents.permute(0, 2, 3, 4, 1), atol=1e-4)
    assert examples["clips_videos"].frames.shape == (1, 16, 32, 64, 3)


def test_without_video_files(clips: CameraClips) -> None:
    scalars, examples = validate_tokenizer(tokenizer(), CameraClips(clips.folder), INDICES)
    assert scalars.keys() == {"psnr", "ssim", "sharpness"}
    assert examples.keys() == {"clips"}
