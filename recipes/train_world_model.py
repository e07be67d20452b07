"""Train the latent world model with flow matching (paper §2.2, §4).

    python recipes/train_world_model.py --data data/clips --tokenizer runs/tokenizer/tokenizer --out runs/world_model

The clips of a folder are encoded once; without a folder, clips of the procedural world are rendered on the way, so that
none is seen often. Stop it at any time and start it again with the same words: it goes on from its last
checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import torch
import tyro
from diffusers.training_utils import EMAModel
from torch import nn
from tqdm import tqdm

from gaia2._files import replacing
from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.conditioning.timestamp import relative_to_present
from gaia2.data.clip_folder import ClipFolder
from gaia2.data.procedural import ProceduralWorld
from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.path import interpolate, velocity
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.alignment import BlockOutput, MapAlignment
from gaia2.training.export import export_model
from gaia2.training.latents import LatentDataset
from gaia2.training.learning_rate import warmup_cooldown, warmup_cosine
from gaia2.training.logging import ScalarLog
from gaia2.training.maps import num_cell_maps
from gaia2.training.optimizers import OptimizerName, make_optimizer
from gaia2.training.rendered_latents import RenderedLatents
from gaia2.training.sampling import step_generator
from gaia2.training.state import TrainingState
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_step import WorldModelStep, choose_cameras, world_model_loss

Batch = tuple[dict[str, torch.Tensor], Conditioning]


@dataclass(frozen=True)
class WorldModelRecipe:
    """How to train the world model; the defaults suit the mini preset on a CPU."""

    tokenizer: Path
    """Folder of the trained tokenizer."""
    out: Path
    """Folder for checkpoints, logs and the trained model."""
    data: Path | None = None
    """Folder of clips; without it, clips of the procedural world are rendered while the training goes on."""
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
    """Rate of AdamW at the end (paper: 6.5e-6); Muon's falls by the same factor."""
    cooldown_steps: int | None = None
    """Steps at the end in which the rates fall, after a flat stretch that can be made longer on a resume; None is a
    cosine over all steps (paper)."""
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
    agent_feature_dropout: float = 0.3
    """Probability that one of the 13 features of the agents is dropped (paper: 0.3)."""
    cameras: tuple[int, ...] = ()
    """Numbers of cameras that steps choose from; each sample then keeps a random subset of its cameras, and the step
    has more samples in return. Empty keeps all (paper)."""
    weighted: bool = False
    """Let cells with agents, lights, crossings and lane marks count up to 4 times; rendered clips only (paper: no)."""
    hidden_maps: float = 0.0
    """Weight of aligning hidden states with maps of classes and depth; rendered clips only (paper: none)."""
    near_noise_share: float = 0.2
    """Share of flow times near noise, where the layout is decided (paper: 0.2)."""
    context_noise: float = 0.0
    """Given latents of a context are mixed with noise up to this share (paper: none)."""
    context_share: float = 0.2
    """Share of samples that predict from context (paper: 0.2)."""
    inpainting_share: float = 0.1
    """Share of samples that fill a hole (paper: 0.1)."""
    validation_clips: int = 64
    """Clips at the beginning of the folder that are never trained on; of rendered clips, a multiple of 64."""
    shards: int = 200
    """Shards of 64 rendered clips, and their mirror images, that there are at most."""
    first_shards: int = 9
    """Shards that there are before the first step."""
    steps_per_shard: int = 120
    """Steps between one new shard and the next."""
    compile_renderer: bool = False
    """Compile the renderer with torch.compile; needs a C++ compiler."""
    rays: int = 2
    """Rays of a rendered pixel."""
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


class Source(Protocol):
    """Where the training's latents come from."""

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch: ...

    def held_out(self, size: int) -> Iterator[Batch]: ...

    def mean(self, like: torch.Tensor) -> torch.Tensor: ...


class FolderSource:
    """Clips of a folder, encoded once."""

    def __init__(self, recipe: WorldModelRecipe, tokenizer: VideoTokenizer) -> None:
        assert recipe.data is not None
        self.recipe = recipe
        folder, cache = ClipFolder(recipe.data), recipe.out / "latents.pt"
        self.data = LatentDataset.encode(folder, tokenizer, cache=cache, held_out=recipe.validation_clips)
        self.data = self.data.to(recipe.device)

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch:
        """Random clips."""
        rows = torch.randint(self.recipe.validation_clips, len(self.data), (size,), generator=generator)
        x, conditioning = self.data.batch(rows, generator)
        return {"x": x}, conditioning

    def held_out(self, size: int) -> Iterator[Batch]:
        """All held-out clips, always with the same noise."""
        for rows in torch.arange(self.recipe.validation_clips).split(size):
            x, conditioning = self.data.batch(rows, step_generator(123, int(rows[0])))
            yield {"x": x}, conditioning

    def mean(self, like: torch.Tensor) -> torch.Tensor:
        """Mean of the normalised latents of the training clips."""
        return self.data.mean_latents.expand_as(like)


class RenderedSource:
    """Clips of the procedural world that are rendered while the training goes on."""

    def __init__(self, recipe: WorldModelRecipe, tokenizer: VideoTokenizer) -> None:
        self.recipe = recipe
        preset = getattr(presets, recipe.preset)()
        shared = dict(
            image_size=preset.image_size,
            num_frames=preset.num_frames,
            rays=recipe.rays,
            device=recipe.device,
            compile=recipe.compile_renderer,
        )
        rates = (10.0, 10.0, 12.0, 15.0, 20.0, 30.0)
        around = ProceduralWorld(rig="random", num_cameras=6, frame_rates=rates, **shared)
        some = ProceduralWorld(rig="random", num_cameras=5, frame_rates=rates, **shared)
        named = ProceduralWorld(rig="surround", frame_rates=(10.0, 20.0), **shared)
        worlds = (around, some, named)
        self.data = RenderedLatents(
            recipe.out / "latents", worlds, tokenizer, with_maps=recipe.hidden_maps > 0, mirrored=True
        )
        self.other = RenderedLatents(recipe.out / "held_out", worlds, tokenizer, first_seed=1000)
        self.data.grow(recipe.first_shards)
        self.other.grow(recipe.validation_clips // self.other.clips)

    def shards_at(self, step: int) -> int:
        """Shards that a step draws from."""
        return min(self.recipe.shards, self.recipe.first_shards + step // self.recipe.steps_per_shard)

    def batch(self, step: int, size: int, generator: torch.Generator) -> Batch:
        """Random clips of the shards that there are at a step."""
        tensors, conditioning = self.data.batch(self.shards_at(step), size, generator)
        return _to(tensors, self.recipe.device), _to(conditioning, self.recipe.device)

    def held_out(self, size: int) -> Iterator[Batch]:
        """Clips that are never trained on, always the same."""
        for shard in self.other.shards:
            for rows in torch.arange(self.other.clips).split(size):
                x = shard["mean"][rows].float()
                conditioning = {name: value[rows] for name, value in shard["conditioning"].items()}
                yield _to({"x": x}, self.recipe.device), _to(conditioning, self.recipe.device)

    def mean(self, like: torch.Tensor) -> torch.Tensor:
        """Mean of the normalised latents of the first shards, over cameras too."""
        means = [shard["mean"].float().mean(dim=(0, 2)) for shard in self.data.shards[: self.recipe.first_shards]]
        return torch.stack(means).mean(dim=0)[None, :, None].to(like.device).expand_as(like)


def _to(tensors: dict[str, torch.Tensor], device: str) -> dict[str, torch.Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


@torch.no_grad()
def validate(model: WorldModel, source: Source, batch_size: int) -> tuple[float, float]:
    """Loss from scratch on held-out clips, with all conditions, and that of predicting the mean velocity.

    Flow times and noise are always the same, the flow times evenly spread over their distribution.
    """
    losses, references = [], []
    for index, (tensors, conditioning) in enumerate(source.held_out(batch_size)):
        x = tensors["x"]
        generator = step_generator(321, index)
        tau = BimodalLogitNormal().sample(len(x), generator=generator).to(x.device)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        conditioning["timestamps"] = relative_to_present(conditioning["timestamps"], torch.zeros_like(tau).long())
        predicted = model(interpolate(x, eps, tau), tau, conditioning).sample
        losses.append(flow_matching_loss(predicted, velocity(x, eps)))
        references.append(flow_matching_loss(source.mean(x), velocity(x, eps)))
    return float(torch.stack(losses).mean()), float(torch.stack(references).mean())


def draw_batch(recipe: WorldModelRecipe, source: Source, step: int, generator: torch.Generator) -> Batch:
    """The clips of a step, with as many of their cameras as the step has."""
    size, count = recipe.batch_size, 0
    if recipe.cameras:
        count = recipe.cameras[int(torch.randint(len(recipe.cameras), (), generator=generator))]
        size = max(1, round(recipe.batch_size * max(recipe.cameras) / count))
    tensors, conditioning = source.batch(step, size, generator)
    if count and count < tensors["x"].shape[2]:
        tensors, conditioning = choose_cameras(tensors, conditioning, count, generator)
    return tensors, conditioning


def make_step(recipe: WorldModelRecipe) -> WorldModelStep:
    """What a step draws."""
    return WorldModelStep(
        tasks=TaskSampler(context=recipe.context_share, inpainting=recipe.inpainting_share),
        times=BimodalLogitNormal(secondary_probability=recipe.near_noise_share),
        dropout=ConditioningDropout(
            individual=recipe.condition_dropout,
            all=recipe.all_dropout,
            camera=recipe.camera_dropout,
            alone=recipe.lone_camera_share,
            agent_feature=recipe.agent_feature_dropout,
            agent_instances=recipe.agent_feature_dropout > 0,
        ),
        context_noise=recipe.context_noise,
    )


def learning_rate(recipe: WorldModelRecipe) -> Callable[[int], float]:
    """Factor of the base rates at a step."""
    shared = dict(
        total=recipe.steps, warmup=recipe.warmup_steps, final=recipe.final_learning_rate / recipe.learning_rate
    )
    if recipe.cooldown_steps is None:
        return partial(warmup_cosine, **shared)
    return partial(warmup_cooldown, cooldown=recipe.cooldown_steps, **shared)


def train(recipe: WorldModelRecipe) -> Path:
    """Run the recipe; returns the folder of the trained world model."""
    if recipe.data is not None and (recipe.weighted or recipe.hidden_maps):
        raise ValueError("weighted, hidden_maps: expected rendered clips, whose classes are known; leave out the data")
    tokenizer = VideoTokenizer.from_pretrained(recipe.tokenizer).to(recipe.device).eval()
    autocast = torch.autocast(recipe.device.split(":")[0], torch.bfloat16, enabled=recipe.bf16)
    source: Source
    if recipe.data is None:
        source = RenderedSource(recipe, tokenizer)
    else:
        with autocast:
            source = FolderSource(recipe, tokenizer)

    torch.manual_seed(recipe.seed)
    if recipe.start_from is None:
        model = WorldModel(**getattr(presets, recipe.preset)().world_model)
    else:
        model = WorldModel.from_pretrained(recipe.start_from).train()
    learner = nn.ModuleDict({"model": model})
    hidden = None
    if recipe.hidden_maps:
        learner["align"] = MapAlignment(dim=model.config.dim, num_maps=num_cell_maps(), weight=recipe.hidden_maps)
        hidden = BlockOutput(model.transformer_blocks[len(model.transformer_blocks) // 2])
    learner.to(recipe.device)
    step_of = make_step(recipe)
    optimizer = make_optimizer(
        learner,
        recipe.optimizer,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, learning_rate(recipe))
    ema = EMAModel(model.parameters(), decay=recipe.ema_decay)
    others = {"align": learner["align"]} if recipe.hidden_maps else {}
    state = TrainingState(model, optimizer, schedule, ema, others=others)
    start = state.resume(recipe.out / "training.pt", recipe.device)
    with replacing(recipe.out / "recipe.json") as unfinished:
        unfinished.write_text(json.dumps(asdict(recipe), default=str, indent=2))

    if recipe.compile:
        model.compile_repeated_blocks()
    log = ScalarLog(recipe.out, start=start)
    progress = tqdm(range(start + 1, recipe.steps + 1), desc="world model", initial=start, total=recipe.steps)
    for step in progress:
        generator = step_generator(recipe.seed, step)
        tensors, conditioning = draw_batch(recipe, source, step, generator)
        example = step_of.draw(tensors["x"], conditioning, generator)
        with autocast:
            loss = world_model_loss(model, example, tensors["weight"] if recipe.weighted else None)
        total = loss
        if hidden is not None:
            assert hidden.value is not None
            counts = ~example.known_mask & example.camera_mask[:, None, :, None, None]
            total = loss + learner["align"](hidden.value, tensors["maps"], counts)
        total.backward()
        norm = nn.utils.clip_grad_norm_(learner.parameters(), recipe.max_grad_norm, error_if_nonfinite=True)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.step(model.parameters())

        if step % 10 == 0:
            log.write(step, {"loss": loss.item(), "grad_norm": norm.item(), "lr": schedule.get_last_lr()[0]})
            progress.set_postfix(loss=f"{loss.item():.4f}")
        if step % recipe.validate_every == 0 or step == recipe.steps:
            with state.averaged(), autocast, torch.compiler.set_stance("force_eager"):  # sizes differ: no recompiling
                held_out, mean_velocity = validate(model, source, recipe.batch_size)
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
