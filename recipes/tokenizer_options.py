"""What the two trainings of the tokenizer share: their options, their data, and how they report."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import tyro
from torch.utils.data import DataLoader

from gaia2._files import replacing
from gaia2.data.camera_clips import CameraClips
from gaia2.data.clip_folder import ClipFolder
from gaia2.data.video_clips import VideoClips
from gaia2.losses.reconstruction import PixelLoss, SeamLoss
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.logging import ScalarLog
from gaia2.training.sampling import SeededBatches
from gaia2.training.tokenizer_losses import PerceptualNetwork, make_perceptual_loss
from gaia2.training.tokenizer_validation import validate_tokenizer
from gaia2.viz.latents import reconstruction_picture

PresetName = Literal["mini", "paper"]


@dataclass(frozen=True, kw_only=True)
class TokenizerOptions:
    """Options of both trainings; the defaults are those of the mini preset."""

    PAPER: ClassVar[dict[str, Any]]
    REQUIRED: ClassVar[tuple[str, ...]] = ("data", "out")

    data: Path
    """Folder of clips."""
    out: Path
    """Folder for checkpoints, logs, pictures and the trained tokenizer."""
    preset: PresetName = "mini"
    """Size of the models; `paper` also makes the paper's numbers the defaults of all other options."""
    videos: tuple[Path, ...] = ()
    """Video files of one camera to train on as well, by random crops."""
    video_share: float = 0.15
    """Share of the training examples that come from the video files."""
    held_out_frames: int = 60
    """Frames at the end of every video file that are never trained on, but validated on."""
    image_size: tuple[int, int] | None = None
    """Pixels (height, width) of a random crop; whole pictures if not given (paper: 448 960)."""
    num_frames: int | None = None
    """Frames of an example, at the clip's own rate; the whole clip if not given (paper: 24)."""
    batch_size: int = 8
    """Single-camera clips a step (paper: 128)."""
    weight_decay: float = 0.1
    """Weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    l1_weight: float = 0.2
    """Weight of the absolute difference."""
    l2_weight: float = 2.0
    """Weight of the squared difference."""
    seam_weight: float = 0.0
    """Weight of errors that jump between frames which the decoder does not make at once (paper: none)."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual term (paper: 0.1)."""
    perceptual_network: PerceptualNetwork = "efficientnet-lite0"
    """`lpips` (paper) downloads a VGG; the weights of `efficientnet-lite0` come in a package."""
    perceptual_frames: int | None = None
    """Frames of each clip that the perceptual term compares, chosen at random; all if not given."""
    validation_clips: int = 32
    """Clips at the beginning of the folder that are never trained on."""
    validate_every: int = 250
    """Steps between validations."""
    save_every: int = 250
    """Steps between checkpoints."""
    workers: int = 0
    """Processes that load data."""
    gradient_checkpointing: bool = False
    """Compute activations twice rather than keep them."""
    compile: bool = False
    """Compile the tokenizer with torch.compile."""
    bf16: bool = True
    """Compute in bfloat16 by autocast."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""

    @classmethod
    def of(cls, preset: PresetName, **given: Any) -> Self:
        """The options of a preset, with some given in place of its own."""
        return cls(**({"mini": {}, "paper": cls.PAPER}[preset] | {"preset": preset} | given))

    @classmethod
    def from_command_line(cls, description: str) -> Self:
        """Read the options; those that are not given are the preset's."""

        @dataclass(frozen=True)
        class Chosen:
            preset: PresetName = "mini"

        chosen, _ = tyro.cli(Chosen, return_unknown_args=True, add_help=False)
        required = dict.fromkeys(cls.REQUIRED, tyro.MISSING)
        return tyro.cli(cls, default=cls.of(chosen.preset, **required), description=description)


def open_clips(options: TokenizerOptions) -> tuple[CameraClips, list[tuple[int, int, int]]]:
    """The clips to train on, and the indices of those that are held out."""
    folder = ClipFolder(options.data)
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
        folder, image_size=image_size, num_frames=num_frames, videos=videos, video_share=options.video_share
    )
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


def batches(options: TokenizerOptions, clips: CameraClips, *, start: int, steps: int) -> DataLoader:
    """Training batches `(b, c, tv, hv, wv)` of the steps after `start`."""
    return DataLoader(
        clips,
        batch_sampler=SeededBatches(
            clips=range(options.validation_clips, len(clips.folder)),
            num_cameras=clips.folder.num_cameras,
            batch_size=options.batch_size,
            steps=(start, steps),
            seed=options.seed,
        ),
        num_workers=options.workers,
        generator=torch.Generator(),  # its own, so that the global random state is the training's alone
    )


def write_options(options: TokenizerOptions) -> None:
    """Leave a note of the options in the output folder."""
    with replacing(options.out / "recipe.json") as unfinished:
        unfinished.write_text(json.dumps(asdict(options), default=str, indent=2))


def report(
    options: TokenizerOptions,
    tokenizer: VideoTokenizer,
    clips: CameraClips,
    held_out: list[tuple[int, int, int]],
    log: ScalarLog,
    step: int,
) -> str:
    """Validate, write scalars and pictures; gives a line of text."""
    scalars, examples = validate_tokenizer(tokenizer, clips, held_out)
    log.write(step, {f"validation_{name}": value for name, value in scalars.items()})
    for name, example in examples.items():
        path = options.out / "pictures" / f"{name}-{step:06d}.png"
        picture = reconstruction_picture(path, example.frames, example.reconstruction, example.latents)
        log.show(step, name, picture)
    return f"step {step}, held-out: " + ", ".join(f"{name} {value:.3f}" for name, value in scalars.items())
