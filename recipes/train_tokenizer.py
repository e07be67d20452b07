"""Train the video tokenizer (paper §2.1.3, §4).

    python recipes/train_tokenizer.py --data data/clips --out runs/tokenizer

Stop it at any time and start it again with the same words: it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
import tyro
from diffusers.training_utils import EMAModel
from einops import rearrange
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from gaia2.data.clip_folder import ClipFolder
from gaia2.losses.reconstruction import KLLoss, PixelLoss
from gaia2.metrics.reconstruction import psnr
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.export import export_model
from gaia2.training.learning_rate import warmup_cooldown
from gaia2.training.logging import ScalarLog
from gaia2.training.sampling import SeededBatches, step_generator
from gaia2.training.state import TrainingState


@dataclass(frozen=True)
class TokenizerRecipe:
    """How to train the tokenizer; the defaults suit the mini preset on a CPU."""

    data: Path
    """Folder of clips."""
    out: Path
    """Folder for checkpoints, logs and the trained tokenizer."""
    preset: Literal["mini", "paper"] = "mini"
    """Size of the model."""
    start_from: Path | None = None
    """Folder of a trained tokenizer to begin with, in place of random weights."""
    freeze_encoder: bool = False
    """Train the decoder only: latents stay as they are, so a world model can be trained at the same time."""
    steps: int = 2000
    """Optimiser steps (paper: 300,000)."""
    batch_size: int = 8
    """Single-camera clips a step (paper: 128)."""
    learning_rate: float = 4e-4
    """Base rate (paper: 1e-4)."""
    final_learning_rate: float = 1e-5
    """Rate at the end of the cool-down."""
    warmup_steps: int = 100
    """Steps of linear rise (paper: 2,500)."""
    cooldown_steps: int = 800
    """Steps of linear fall at the end (paper: 5,000)."""
    weight_decay: float = 0.1
    """AdamW weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    l1_weight: float = 0.2
    """Weight of the absolute difference."""
    l2_weight: float = 2.0
    """Weight of the squared difference."""
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler divergence."""
    validation_clips: int = 32
    """Clips at the beginning of the folder that are never trained on."""
    validate_every: int = 250
    """Steps between validations."""
    save_every: int = 250
    """Steps between checkpoints."""
    workers: int = 0
    """Processes that load data."""
    compile: bool = False
    """Compile the tokenizer with torch.compile."""
    bf16: bool = True
    """Compute in bfloat16 by autocast."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""


class CameraClips(Dataset):
    """Video of one camera of a clip, `(c, tv, hv, wv)` in [-1, 1], by (clip, camera)."""

    def __init__(self, folder: ClipFolder) -> None:
        self.folder = folder

    def __getitem__(self, index: tuple[int, int]) -> torch.Tensor:
        frames = self.folder.frames(*index)
        return rearrange(frames, "tv c hv wv -> c tv hv wv").float() / 127.5 - 1


@torch.no_grad()
def validate(tokenizer: VideoTokenizer, clips: CameraClips, indices: list[tuple[int, int]], device: str) -> float:
    """Mean PSNR in dB over the given (clip, camera) pairs."""
    values = []
    for batch in DataLoader(clips, batch_sampler=[indices[i : i + 8] for i in range(0, len(indices), 8)]):
        frames = batch.to(device)
        values.append(psnr(tokenizer(frames).sample, frames))
    return float(torch.cat(values).mean())


def train(recipe: TokenizerRecipe) -> Path:
    """Run the recipe; returns the folder of the trained tokenizer."""
    folder = ClipFolder(recipe.data)
    if recipe.validation_clips >= len(folder):
        raise ValueError(
            f"validation_clips: expected fewer than the {len(folder)} clips of {recipe.data}, "
            f"got {recipe.validation_clips}"
        )
    clips = CameraClips(folder)
    held_out = [(i, i % folder.num_cameras) for i in range(recipe.validation_clips)]

    torch.manual_seed(recipe.seed)
    if recipe.start_from is None:
        tokenizer = VideoTokenizer(**getattr(presets, recipe.preset)().tokenizer).to(recipe.device)
    else:
        tokenizer = VideoTokenizer.from_pretrained(recipe.start_from).to(recipe.device).train()
    tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)
    pixel_loss = PixelLoss(l1_weight=recipe.l1_weight, l2_weight=recipe.l2_weight)
    kl_loss = KLLoss(weight=recipe.kl_weight)
    optimizer = torch.optim.AdamW(
        tokenizer.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        partial(
            warmup_cooldown,
            total=recipe.steps,
            warmup=recipe.warmup_steps,
            cooldown=recipe.cooldown_steps,
            final=recipe.final_learning_rate / recipe.learning_rate,
        ),
    )
    ema = EMAModel(tokenizer.parameters(), decay=recipe.ema_decay)
    state = TrainingState(tokenizer, optimizer, schedule, ema)
    start = state.resume(recipe.out / "training.pt", recipe.device)
    recipe.out.mkdir(parents=True, exist_ok=True)
    (recipe.out / "recipe.json").write_text(json.dumps(asdict(recipe), default=str, indent=2))

    autocast = torch.autocast(recipe.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16)
    encode, decode = tokenizer.encoder, tokenizer.decoder
    if recipe.compile:
        encode.compile(), decode.compile()
    batches = DataLoader(
        clips,
        batch_sampler=SeededBatches(
            clips=range(recipe.validation_clips, len(folder)),
            num_cameras=folder.num_cameras,
            batch_size=recipe.batch_size,
            steps=(start, recipe.steps),
            seed=recipe.seed,
        ),
        num_workers=recipe.workers,
    )
    log = ScalarLog(recipe.out)
    progress = tqdm(batches, desc="tokenizer", initial=start, total=recipe.steps, unit="step")
    for step, frames in enumerate(progress, start=start + 1):
        frames = frames.to(recipe.device)
        with autocast:
            latent_dist = tokenizer.encode(frames).latent_dist
            noise = torch.randn(latent_dist.mean.shape, generator=step_generator(recipe.seed + 1, step))
            reconstruction = tokenizer.decode(latent_dist.mean + latent_dist.std * noise.to(recipe.device)).sample
        terms = pixel_loss(reconstruction, frames) | kl_loss(latent_dist)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(tokenizer.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(tokenizer.parameters())

        if step % 10 == 0:
            log.write(step, {name: term.item() for name, term in terms.items()} | {"lr": schedule.get_last_lr()[0]})
            progress.set_postfix(loss=f"{loss.item():.4f}")
        if step % recipe.validate_every == 0 or step == recipe.steps:
            with state.averaged(), autocast:
                quality = validate(tokenizer, clips, held_out, recipe.device)
            log.write(step, {"validation_psnr": quality})
            progress.write(f"step {step}: held-out PSNR {quality:.2f} dB")
        if step % recipe.save_every == 0 or step == recipe.steps:
            state.save(recipe.out / "training.pt", step)
    export_model(tokenizer, recipe.out / "tokenizer", ema=ema)
    return recipe.out / "tokenizer"


if __name__ == "__main__":
    train(tyro.cli(TokenizerRecipe, description=__doc__))
