"""Single-camera training clips for the tokenizer: random windows of stored clips, mixed with video files (paper §4).

Axes: tv video frames, c channels, hv wv pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch.utils.data import Dataset

from gaia2.data.clip_folder import ClipFolder
from gaia2.data.video_clips import VideoClips
from gaia2.video.pixels import from_uint8


class CameraClips(Dataset):
    """Video of one camera by `(clip, camera, seed)`, as `SeededBatches` gives them.

    A seed decides which frames and which part of the picture are taken, without resizing, and whether the example is
    a clip of a video file instead. Seed -1 takes the first frames and the middle of the picture, and never a video
    file: for validation.

    Args:
        folder: Stored clips.
        image_size: Pixels `(hv, wv)` to cut out; None takes whole pictures.
        num_frames: Frames tv to cut out; None takes all.
        videos: Video files, with clips of the same size.
        video_share: Share of the training examples that come from them.
        mirrored_share: Share of the stored clips' training examples that are mirrored, as half of the video files'
            are.

    Raises:
        ValueError: If the stored clips are smaller than what is to be cut out of them.
    """

    def __init__(
        self,
        folder: ClipFolder,
        *,
        image_size: tuple[int, int] | None = None,
        num_frames: int | None = None,
        videos: VideoClips | None = None,
        video_share: float = 0.0,
        mirrored_share: float = 0.0,
    ) -> None:
        self.folder = folder
        self.image_size = image_size or folder.image_size
        self.num_frames = num_frames or folder.num_frames
        self.videos = videos
        self.video_share = video_share
        self.mirrored_share = mirrored_share
        wanted, stored = (self.num_frames, *self.image_size), (folder.num_frames, *folder.image_size)
        if any(size > available for size, available in zip(wanted, stored, strict=True)):
            raise ValueError(
                f"{folder.path}: expected clips of at least (tv, hv, wv) = {wanted}, got {stored}; render larger "
                "clips, or ask for fewer frames and smaller crops"
            )

    def __getitem__(self, index: tuple[int, int, int]) -> torch.Tensor:
        """Frames `(c, tv, hv, wv)` in [-1, 1]."""
        return self._example(index)[0]

    def with_importance(self, index: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames as above, and how important their pixels are, `(tv, hv, wv)` from 0 to 1; 0 in video files.

        Raises:
            ValueError: If the stored clips do not say.
        """
        frames, cut = self._example(index)
        if cut is None:
            return frames, torch.zeros(frames.shape[1:])
        importance = self.folder.importance(*index[:2])[cut.window].float() / 255
        return frames, importance.flip(-1) if cut.mirrored else importance

    def _example(self, index: tuple[int, int, int]) -> tuple[torch.Tensor, Cut | None]:
        """Frames, and how they were cut out of the clip; None of a video file."""
        clip, camera, seed = index
        generator = None if seed < 0 else torch.Generator().manual_seed(seed)
        if self.videos is not None and generator is not None and _share(generator) < self.video_share:
            return to_video(self.videos.sample(generator)), None
        frames = self.folder.frames(clip, camera)
        time, rows, columns = (
            slice(start := _start(available, wanted, generator, middle=axis > 0), start + wanted)
            for axis, (available, wanted) in enumerate(
                zip((len(frames), *frames.shape[-2:]), (self.num_frames, *self.image_size), strict=True)
            )
        )
        mirrored = generator is not None and _share(generator) < self.mirrored_share
        video = to_video(frames[time, :, rows, columns])
        return video.flip(-1) if mirrored else video, Cut((time, rows, columns), mirrored)


@dataclass(frozen=True)
class Cut:
    """How an example was cut out of a clip."""

    window: tuple[slice, slice, slice]
    """Frames, rows and columns."""
    mirrored: bool
    """Whether left and right were then exchanged."""


def to_video(frames: torch.Tensor) -> torch.Tensor:
    """Frames uint8 `(tv, c, hv, wv)` as `(c, tv, hv, wv)` in [-1, 1].

    Example:
        >>> to_video(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 2, 1, 1)).flatten()
        tensor([-1.,  1.])
    """
    return from_uint8(rearrange(frames, "tv c hv wv -> c tv hv wv"))


def _share(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))


def _start(available: int, wanted: int, generator: torch.Generator | None, *, middle: bool) -> int:
    if generator is not None:
        return int(torch.randint(available - wanted + 1, (), generator=generator))
    return (available - wanted) // 2 if middle else 0
