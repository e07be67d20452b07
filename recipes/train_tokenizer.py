"""Train the video tokenizer (paper §2.1.3, §4).

    python recipes/train_tokenizer.py --data runs/clips --out runs/tokenizer
    python recipes/train_tokenizer.py --preset paper --data runs/clips --out runs/tokenizer

Stop it at any time and start it again with the same words: it goes on from its last checkpoint.
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

from gaia2.losses.reconstruction import KLLoss
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.average import WeightAverage
from gaia2.training.export import export_last
from gaia2.training.learner import Learner
from gaia2.training.learning_rate import warmup_cooldown
from gaia2.training.loop import TrainingLoop, samples_sum
from gaia2.training.model_costs import tokenizer_cost
from gaia2.training.optimizers import OptimizerName, make_optimizer
from gaia2.training.parallel import prepare_model, reduce_after
from gaia2.training.plan import Workload, print_plan
from gaia2.training.precision import autocast, resolve_precision
from gaia2.training.ranks import Ranks, join_ranks
from gaia2.training.sampling import sample_normal, step_generator
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
        final_learning_rate=1e-5,
        optimizer="adamw",
        weight_decay=0.1,
        max_grad_norm=1.0,
        ema_decay=0.9999,
        l1_weight=0.2,
        l2_weight=2.0,
        seam_weight=0.0,
        kl_weight=1e-6,
        perceptual_weight=0.1,
        perceptual_network="lpips",
        dino_weight=0.1,
        validate_every=5_000,
        save_every=1_000,
        workers=8,
        activation_checkpointing="full",
    )

    start_from: Path | None = None
    """Folder of a trained tokenizer to begin with, in place of random weights."""
    freeze_encoder: bool = False
    """Train the decoder only, so that latents, and a world model that was trained on them, stay as they are."""
    drift_weight: float = 0.0
    """Weight of the squared distance of the latents from those of `start_from`, in their standard deviations, so that a
    world model that was trained on these needs little training for the new ones (paper: 0.0)."""
    steps: int = 2000
    """Optimiser steps (paper: 300,000)."""
    optimizer: OptimizerName = "adamw"
    """AdamW as in the paper (paper: adamw), or Muon for the weight matrices, which learns more in few steps."""
    learning_rate: float = 4e-4
    """Base rate of AdamW (paper: 0.0001)."""
    matrix_learning_rate: float = 1e-2
    """Base rate of Muon."""
    final_learning_rate: float = 1e-5
    """Rate of AdamW at the end of the cool-down (paper: 1e-05); Muon's falls by the same factor."""
    warmup_steps: int = 100
    """Steps of linear rise (paper: 2,500)."""
    cooldown_steps: int = 800
    """Steps of linear fall at the end (paper: 5,000)."""
    kl_weight: float = 1e-6
    """Weight of the Kullback-Leibler divergence (paper: 1e-06)."""
    dino_weight: float = 0.0
    """Weight of the distillation of DINOv2 (paper: 0.1)."""
    dino_network: str = "facebook/dinov2-large"
    """Hub id or folder of the DINOv2."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.drift_weight < 0:
            raise ValueError(f"drift_weight: expected 0 or more, got {self.drift_weight}")
        if self.drift_weight and (self.start_from is None or self.freeze_encoder):
            raise ValueError(
                "drift_weight: expected start_from, whose latents it keeps near, and no freeze_encoder, which keeps "
                "them as they are; leave it out"
            )


def make_tokenizer(recipe: TokenizerRecipe) -> VideoTokenizer:
    """The tokenizer as it begins, the same in all ranks."""
    torch.manual_seed(recipe.seed)
    if recipe.start_from is None:
        tokenizer = VideoTokenizer(**getattr(presets, recipe.preset)().tokenizer)
    else:
        tokenizer = VideoTokenizer.from_pretrained(recipe.start_from).train()
    tokenizer.encoder.requires_grad_(not recipe.freeze_encoder)
    return tokenizer


def make_learner(recipe: TokenizerRecipe, tokenizer: VideoTokenizer, losses: TokenizerLosses, ranks: Ranks) -> Learner:
    """The tokenizer, and the head of the distillation, with optimizer, schedule and average."""
    modules = nn.ModuleDict({"model": tokenizer})
    roots: dict[str, list[nn.Module]] = {"model": [tokenizer.encoder, tokenizer.decoder]}
    if losses.dino is not None:
        modules["dino_head"], roots["dino_head"] = losses.dino.head, [losses.dino.head]
    for name, module in modules.items():
        prepare_model(
            module,
            ranks,
            roots=roots[name],
            activation_checkpointing=recipe.activation_checkpointing,
            compile=recipe.compile and ranks.world > 1,
            bf16=resolve_precision(recipe.precision, ranks.device) == "bf16",
        )
    if recipe.compile and ranks.world == 1:  # as a whole, which is faster still
        tokenizer.encoder.compile(dynamic=False)
        tokenizer.decoder.compile(dynamic=False)
    optimizer = make_optimizer(
        modules,
        recipe.optimizer,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
    )
    rate = partial(
        warmup_cooldown,
        total=recipe.steps,
        warmup=recipe.warmup_steps,
        cooldown=recipe.cooldown_steps,
        final=recipe.final_learning_rate / recipe.learning_rate,
    )
    return Learner(modules, optimizer, rate, recipe.max_grad_norm, WeightAverage(tokenizer, recipe.ema_decay))


def train(recipe: TokenizerRecipe) -> Path:
    """Run the recipe; returns the folder of the trained tokenizer."""
    with join_ranks(recipe.device, shard_ranks=recipe.shard_ranks, timeout_minutes=recipe.timeout_minutes) as ranks:
        return train_in(recipe, ranks)


def train_in(recipe: TokenizerRecipe, ranks: Ranks) -> Path:
    """Run the recipe as one of several processes."""
    samples = ranks.samples(recipe.batch_size)
    clips, held_out = open_clips(recipe)
    tokenizer = make_tokenizer(recipe)
    losses = TokenizerLosses(
        **frame_losses(recipe, tokenizer),
        kl=KLLoss(weight=recipe.kl_weight),
        dino=make_dino_loss(
            recipe.dino_weight, network=recipe.dino_network, latent_channels=tokenizer.config.latent_channels
        ),
    )
    anchor = None
    if recipe.drift_weight:
        assert recipe.start_from is not None  # refused before
        anchor = VideoTokenizer.from_pretrained(recipe.start_from).requires_grad_(False).to(ranks.device).eval()
    learner = make_learner(recipe, tokenizer, losses, ranks)
    losses.to(ranks.device)
    loop = TrainingLoop("tokenizer", recipe, {"tokenizer": learner}, ranks)
    batches = step_batches(recipe, clips, ranks)

    for step in loop:
        batch = {name: value.to(ranks.device, non_blocking=True) for name, value in batches[step].items()}
        frames, weight = batch["frames"], batch.get("weight")
        generators = [step_generator(recipe.seed + 1, step, sample) for sample in samples]
        size = recipe.micro_batch_size or len(frames)
        sums: dict[str, torch.Tensor] = {}
        for first in range(0, len(frames), size):
            rows = slice(first, first + size)
            part, share = frames[rows], len(frames[rows]) / recipe.batch_size
            with autocast(recipe.precision, ranks.device):
                latent_dist = tokenizer.encode(part).latent_dist
                noise = sample_normal(latent_dist.mean.shape[1:], generators[rows])
                latents = latent_dist.mean + latent_dist.std * noise.to(latent_dist.mean)
                terms = losses(
                    tokenizer.decode(latents).sample,
                    part,
                    latent_dist=latent_dist,
                    latents=latents,
                    weight=None if weight is None else weight[rows],
                    generator=step_generator(recipe.seed + 1, step),
                )
                if anchor is not None:
                    terms["drift"] = recipe.drift_weight * latent_drift(anchor, latent_dist.mean, part)
            reduce_after(learner.modules, last=first + size >= len(frames))
            (torch.stack(list(terms.values())).sum() * share * ranks.world).backward()
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(term)) + term.detach() * share

        norm = learner.clip()
        values = dict(zip(sums, ranks.sum(*sums.values()), strict=True))
        loss = sum(values.values())
        if loop.is_spoilt(step, loss=loss, norm=norm, batch={"frames": frames}):
            continue
        rate = learner.step(step)

        if loop.is_due(step, recipe.log_every):
            seen = samples_sum(batch["name"].tolist(), ranks)
            loop.write(step, {**values, "loss": loss, "grad_norm": norm, "lr": rate, "samples": seen})
        if loop.is_due(step, recipe.validate_every):
            assert learner.average is not None
            with (
                learner.average.applied(),
                autocast(recipe.precision, ranks.device),
                torch.compiler.set_stance("force_eager"),  # sizes differ: no recompiling
            ):
                report(recipe, tokenizer, clips, held_out, loop, step)
    return export_last(loop, tokenizer, recipe.out / "tokenizer", learner="tokenizer")


def latent_drift(anchor: VideoTokenizer, mean: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Mean squared distance of latents from those that `anchor` makes of the frames, in its standard deviations."""
    with torch.no_grad():
        there = anchor.normalize(anchor.encode(frames).latent_dist.mean.float())
    return (anchor.normalize(mean.float()) - there).square().mean()


def plan(recipe: TokenizerRecipe) -> Workload:
    """What the run will cost, without the networks of the losses; nothing is allocated."""
    preset = getattr(presets, recipe.preset)()
    cost = tokenizer_cost(preset, **recipe.planned_sizes(), freeze_encoder=recipe.freeze_encoder)
    return recipe.workload("tokenizer", cost, seconds=1.0, keeps_latents=False, uncounted=recipe.uncounted())


@record
def main() -> None:
    """Read the options and train."""
    recipe = TokenizerRecipe.from_command_line(__doc__)
    if recipe.plan:
        raise SystemExit(print_plan(plan(recipe)))
    train(recipe)


if __name__ == "__main__":
    main()
