"""Train the driving-behaviour encoder, whose embeddings are scenario embeddings (paper §2.2.3).

    python recipes/train_behaviour_encoder.py --out runs/scenario

It reads scenes of the procedural world and their mirror images; no picture is rendered. Stop it at any time and start
it again with the same words: it goes on from its last checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from gaia2.conditioning.scenario import ROAD
from gaia2.data.mirror import mirror_scene
from gaia2.data.procedural import ProceduralWorld
from gaia2.models.behaviour_encoder import Behaviour, BehaviourEncoder, behaviour_of
from gaia2.scene import Scene
from gaia2.training.average import WeightAverage
from gaia2.training.behaviour import BehaviourHeads, behaviour_losses, ground_cells
from gaia2.training.export import export_last
from gaia2.training.learner import Learner
from gaia2.training.learning_rate import schedule
from gaia2.training.loop import TrainingLoop
from gaia2.training.optimizers import make_optimizer
from gaia2.training.options import TrainingOptions

FIRST_SEED, HELD_OUT_SEED = 2_000_000_000, 3_000_000_000
FRAME_RATES = (10.0, 12.0, 15.0, 20.0, 30.0)


@dataclass(frozen=True, kw_only=True)
class BehaviourRecipe(TrainingOptions):
    """How to train the driving-behaviour encoder; it takes a quarter of an hour of one core."""

    steps: int = 1500
    """Optimiser steps."""
    batch_size: int = 64
    """Scenes a step, half of them mirror images."""
    num_frames: int = 24
    """Frames of a scene."""
    embedding_dim: int = 512
    """Numbers of an embedding."""
    dim: int = 96
    """Channels of the encoder."""
    num_blocks: int = 2
    """Blocks of the encoder."""
    learning_rate: float = 1e-3
    """Rate of AdamW."""
    matrix_learning_rate: float = 1e-2
    """Rate of Muon."""
    ema_decay: float = 0.99
    """Decay of the averaged weights."""
    validation_scenes: int = 512
    """Scenes that are never trained on."""


def make_learner(recipe: BehaviourRecipe) -> Learner:
    """The encoder and the heads that read its embeddings back."""
    torch.manual_seed(recipe.seed)
    encoder = BehaviourEncoder(embedding_dim=recipe.embedding_dim, dim=recipe.dim, num_blocks=recipe.num_blocks)
    modules = nn.ModuleDict({"model": encoder, "heads": BehaviourHeads(embedding_dim=recipe.embedding_dim)})
    modules.to(recipe.device)
    optimizer = make_optimizer(
        modules,
        "muon",
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )
    rate = schedule(total=recipe.steps, warmup=min(100, recipe.steps // 5), cooldown=None, final=0.02)
    return Learner(modules, optimizer, rate, recipe.max_grad_norm, WeightAverage(encoder, recipe.ema_decay))


def read_scenes(recipe: BehaviourRecipe, first_seed: int, count: int) -> Behaviour:
    """Random scenes and the mirror images of every second one, as the encoder reads them."""
    world = ProceduralWorld(rig="front", num_frames=recipe.num_frames, frame_rates=FRAME_RATES)
    scenes: list[Scene] = world.sample_scenes(range(first_seed, first_seed + count))
    scenes[1::2] = [mirror_scene(scene) for scene in scenes[1::2]]
    return Behaviour(*(tensor.to(recipe.device) for tensor in behaviour_of(scenes)))


def train(recipe: BehaviourRecipe) -> Path:
    """Run the recipe; returns the folder of the trained encoder."""
    learner = make_learner(recipe)
    encoder, heads = learner.modules["model"], learner.modules["heads"]
    held_out = read_scenes(recipe, HELD_OUT_SEED, recipe.validation_scenes)
    loop = TrainingLoop("behaviour encoder", recipe, {"behaviour_encoder": learner})
    for step in loop:
        behaviour = read_scenes(recipe, FIRST_SEED + recipe.batch_size * (step - 1), recipe.batch_size)
        losses = behaviour_losses(heads(encoder(behaviour)), behaviour)
        loss = torch.stack(list(losses.values())).sum()
        loss.backward()
        norm = learner.clip()
        if loop.is_spoilt(step, loss=loss.item(), norm=norm):
            continue
        rate = learner.step(step)
        if loop.is_due(step, recipe.log_every):
            loop.write(step, {name: value.item() for name, value in losses.items()} | {"grad_norm": norm, "lr": rate})
        if loop.is_due(step, recipe.validate_every):
            validate(learner, held_out, loop, step)
    return export_last(loop, encoder, recipe.out / "encoder", learner="behaviour_encoder")


@torch.no_grad()
def validate(learner: Learner, held_out: Behaviour, loop: TrainingLoop, step: int) -> None:
    """Log how well the averaged weights' embeddings of held-out scenes can be read back."""
    assert learner.average is not None
    with learner.average.applied():
        said = learner.modules["heads"](learner.modules["model"](held_out))
    figures = {name: float(value) for name, value in behaviour_losses(said, held_out).items()}
    there, guess = ground_cells(held_out) > 0, said["ground"] > 0
    figures["ground_found"] = float((there & guess).sum() / there.sum())
    figures["ground_right"] = float((there & guess).sum() / guess.sum().clamp(min=1))
    for name, ids in zip(ROAD, held_out.road.unbind(1), strict=True):
        figures[name] = float((said[name].argmax(dim=1) == ids)[ids >= 0].float().mean())
    loop.write(step, {f"validation_{name}": value for name, value in figures.items()})
    loop.say(
        f"step {step}: of {int(there.sum())} cells with agents {figures['ground_found']:.2f} found, "
        f"{figures['ground_right']:.2f} of those that are said right; lanes {figures['number_of_lanes']:.2f}"
    )


@record
def main() -> None:
    """Read the options and train."""
    train(BehaviourRecipe.from_command_line(__doc__))


if __name__ == "__main__":
    main()
