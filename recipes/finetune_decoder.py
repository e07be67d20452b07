"""Sharpen a trained tokenizer's decoder against a discriminator; the encoder stays as it is (paper §2.1.3, §4).

    python recipes/finetune_decoder.py --start-from runs/tokenizer/tokenizer --data runs/clips --out runs/decoder

The latents do not change, so a world model that was trained on them can be used with the new decoder. Stop it at any
time and start it again with the same words: it goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizer_options import TokenizerOptions, frame_losses, open_clips, report, step_batches
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from gaia2.losses.adversarial import AdversarialLoss
from gaia2.models import presets
from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.average import WeightAverage
from gaia2.training.export import export_last
from gaia2.training.learner import Learner
from gaia2.training.learning_rate import warmup_cooldown
from gaia2.training.loop import TrainingLoop, samples_sum
from gaia2.training.model_costs import decoder_stage_cost
from gaia2.training.optimizers import make_optimizer
from gaia2.training.parallel import prepare_model, reduce_after
from gaia2.training.plan import Workload, print_plan
from gaia2.training.precision import autocast, resolve_precision
from gaia2.training.ranks import Ranks, join_ranks
from gaia2.training.sampling import sample_normal, step_generator
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
        adversarial_weight=0.1,
        weight_decay=0.1,
        max_grad_norm=1.0,
        ema_decay=0.9999,
        l1_weight=0.2,
        l2_weight=2.0,
        seam_weight=0.0,
        perceptual_weight=0.1,
        perceptual_network="lpips",
        validate_every=1_000,
        save_every=1_000,
        workers=8,
        activation_checkpointing="full",
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
    """Rate of the discriminator (paper: 1e-05)."""
    discriminator_channels: int = 16
    """Channels that the discriminator's multipliers 2, 4, 8, 8 multiply (paper: 64)."""
    warmup_steps: int = 20
    """Steps of linear rise of the decoder's rate."""
    adversarial_weight: float = 0.1
    """Weight of the adversarial term (paper: 0.1)."""
    ema_decay: float = 0.98
    """Decay of the averaged weights (paper: 0.9999)."""
    validate_every: int = 100
    """Steps between validations."""
    save_every: int = 100
    """Steps between checkpoints."""


def make_learners(
    recipe: DecoderRecipe, tokenizer: VideoTokenizer, discriminator: VideoDiscriminator, ranks: Ranks
) -> dict[str, Learner]:
    """Both models with their optimizers; the tokenizer's weights are averaged."""
    compile = recipe.compile and ranks.world > 1
    prepare_model(
        tokenizer,
        ranks,
        roots=[tokenizer.encoder, tokenizer.decoder],
        activation_checkpointing=recipe.activation_checkpointing,
        compile=compile,
        bf16=resolve_precision(recipe.precision, ranks.device) == "bf16",
    )
    prepare_model(discriminator, ranks, compile=compile)
    if recipe.activation_checkpointing != "none":
        discriminator.enable_gradient_checkpointing()
    if recipe.compile and ranks.world == 1:  # as a whole, which is faster still
        tokenizer.encoder.compile()
        tokenizer.decoder.compile()
    adamw = partial(make_optimizer, name="adamw", matrix_learning_rate=0.0, weight_decay=recipe.weight_decay)
    rate = partial(warmup_cooldown, total=recipe.steps, warmup=recipe.warmup_steps, cooldown=0, final=1.0)
    models = {
        "tokenizer": nn.ModuleDict({"model": tokenizer}),
        "discriminator": nn.ModuleDict({"model": discriminator}),
    }
    return {
        "tokenizer": Learner(
            models["tokenizer"],
            adamw(models["tokenizer"], learning_rate=recipe.learning_rate),
            rate,
            recipe.max_grad_norm,
            WeightAverage(tokenizer, recipe.ema_decay),
        ),
        "discriminator": Learner(
            models["discriminator"],
            adamw(models["discriminator"], learning_rate=recipe.discriminator_learning_rate),
            lambda done: 1.0,
            recipe.max_grad_norm,
        ),
    }


def train(recipe: DecoderRecipe) -> Path:
    """Run the recipe; returns the folder of the tokenizer with its new decoder."""
    with join_ranks(recipe.device, shard_ranks=recipe.shard_ranks, timeout_minutes=recipe.timeout_minutes) as ranks:
        return train_in(recipe, ranks)


def train_in(recipe: DecoderRecipe, ranks: Ranks) -> Path:
    """Run the recipe as one of several processes."""
    samples = ranks.samples(recipe.batch_size)
    clips, held_out = open_clips(recipe)
    torch.manual_seed(recipe.seed)
    tokenizer = VideoTokenizer.from_pretrained(recipe.start_from).train()
    tokenizer.encoder.requires_grad_(False)
    discriminator = VideoDiscriminator(
        in_channels=tokenizer.config.in_channels, base_channels=recipe.discriminator_channels
    )
    losses = TokenizerLosses(**frame_losses(recipe, tokenizer)).to(ranks.device)
    adversarial_loss = AdversarialLoss(weight=recipe.adversarial_weight)
    learners = make_learners(recipe, tokenizer, discriminator, ranks)
    decoder, judge = learners["tokenizer"], learners["discriminator"]
    loop = TrainingLoop("decoder", recipe, learners, ranks)
    batches = step_batches(recipe, clips, ranks)
    # On some CPUs the bfloat16 gradient of a small 3D convolution's weights is wrong: there it judges in float32.
    judging = partial(autocast, "fp32" if ranks.device.type == "cpu" else recipe.precision, ranks.device)

    if loop.resume() == 0:
        with autocast(recipe.precision, ranks.device):
            report(recipe, tokenizer, clips, held_out, loop, 0)
    for step in loop:
        batch = {name: value.to(ranks.device, non_blocking=True) for name, value in batches[step].items()}
        frames, weight = batch["frames"], batch.get("weight")
        generators = [step_generator(recipe.seed + 1, step, sample) for sample in samples]
        size = recipe.micro_batch_size or len(frames)
        parts = [slice(first, first + size) for first in range(0, len(frames), size)]
        sums: dict[str, torch.Tensor] = {}
        decoded_parts = []

        if ranks.world == 1:
            discriminator.requires_grad_(False)
        for part in parts:
            real, share = frames[part], len(frames[part]) / recipe.batch_size
            with autocast(recipe.precision, ranks.device):
                with torch.no_grad():
                    latent_dist = tokenizer.encode(real).latent_dist
                    noise = sample_normal(latent_dist.mean.shape[1:], generators[part])
                    latents = latent_dist.mean + latent_dist.std * noise.to(latent_dist.mean)
                decoded = tokenizer.decode(latents).sample
                chance = step_generator(recipe.seed + 1, step)
                counts = None if weight is None else weight[part]
                terms = losses(decoded, real, latent_dist=latent_dist, latents=latents, weight=counts, generator=chance)
            with judging():
                terms |= adversarial_loss(discriminator(decoded.to(real.dtype)).logits)
            reduce_after(decoder.modules, last=part is parts[-1])
            (torch.stack(list(terms.values())).sum() * share * ranks.world).backward()
            decoded_parts.append(decoded.detach().to(real.dtype))
            add_to(sums, terms, share)
        norm = decoder.clip()
        values = dict(zip(sums, ranks.sum(*sums.values()), strict=True))
        if loop.is_spoilt(step, loss=sum(values.values()), norm=norm, batch={"frames": frames}):
            continue

        discriminator.requires_grad_(True)
        judge.optimizer.zero_grad(set_to_none=True)  # of the pass above, where it cannot be switched off
        judgements: dict[str, torch.Tensor] = {}
        for part, decoded in zip(parts, decoded_parts, strict=True):
            with judging():
                real_logits, decoded_logits = discriminator(torch.cat([frames[part], decoded])).logits.chunk(2)
                judgement = adversarial_loss.discriminator(real_logits, decoded_logits)
            share = len(decoded) / recipe.batch_size
            reduce_after(judge.modules, last=part is parts[-1])
            (torch.stack(list(judgement.values())).sum() * share * ranks.world).backward()
            add_to(judgements, judgement, share)
        judge_norm = judge.clip()
        judged = dict(zip(judgements, ranks.sum(*judgements.values()), strict=True))
        if loop.is_spoilt(step, loss=sum(judged.values()), norm=judge_norm, batch={"frames": frames}):
            continue
        decoder.step(step)
        judge.step(step)

        if loop.is_due(step, recipe.log_every):
            seen = samples_sum(batch["name"].tolist(), ranks)
            loop.write(step, {**values, **judged, "grad_norm": norm, "samples": seen})
        if loop.is_due(step, recipe.validate_every):
            assert decoder.average is not None
            with decoder.average.applied(), autocast(recipe.precision, ranks.device):
                report(recipe, tokenizer, clips, held_out, loop, step)
    return export_last(loop, tokenizer, recipe.out / "tokenizer", learner="tokenizer")


def add_to(sums: dict[str, torch.Tensor], terms: dict[str, torch.Tensor], share: float) -> None:
    """Add the share of a micro-batch to each term."""
    for name, term in terms.items():
        sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach() * share


def plan(recipe: DecoderRecipe) -> Workload:
    """What the run will cost, with a tokenizer of the preset; nothing is allocated or read."""
    cost = decoder_stage_cost(
        getattr(presets, recipe.preset)(),
        **recipe.planned_sizes(),
        discriminator_channels=recipe.discriminator_channels,
        sharded=recipe.num_ranks > 1,
    )
    title = "decoder and discriminator"
    return recipe.workload(title, cost, seconds=1.0, keeps_latents=False, uncounted=recipe.uncounted())


@record
def main() -> None:
    """Read the options and train."""
    recipe = DecoderRecipe.from_command_line(__doc__)
    if recipe.plan:
        raise SystemExit(print_plan(plan(recipe)))
    train(recipe)


if __name__ == "__main__":
    main()
