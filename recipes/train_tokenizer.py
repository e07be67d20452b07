"""Train the video tokenizer (paper §2.1.3, §4).

    python recipes/train_tokenizer.py --data data/clips --out runs/tokenizer
    python recipes/train_tokenizer.py --preset paper --data data/clips --out runs/tokenizer

Stop it at any time and start it again with the same words: it goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers.training_utils import EMAModel
from tokenizer_options import TokenizerOptions, batches, frame_losses, open_clips, report, write_options
from torch import nn
from tqdm import tqdm

from gaia2.losses.reconstruction import KLLoss
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.export import export_model
from gaia2.training.learning_rate import warmup_cooldown
from gaia2.training.logging import ScalarLog
from gaia2.training.optimizers import OptimizerName, make_optimizer
from gaia2.training.sampling import step_generator
from gaia2.training.state import TrainingState
from gaia2.training.tokenizer_losses import TokenizerLosses, make_dino_loss


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(TokenizerOptions):
    """How to train the tokenizer; the defaults suit the mini preset on a CPU."""

    PAPER: ClassVar[dict[str, Any]] = dict(
        image_size=(448, 960),
        num_frames=24,
        steps=300_000,
        batch_size=128,
        learning_rate=1e-4,
        warmup_steps=2_500,
        cooldown_steps=5_000,
        ema_decay=0.9999,
        perceptual_weight=0.1,
        perceptual_network="lpips",
        dino_weight=0.1,
        validate_every=5_000,
        save_every=1_000,
        workers=8,
        gradient_checkpointing=True,
    )

    start_from: Path | None = None
    """Folder of a trained tokenizer to begin with, in place of random weights."""
    freeze_encoder: bool = False
    """Train the decoder only, so that latents, and a world model that was trained on them, stay as they are."""
    steps: int = 2000
    """Optimiser steps (paper: 300,000)."""
    optimizer: OptimizerName = "adamw"
    """AdamW as in the paper, or Muon for the weight matrices, which learns more in few steps."""
    learning_rate: float = 4e-4
    """Base rate of AdamW (paper: 1e-4)."""
    matrix_learning_rate: float = 1e-2
    """Base rate of Muon."""
    final_learning_rate: float = 1e-5
    """Rate of AdamW at the end of the cool-down; Muon's falls by the same factor."""
    warmup_steps: int = 100
    """Steps of linear rise (paper: 2,500)."""
    cooldown_steps: int = 800
    """Steps of linear fall at the end (paper: 5,000)."""
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler divergence."""
    dino_weight: float = 0.0
    """Weight of the distillation of DINOv2 (paper: 0.1)."""
    dino_network: str = "facebook/dinov2-large"
    """Hub id or folder of the DINOv2."""


def train(recipe: TokenizerRecipe) -> Path:
    """Run the recipe; returns the folder of the trained tokenizer."""
    torch.manual_seed(recipe.seed)
    if recipe.start_from is None:
        tokenizer = VideoTokenizer(**getattr(presets, recipe.preset)().tokenizer)
    else:
        tokenizer = VideoTokenizer.from_pretrained(recipe.start_from).train()
    tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)
    losses = TokenizerLosses(
        **frame_losses(recipe, tokenizer),
        kl=KLLoss(weight=recipe.kl_weight),
        dino=make_dino_loss(
            recipe.dino_weight, network=recipe.dino_network, latent_channels=tokenizer.config.latent_channels
        ),
    )
    clips, held_out = open_clips(recipe)

    learner = nn.ModuleDict({"tokenizer": tokenizer, "losses": losses}).to(recipe.device)
    parameters = [parameter for parameter in learner.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(
        learner,
        recipe.optimizer,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
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
    heads = {} if losses.dino is None else {"dino_head": losses.dino.head}
    state = TrainingState(tokenizer, optimizer, schedule, ema, others=heads)
    start = state.resume(recipe.out / "training.pt", recipe.device)
    write_options(recipe)
    log = ScalarLog(recipe.out, start=start)

    autocast = torch.autocast(recipe.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16)
    if recipe.gradient_checkpointing:
        tokenizer.enable_gradient_checkpointing()
    if recipe.compile:
        tokenizer.encoder.compile(dynamic=False), tokenizer.decoder.compile(dynamic=False)
    loader = batches(recipe, clips, start=start, steps=recipe.steps)
    progress = tqdm(loader, desc="tokenizer", initial=start, total=recipe.steps, unit="step")
    for step, frames in enumerate(progress, start=start + 1):
        frames = frames.to(recipe.device)
        generator = step_generator(recipe.seed + 1, step)
        with autocast:
            latent_dist = tokenizer.encode(frames).latent_dist
            latents = latent_dist.sample(generator)
            reconstruction = tokenizer.decode(latents).sample
            terms = losses(reconstruction, frames, latent_dist=latent_dist, latents=latents, generator=generator)
        loss = torch.stack(list(terms.values())).sum()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, recipe.max_grad_norm, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(tokenizer.parameters())

        if step % 10 == 0:
            scalars = {**terms, "loss": loss, "grad_norm": norm}
            log.write(
                step, {name: value.item() for name, value in scalars.items()} | {"lr": schedule.get_last_lr()[-1]}
            )
            progress.set_postfix(loss=f"{loss.item():.4f}")
        if step % recipe.validate_every == 0 or step == recipe.steps:
            with state.averaged(), autocast, torch.compiler.set_stance("force_eager"):  # sizes differ: no recompiling
                progress.write(report(recipe, tokenizer, clips, held_out, log, step))
        if step % recipe.save_every == 0 or step == recipe.steps:
            state.save(recipe.out / "training.pt", step)
    export_model(tokenizer, recipe.out / "tokenizer", ema=ema)
    return recipe.out / "tokenizer"


if __name__ == "__main__":
    train(TokenizerRecipe.from_command_line(__doc__))
