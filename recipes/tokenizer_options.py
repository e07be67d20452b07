"""What the two trainings of the tokenizer share: their options, their data, their schedule, and how they report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader, Dataset

from gaia2.data.camera_clips import CameraClips
from gaia2.data.clip_folder import ClipFolder
from gaia2.data.video_clips import VideoClips
from gaia2.losses.reconstruction import PixelLoss, SeamLoss
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.clip_source import open_clip_source
from gaia2.training.loop import TrainingLoop
from gaia2.training.plan import PlannedOptions
from gaia2.training.ranks import Ranks
from gaia2.training.sampling import SeededBatches, StepLoader
from gaia2.training.tokenizer_losses import PerceptualNetwork, make_perceptual_loss
from gaia2.training.tokenizer_validation import validate_tokenizer
from gaia2.viz.latents import reconstruction_picture


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions(PlannedOptions):
    """Options of both trainings; the defaults are those of the mini preset."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("data", "out")

    data: Path
    """Folder of clips, or of clip shards."""
    videos: tuple[Path, ...] = ()
    """Video files of one camera to train on as well, by random crops."""
    video_share: float = 0.15
    """Share of the training examples that come from the video files."""
    mirrored_share: float = 0.0
    """Share of the clips' examples that are mirrored, as half of the video files' are (paper: 0.0)."""
    held_out_frames: int = 60
    """Frames at the end of every video file that are never trained on, but validated on."""
    image_size: tuple[int, int] | None = None
    """Pixels (height, width) of a random crop; whole pictures if not given (paper: 448 960)."""
    num_frames: int | None = None
    """Frames of an example, at the clip's own rate; the whole clip if not given (paper: 24)."""
    batch_size: int = 8
    """Single-camera clips a step (paper: 128)."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    l1_weight: float = 0.2
    """Weight of the absolute difference (paper: 0.2)."""
    l2_weight: float = 2.0
    """Weight of the squared difference (paper: 2.0)."""
    seam_weight: float = 0.0
    """Weight of errors that jump between frames which the decoder does not make at once (paper: 0.0)."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual term (paper: 0.1)."""
    perceptual_network: PerceptualNetwork = "efficientnet-lite0"
    """`lpips` (paper: lpips) downloads a VGG; the weights of `efficientnet-lite0` come in a package."""
    perceptual_frames: int | None = None
    """Frames of each clip that the perceptual term compares, chosen at random; all if not given."""
    pixel_importance: float = 0.0
    """What the most important pixels count more in L1 and L2, see `render_procedural.py --importance` (paper: 0.0)."""
    validation_clips: int = 32
    """Clips at the beginning of the folder that are never trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pixel_importance < 0:
            raise ValueError(f"pixel_importance: expected 0 or more, got {self.pixel_importance}")
        if not 0 <= self.mirrored_share <= 1:
            raise ValueError(f"mirrored_share: expected 0 to 1, got {self.mirrored_share}")
        if self.context_ranks != 1:
            raise ValueError(
                f"context_ranks: expected 1 for a tokenizer, got {self.context_ranks}; only a world model shares times"
            )

    def planned_sizes(self) -> dict[str, Any]:
        """Size of the videos of a plan: what is not given is the preset's."""
        preset = getattr(presets, self.preset)()
        return dict(image_size=self.image_size or preset.image_size, num_frames=self.num_frames or preset.num_frames)

    def uncounted(self) -> str:
        """What a plan leaves out, in words."""
        networks: list[str] = [self.perceptual_network] if self.perceptual_weight else []
        networks += ["DINOv2"] if getattr(self, "dino_weight", 0.0) else []
        return f"the networks of the losses, {' and '.join(networks)}: leave room for them" if networks else ""


def open_clips(options: TokenizerOptions) -> tuple[CameraClips, list[tuple[int, int, int]]]:
    """The clips to train on, and the indices of those that are held out."""
    folder: Any = open_clip_source(options.data)
    if options.validation_clips >= len(folder):
        raise ValueError(
            f"validation_clips: expected fewer than the {len(folder)} clips of {options.data}, "
            f"got {options.validation_clips}"
        )
    image_size, num_frames = options.image_size or folder.image_size, options.num_frames or folder.num_frames
    videos = None
    if options.videos:
        videos = VideoClips(
            options.videos, image_size=image_size, num_frames=num_frames, held_out_frames=options.held_out_frames
        )
    clips = CameraClips(
        folder,
        image_size=image_size,
        num_frames=num_frames,
        videos=videos,
        video_share=options.video_share,
        mirrored_share=options.mirrored_share,
    )
    if options.pixel_importance:
        if not isinstance(folder, ClipFolder):
            raise ValueError(
                f"{folder.path}: expected a folder of clips with pixel_importance, got clip shards, which do "
                "not say what is important; see render_procedural.py --importance"
            )
        for first in folder.starts[:-1]:
            folder.importance(int(first), 0)  # refuses chunks that do not say
    return clips, [(i, i % folder.num_cameras, -1) for i in range(options.validation_clips)]


def frame_losses(options: TokenizerOptions, tokenizer: VideoTokenizer) -> dict[str, Any]:
    """The terms of `TokenizerLosses` that compare frames."""
    period = tokenizer.config.decoder_strides[-1][0]  # frames that the decoder makes at once
    return dict(
        pixel=PixelLoss(l1_weight=options.l1_weight, l2_weight=options.l2_weight),
        seam=SeamLoss(weight=options.seam_weight, period=period) if options.seam_weight else None,
        perceptual=make_perceptual_loss(
            options.perceptual_weight, network=options.perceptual_network, num_frames=options.perceptual_frames
        ),
    )


def step_batches(options: TokenizerOptions, clips: CameraClips, ranks: Ranks) -> StepLoader[dict[str, torch.Tensor]]:
    """For each step this rank's videos `frames (b, c, tv, hv, wv)`, and the `name (b, 3)` of each: clip, camera, seed.

    With `pixel_importance` there is `weight (b, tv, hv, wv)`, how much pixels count, of mean 1 in each video.
    """
    samples = ranks.samples(options.batch_size)

    def after(done: int) -> DataLoader:
        return DataLoader(
            NamedClips(clips, options.pixel_importance),
            batch_sampler=SeededBatches(
                clips=range(options.validation_clips, len(clips.folder)),
                num_cameras=clips.folder.num_cameras,
                samples=samples,
                steps=(done, options.steps),
                seed=options.seed,
            ),
            num_workers=options.workers,
            generator=torch.Generator(),  # its own, so that the global random state is the training's alone
        )

    return StepLoader(after)


class NamedClips(Dataset):
    """Clips with their index beside them, and with the weights of their pixels where some count more."""

    def __init__(self, clips: CameraClips, pixel_importance: float = 0.0) -> None:
        self.clips, self.pixel_importance = clips, pixel_importance

    def __getitem__(self, index: tuple[int, int, int]) -> dict[str, torch.Tensor]:
        if not self.pixel_importance:
            return {"frames": self.clips[index], "name": torch.tensor(index)}
        frames, importance = self.clips.with_importance(index)
        weight = 1 + self.pixel_importance * importance
        return {"frames": frames, "name": torch.tensor(index), "weight": weight / weight.mean()}


def report(
    options: TokenizerOptions,
    tokenizer: VideoTokenizer,
    clips: CameraClips,
    held_out: list[tuple[int, int, int]],
    loop: TrainingLoop,
    step: int,
) -> None:
    """Validate, write scalars and pictures, say a line; all ranks take part, as all have a part of the weights."""
    scalars, examples = validate_tokenizer(tokenizer, clips, held_out)
    loop.write(step, {f"validation_{name}": value for name, value in scalars.items()})
    for name, example in examples.items():
        if loop.log is not None:
            path = options.out / "pictures" / f"{name}-{step:06d}.png"
            picture = reconstruction_picture(path, example.frames, example.reconstruction, example.latents)
            loop.log.show(step, name, picture)
    loop.say(f"step {step}, held-out: " + ", ".join(f"{name} {value:.3f}" for name, value in scalars.items()))
