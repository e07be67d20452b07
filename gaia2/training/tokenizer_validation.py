"""How good a tokenizer is on clips that it is not trained on.

Axes: b batch, c channels, tv video frames, hv wv pixels, t latent time, h w latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from gaia2.data.camera_clips import CameraClips, to_video
from gaia2.metrics.reconstruction import psnr, ssim
from gaia2.metrics.sharpness import high_frequency_ratio, seam_ratio
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.video.pixels import to_uint8

EXAMPLES = 2  # videos in a picture


@dataclass(frozen=True)
class Reconstruction:
    """Videos, what the tokenizer made of them, and the latents between, as pictures take them.

    Attributes:
        frames: `(b, tv, hv, wv, 3)` uint8.
        reconstruction: Likewise.
        latents: Mean latents `(b, t, h, w, c)`.
    """

    frames: np.ndarray
    reconstruction: np.ndarray
    latents: np.ndarray


@torch.no_grad()
def validate_tokenizer(
    tokenizer: VideoTokenizer, clips: CameraClips, indices: Sequence[tuple[int, int, int]], *, batch_size: int = 8
) -> tuple[dict[str, float], dict[str, Reconstruction]]:
    """Encode and decode held-out clips, and the held-out end of the video files.

    Args:
        tokenizer: The tokenizer; latents are the means of what it predicts.
        clips: The clips.
        indices: Which of them.
        batch_size: Clips at once.

    Returns:
        Means over the clips of `psnr` in dB, `ssim` and `sharpness` (see `high_frequency_ratio`), and with video files
        the same of their ends, decoded with `rolling_decode`, and `seams` (see `seam_ratio`); and a few
        examples. The names of all that is about video files end in `_videos`.
    """
    scalars: dict[str, list[torch.Tensor]] = {}
    examples: dict[str, Reconstruction] = {}

    def compare(frames: torch.Tensor, suffix: str) -> torch.Tensor:
        frames = frames.to(tokenizer.device)
        latents = tokenizer.encode(tokenizer.pad(frames)).latent_dist.mean
        decoded = tokenizer.rolling_decode(latents).float()[:, :, : frames.shape[2]]
        for name, metric in (("psnr", psnr), ("ssim", ssim), ("sharpness", high_frequency_ratio)):
            scalars.setdefault(name + suffix, []).append(metric(decoded, frames))
        examples.setdefault(suffix, _example(tokenizer, frames, decoded, latents))
        return decoded

    for first in range(0, len(indices), batch_size):
        compare(torch.stack([clips[index] for index in indices[first : first + batch_size]]), "")
    for pixels in clips.videos.held_out() if clips.videos is not None else []:
        decoded = compare(to_video(pixels)[None], "_videos")
        if decoded.shape[2] > tokenizer.decoded_frames_per_latent:
            scalars.setdefault("seams_videos", []).append(seam_ratio(decoded, tokenizer.decoded_frames_per_latent))
    means = {name: float(torch.cat(values).mean()) for name, values in scalars.items()}
    return means, {"clips" + suffix: example for suffix, example in examples.items()}


def _example(
    tokenizer: VideoTokenizer, frames: torch.Tensor, decoded: torch.Tensor, latents: torch.Tensor
) -> Reconstruction:
    """The first videos of a batch, up to one window of the decoder."""
    t = min(frames.shape[2] // tokenizer.frames_per_latent, tokenizer.config.decode_window)
    tv = t * tokenizer.frames_per_latent
    return Reconstruction(
        frames=_to_pixels(frames[:EXAMPLES, :, :tv]),
        reconstruction=_to_pixels(decoded[:EXAMPLES, :, :tv]),
        latents=rearrange(latents[:EXAMPLES, :, :t], "b c t h w -> b t h w c").float().cpu().numpy(),
    )


def _to_pixels(video: torch.Tensor) -> np.ndarray:
    """Video `(b, c, tv, hv, wv)` in [-1, 1] as `(b, tv, hv, wv, c)` uint8."""
    return to_uint8(rearrange(video, "b c tv hv wv -> b tv hv wv c")).cpu().numpy()
