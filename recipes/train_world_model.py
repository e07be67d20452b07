"""Train the latent world model with flow matching (paper §2.2, §4).

    python recipes/train_world_model.py --data data/clips --tokenizer runs/tokenizer/tokenizer --out runs/world_model

The clips are encoded once. Stop it at any time and start it again with the same words: it goes on from its last
checkpoint.
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
from tqdm import tqdm

from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.conditioning.timestamp import relative_to_present
from gaia2.data.clip_folder import ClipFolder
from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.path import interpolate, velocity
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.export import export_model
from gaia2.training.latents import LatentDataset
from gaia2.training.learning_rate import warmup_cosine
from gaia2.training.logging import ScalarLog
from gaia2.training.optimizers import OptimizerName, make_optimizer
from gaia2.training.sampling import step_generator
from gaia2.training.state import TrainingState
from gaia2.training.tasks import TaskSampler


@dataclass(frozen=True)
class WorldModelRecipe:
    """How to train the world model; the defaults suit the mini preset on a CPU."""

    data: Path
    """Folder of clips."""
    tokenizer: Path
    """Folder of the trained tokenizer."""
    out: Path
    """Folder for checkpoints, logs and the trained model."""
    preset: Literal["mini", "paper"] = "mini"
    """Size of the model."""
    start_from: Path | None = None
    """Folder of a trained world model to begin with, in place of random weights; its size takes precedence."""
    steps: int = 3000
    """Optimiser steps (paper: 460,000)."""
    batch_size: int = 16
    """Clips a step (paper: 256)."""
    optimizer: OptimizerName = "adamw"
    """AdamW as in the paper, or Muon for the weight matrices, which learns more in few steps."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up (paper: 5e-5)."""
    matrix_learning_rate: float = 1e-2
    """Rate of Muon after the warm-up."""
    final_learning_rate: float = 2e-5
    """Rate of AdamW at the end of the cosine (paper: 6.5e-6); Muon's falls by the same factor."""
    warmup_steps: int = 150
    """Steps of linear rise (paper: 2,500)."""
    weight_decay: float = 0.1
    """Weight decay."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    condition_dropout: float = 0.8
    """Probability that a condition is dropped, each alone (paper: 0.8)."""
    all_dropout: float = 0.1
    """Probability that all are dropped (paper: 0.1)."""
    camera_dropout: float = 0.1
    """Probability that a camera view is dropped (paper: 0.1)."""
    lone_camera_share: float = 0.0
    """Share of samples that keep one camera only, for rigs of a single camera (paper: none)."""
    context_share: float = 0.2
    """Share of samples that predict from context (paper: 0.2)."""
    inpainting_share: float = 0.1
    """Share of samples that fill a hole (paper: 0.1)."""
    validation_clips: int = 64
    """Clips at the beginning of the folder that are never trained on."""
    validate_every: int = 250
    """Steps between validations."""
    save_every: int = 250
    """Steps between checkpoints."""
    compile: bool = False
    """Compile the blocks with torch.compile."""
    bf16: bool = True
    """Compute in bfloat16 by autocast."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""


@torch.no_grad()
def validate(model: WorldModel, data: LatentDataset, indices: range, batch_size: int) -> tuple[float, float]:
    """Loss from scratch on held-out clips, with all conditions, and that of predicting the mean velocity.

    The mean velocity of the training set is the mean of its normalised latents, cell by cell.
    """
    losses, references = [], []
    for first in range(indices.start, indices.stop, batch_size):
        generator = step_generator(123, first)
        rows = torch.arange(first, min(first + batch_size, indices.stop))
        x, conditioning = data.batch(rows, generator)
        tau = BimodalLogitNormal().sample(len(rows), generator=generator).to(x.device)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        conditioning["timestamps"] = relative_to_present(conditioning["timestamps"], torch.zeros_like(tau).long())
        predicted = model(interpolate(x, eps, tau), tau, conditioning).sample
        losses.append(flow_matching_loss(predicted, velocity(x, eps)))
        references.append(flow_matching_loss(data.mean_latents.expand_as(x), velocity(x, eps)))
    return float(torch.stack(losses).mean()), float(torch.stack(references).mean())


def train(recipe: WorldModelRecipe) -> Path:
    """Run the recipe; returns the folder of the trained world model."""
    tokenizer = VideoTokenizer.from_pretrained(recipe.tokenizer).to(recipe.device).eval()
    autocast = torch.autocast(recipe.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16)
    with autocast:
        data = LatentDataset.encode(
            ClipFolder(recipe.data), tokenizer, cache=recipe.out / "latents.pt", held_out=recipe.validation_clips
        )
    data = data.to(recipe.device)

    torch.manual_seed(recipe.seed)
    if recipe.start_from is None:
        model = WorldModel(**getattr(presets, recipe.preset)().world_model)
    else:
        model = WorldModel.from_pretrained(recipe.start_from).train()
    model.to(recipe.device)
    tasks = TaskSampler(context=recipe.context_share, inpainting=recipe.inpainting_share)
    times = BimodalLogitNormal()
    dropout = ConditioningDropout(
        individual=recipe.condition_dropout,
        all=recipe.all_dropout,
        camera=recipe.camera_dropout,
        alone=recipe.lone_camera_share,
    )
    optimizer = make_optimizer(
        model,
        recipe.optimizer,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        partial(
            warmup_cosine,
            total=recipe.steps,
            warmup=recipe.warmup_steps,
            final=recipe.final_learning_rate / recipe.learning_rate,
        ),
    )
    ema = EMAModel(model.parameters(), decay=recipe.ema_decay)
    state = TrainingState(model, optimizer, schedule, ema)
    start = state.resume(recipe.out / "training.pt", recipe.device)
    recipe.out.mkdir(parents=True, exist_ok=True)
    (recipe.out / "recipe.json").write_text(json.dumps(asdict(recipe), default=str, indent=2))

    if recipe.compile:
        model.compile_repeated_blocks()
    log = ScalarLog(recipe.out)
    progress = tqdm(range(start + 1, recipe.steps + 1), desc="world model", initial=start, total=recipe.steps)
    for step in progress:
        generator = step_generator(recipe.seed, step)
        rows = torch.randint(recipe.validation_clips, len(data), (recipe.batch_size,), generator=generator)
        x, conditioning = data.batch(rows, generator)
        b, t, n, h, w, _ = x.shape
        known_mask, context_length = tasks.sample(
            (b, t, n, h, w), agents=conditioning["agents"].cpu(), generator=generator
        )
        known_mask, context_length = known_mask.to(x.device), context_length.to(x.device)
        conditioning = dropout(conditioning, generator=generator)
        conditioning["timestamps"] = relative_to_present(conditioning["timestamps"], context_length)
        camera_mask = dropout.drop_cameras(b, n, generator=generator).to(x.device)
        tau = times.sample(b, generator=generator).to(x.device)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        noisy = torch.where(known_mask[..., None], x, interpolate(x, eps, tau))
        with autocast:
            predicted = model(noisy, tau, conditioning, known_mask=known_mask, camera_mask=camera_mask).sample
        loss = flow_matching_loss(predicted, velocity(x, eps), known_mask, camera_mask)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(model.parameters())

        if step % 10 == 0:
            log.write(step, {"loss": loss.item(), "grad_norm": norm.item(), "lr": schedule.get_last_lr()[0]})
            progress.set_postfix(loss=f"{loss.item():.4f}")
        if step % recipe.validate_every == 0 or step == recipe.steps:
            with state.averaged(), autocast:
                held_out, mean_velocity = validate(model, data, range(recipe.validation_clips), recipe.batch_size)
            log.write(step, {"validation_loss": held_out, "validation_ratio": held_out / mean_velocity})
            progress.write(
                f"step {step}: held-out loss {held_out:.4f}, {held_out / mean_velocity:.3f} of mean velocity"
            )
        if step % recipe.save_every == 0 or step == recipe.steps:
            state.save(recipe.out / "training.pt", step)
    export_model(model, recipe.out / "transformer", ema=ema)
    return recipe.out / "transformer"


if __name__ == "__main__":
    train(tyro.cli(WorldModelRecipe, description=__doc__))
