"""Short clips of video files of one camera, by random crops: unlabelled footage for the tokenizer.

Axes: tv video frames, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from gaia2.video.files import read_video


class VideoClips:
    """Cuts clips out of video files at their own frame rate (paper §4).

    The files are held in memory as they are decoded, so that this suits minutes of video, not hours.

    Args:
        paths: Video files that PyAV reads.
        image_size: Pixels `(hv, wv)` of a clip.
        num_frames: Video frames tv of a clip.
        held_out_frames: Frames at the end of every file that `sample` never gives; `held_out` gives them.
        min_crop: Smallest side of a random crop, as a fraction of the largest crop of that shape.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If a file cannot be read, or holds too few or too small frames.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from gaia2.video import write_video
        >>> path = tempfile.mkdtemp() + "/drive.mp4"
        >>> write_video(path, np.zeros((20, 48, 96, 3), dtype=np.uint8), frame_rate=10.0)
        >>> clips = VideoClips([path], image_size=(16, 32), num_frames=8, held_out_frames=8)
        >>> clips.sample(torch.Generator().manual_seed(0)).shape
        torch.Size([8, 3, 16, 32])
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        *,
        image_size: tuple[int, int],
        num_frames: int,
        held_out_frames: int = 0,
        min_crop: float = 0.5,
    ) -> None:
        if not 0 < min_crop <= 1:
            raise ValueError(f"min_crop: expected a fraction in (0, 1], got {min_crop}")
        self.image_size = image_size
        self.num_frames = num_frames
        self.held_out_frames = held_out_frames
        self.min_crop = min_crop
        self.videos = [torch.from_numpy(read_video(path)[0]) for path in paths]
        for path, video in zip(paths, self.videos, strict=True):
            if len(video) - held_out_frames < num_frames:
                raise ValueError(
                    f"{path}: expected at least {num_frames} frames and {held_out_frames} held out, got {len(video)}; "
                    "use a longer video or hold out fewer frames"
                )

    def sample(self, generator: torch.Generator) -> torch.Tensor:
        """A random stretch of a random file, cropped at random, uint8 `(tv, 3, hv, wv)`; half of them mirrored."""
        video = self.videos[_randint(len(self.videos), generator)]
        start = _randint(len(video) - self.held_out_frames - self.num_frames + 1, generator)
        scale = self.min_crop + (1 - self.min_crop) * float(torch.rand((), generator=generator))
        height, width = (round(side * scale) for side in self._largest_crop(video))
        top = _randint(video.shape[1] - height + 1, generator)
        left = _randint(video.shape[2] - width + 1, generator)
        crop = video[start : start + self.num_frames, top : top + height, left : left + width]
        frames = self._resize(crop)
        return frames.flip(-1) if _randint(2, generator) else frames

    def held_out(self) -> list[torch.Tensor]:
        """The last `held_out_frames` of every file, the largest crop from the middle, uint8 `(frames, 3, hv, wv)`."""
        clips = []
        for video in self.videos if self.held_out_frames else []:
            height, width = self._largest_crop(video)
            top, left = (video.shape[1] - height) // 2, (video.shape[2] - width) // 2
            clips.append(self._resize(video[-self.held_out_frames :, top : top + height, left : left + width]))
        return clips

    def _largest_crop(self, video: torch.Tensor) -> tuple[int, int]:
        scale = min(video.shape[1] / self.image_size[0], video.shape[2] / self.image_size[1])
        return round(self.image_size[0] * scale), round(self.image_size[1] * scale)

    def _resize(self, frames: torch.Tensor) -> torch.Tensor:
        images = frames.permute(0, 3, 1, 2).float()
        images = torch.nn.functional.interpolate(images, self.image_size, mode="bilinear", antialias=True)
        return images.round().clamp(0, 255).to(torch.uint8)


def _randint(high: int, generator: torch.Generator) -> int:
    return int(torch.randint(high, (), generator=generator))
