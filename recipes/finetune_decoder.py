"""Sharpen a trained tokenizer's decoder against a discriminator; the encoder stays as it is (paper §2.1.3, §4).

    python recipes/finetune_decoder.py --start-from runs/tokenizer/tokenizer --data data/clips --out runs/decoder

The latents do not change, so a world model that was trained on them can be used with the new decoder. Stop it at any
time and start it again with the same words: it goes on from its last checkpoint.
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

from gaia2.losses.adversarial import AdversarialLoss
from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.export import export_model
from gaia2.training.learning_rate import warmup_cooldown
from gaia2.training.logging import ScalarLog
from gaia2.training.optimizers import make_optimizer
from gaia2.training.sampling import step_generator
from gaia2.training.state import TrainingState
from gaia2.training.tokenizer_losses import TokenizerLosses


@dataclass(frozen=True, kw_only=True)
class DecoderRecipe(TokenizerOptions):
    """How to sharpen the decoder; the defaults suit the mini preset on a CPU."""

    PAPER: ClassVar[dict[str, Any]] = dict(
        image_size=(448, 960),
        num_frames=24,
        steps=20_000,
        batch_size=128,
        learning_rate=1e-5,
        discriminator_learning_rate=1e-5,
        discriminator_channels=64,
        warmup_steps=0,
        ema_decay=0.9999,
        perceptual_weight=0.1,
        perceptual_network="lpips",
        validate_every=1_000,
        save_every=1_000,
        workers=8,
        gradient_checkpointing=True,
    )
    REQUIRED: ClassVar[tuple[str, ...]] = ("data", "out", "start_from")

    start_from: Path
    """Folder of the trained tokenizer."""
    steps: int = 300
    """Optimiser steps of both models (paper: 20,000)."""
    batch_size: int = 4
    """Single-camera clips a step (paper: 128)."""
    learning_rate: float = 1e-4
    """Rate of the decoder; the paper does not tell its own, its preset goes on with the last one of the training."""
    discriminator_learning_rate: float = 2e-4
    """Rate of the discriminator (paper: 1e-5)."""
    discriminator_channels: int = 16
    """Channels that the discriminator's multipliers 2, 4, 8, 8 multiply (paper: 64)."""
    warmup_steps: int = 20
    """Steps of linear rise of the decoder's rate."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial term."""
    ema_decay: float = 0.98
    """Decay of the averaged weights (paper: 0.9999)."""
    validate_every: int = 100
    """Steps between validations."""
    save_every: int = 100
    """Steps between checkpoints."""


def train(recipe: DecoderRecipe) -> Path:
    """Run the recipe; returns the folder of the tokenizer with its new decoder."""
    torch.manual_seed(recipe.seed)
    tokenizer = VideoTokenizer.from_pretrained(recipe.start_from).train()
    tokenizer.encoder.requires_grad_(False)
    discriminator = VideoDiscriminator(
        in_channels=tokenizer.config.in_channels, base_channels=recipe.discriminator_channels
    )
    losses = TokenizerLosses(**frame_losses(recipe, tokenizer))
    adversarial_loss = AdversarialLoss(weight=recipe.adversarial_weight)
    clips, held_out = open_clips(recipe)

    for module in (tokenizer, discriminator, losses):
        module.to(recipe.device)
    adamw = partial(make_optimizer, name="adamw", matrix_learning_rate=0.0, weight_decay=recipe.weight_decay)
    optimizer = adamw(tokenizer, learning_rate=recipe.learning_rate)
    discriminator_optimizer = adamw(discriminator, learning_rate=recipe.discriminator_learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(warmup_cooldown, total=recipe.steps, warmup=recipe.warmup_steps, cooldown=0, final=1.0)
    )
    ema = EMAModel(tokenizer.parameters(), decay=recipe.ema_decay)
    state = TrainingState(
        tokenizer,
        optimizer,
        schedule,
        ema,
        others={"discriminator": discriminator, "discriminator_optimizer": discriminator_optimizer},
    )
    start = state.resume(recipe.out / "training.pt", recipe.device)
    write_options(recipe)
    log = ScalarLog(recipe.out, start=start)

    device_type = recipe.device.split(":")[0]
    autocast = torch.autocast(device_type, torch.bfloat16, enabled=recipe.bf16)
    # On some CPUs the bfloat16 gradient of a small 3D convolution's weights is wrong: there it judges in float32.
    judging = torch.autocast(device_type, torch.bfloat16, enabled=recipe.bf16 and device_type != "cpu")
    if recipe.gradient_checkpointing:
        tokenizer.enable_gradient_checkpointing()
        discriminator.enable_gradient_checkpointing()
    if recipe.compile:
        tokenizer.encoder.compile(), tokenizer.decoder.compile()
    loader = batches(recipe, clips, start=start, steps=recipe.steps)
    progress = tqdm(loader, desc="decoder", initial=start, total=recipe.steps, unit="step")
    if start == 0:
        with autocast:
            progress.write(report(recipe, tokenizer, clips, held_out, log, 0))
    for step, frames in enumerate(progress, start=start + 1):
        frames = frames.to(recipe.device)
        generator = step_generator(recipe.seed + 1, step)

        discriminator.requires_grad_(False)
        with autocast:
            with torch.no_grad():
                latent_dist = tokenizer.encode(frames).latent_dist
                latents = latent_dist.sample(generator)
            decoded = tokenizer.decode(latents).sample
            terms = losses(decoded, frames, latent_dist=latent_dist, latents=latents, generator=generator)
        with judging:
            terms |= adversarial_loss(discriminator(decoded.to(frames.dtype)).logits)
        torch.stack(list(terms.values())).sum().backward()
        norm = nn.utils.clip_grad_norm_(tokenizer.decoder.parameters(), recipe.max_grad_norm, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(tokenizer.parameters())

        discriminator.requires_grad_(True)
        with judging:
            both = torch.cat([frames, decoded.detach().to(frames.dtype)])
            real_logits, decoded_logits = discriminator(both).logits.chunk(2)
            judgement = adversarial_loss.discriminator(real_logits, decoded_logits)
        torch.stack(list(judgement.values())).sum().backward()
        nn.utils.clip_grad_norm_(discriminator.parameters(), recipe.max_grad_norm, error_if_nonfinite=True)
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad(set_to_none=True)

        if step % 10 == 0:
            scalars = {**terms, **judgement, "grad_norm": norm}
            log.write(step, {name: value.item() for name, value in scalars.items()})
            progress.set_postfix(l2=f"{terms['l2'].item():.4f}", adversarial=f"{terms['adversarial'].item():.4f}")
        if step % recipe.validate_every == 0 or step == recipe.steps:
            with state.averaged(), autocast:
                progress.write(report(recipe, tokenizer, clips, held_out, log, step))
        if step % recipe.save_every == 0 or step == recipe.steps:
            state.save(recipe.out / "training.pt", step)
    export_model(tokenizer, recipe.out / "tokenizer", ema=ema)
    return recipe.out / "tokenizer"


if __name__ == "__main__":
    train(DecoderRecipe.from_command_line(__doc__))
