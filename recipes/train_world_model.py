"""Train the latent world model with flow matching (paper §2.2, §4).

    python recipes/train_world_model.py --data runs/clips --tokenizer runs/tokenizer/tokenizer --out runs/world_model
    torchrun --nproc-per-node 8 recipes/train_world_model.py --preset paper --latents runs/latents ...

The clips of a folder are encoded once, or beforehand by `encode_latents.py`; without either, clips of the procedural
world are rendered on the way, so that none is seen often. Stop it at any time and start it again with the same words:
it goes on from its last checkpoint, also with another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from sample_videos import write_videos
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record

from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.conditioning.table import ConditionTable
from gaia2.data.balancing import parse_features
from gaia2.models import presets
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.alignment import BlockOutput, LeastSquares, MapAlignment
from gaia2.training.average import WeightAverage
from gaia2.training.export import export_last
from gaia2.training.learner import Learner
from gaia2.training.learning_rate import schedule
from gaia2.training.loop import TrainingLoop, samples_sum
from gaia2.training.maps import num_cell_maps
from gaia2.training.model_costs import world_model_cost
from gaia2.training.open_latents import open_latents
from gaia2.training.optimizers import OptimizerName, make_optimizer
from gaia2.training.parallel import prepare_model, reduce_after
from gaia2.training.plan import PlannedOptions, Workload, print_plan
from gaia2.training.precision import autocast, resolve_precision
from gaia2.training.ranks import Ranks, join_ranks
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_building import build_world_model, load_scenario_encoder
from gaia2.training.world_model_data import Batch, RenderedSource, ShardSource, Source, draw_batch
from gaia2.training.world_model_step import (
    WorldModelExample,
    WorldModelStep,
    counted,
    split_example,
    world_model_loss,
)
from gaia2.training.world_model_validation import validate_world_model

MAPS = dict(ray_map=True, agent_map=True, ground_map=True)  # arguments of the model that the option `maps` stands for
SOLVED_STEPS = 8  # the steps on whose batches the alignment's head is solved before the first of them
FRAME_RATE = 25.0  # of the paper's videos, on average, for the plan


@dataclass(frozen=True, kw_only=True)
class WorldModelRecipe(PlannedOptions):
    """How to train the world model; the defaults suit the mini preset on a CPU."""

    PAPER: ClassVar[dict[str, Any]] = dict(
        steps=460_000,
        batch_size=256,
        optimizer="adamw",
        learning_rate=5e-5,
        final_learning_rate=6.5e-6,
        cooldown_steps=None,
        warmup_steps=2_500,
        weight_decay=0.1,
        max_grad_norm=1.0,
        ema_decay=0.9999,
        condition_dropout=0.8,
        all_dropout=0.1,
        camera_dropout=0.1,
        lone_camera_share=0.0,
        agent_feature_dropout=0.3,
        cameras=(),
        weighted=False,
        hidden_maps=0.0,
        maps=False,
        near_noise_share=0.2,
        context_noise=0.0,
        context_share=0.2,
        inpainting_share=0.1,
        validation_clips=1024,
        validate_every=5_000,
        save_every=1_000,
        workers=8,
        activation_checkpointing="full",
    )
    REQUIRED: ClassVar[tuple[str, ...]] = ("tokenizer", "out")
    FREE: ClassVar[tuple[str, ...]] = (*PlannedOptions.FREE, "videos_every", "validate_first")

    tokenizer: Path
    """Folder of the trained tokenizer."""
    data: Path | None = None
    """Folder of clips, or of clip shards, to encode first; without it and `latents`, clips of the procedural world are
    rendered while the training goes on."""
    latents: Path | None = None
    """Folder of latent shards that encode_latents.py has made with the same tokenizer."""
    balanced: tuple[str, ...] = ()
    """Features whose joint distribution over the clips of `data` or `latents` is evened out (paper §3), for example
    `weather time_of_day speed:0,5,15`, numbers with the borders of their intervals; see `gaia2 data inspect`."""
    encode_first: bool = True
    """Encode the clips of `data` once, before the first step, into the folder of the run. Otherwise each window is
    encoded whenever a step draws it, and nothing more lies on disk; `workers` are then threads, and `data` clip shards.
    """
    image_encoder: str | None = None
    """Folder or hub id of a CLIP image encoder; with it the frames of `data` are the CLIP conditions."""
    start_from: Path | None = None
    """Folder of a trained world model to begin with, in place of random weights; its size takes precedence."""
    steps: int = 3000
    """Optimiser steps (paper: 460,000)."""
    batch_size: int = 16
    """Clips a step, over all ranks together (paper: 256)."""
    optimizer: OptimizerName = "adamw"
    """AdamW as in the paper (paper: adamw), or Muon for the weight matrices, which learns more in few steps."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up (paper: 5e-05)."""
    matrix_learning_rate: float = 1e-2
    """Rate of Muon after the warm-up."""
    final_learning_rate: float = 2e-5
    """Rate of AdamW at the end (paper: 6.5e-06); Muon's falls by the same factor."""
    cooldown_steps: int | None = None
    """Steps at the end in which the rates fall, after a flat stretch that can be made longer on a resume; None is a
    cosine over all steps (paper: None)."""
    warmup_steps: int = 150
    """Steps of linear rise (paper: 2,500)."""
    ema_decay: float = 0.998
    """Decay of the averaged weights (paper: 0.9999)."""
    condition_dropout: float = 0.8
    """Probability that a condition is dropped, each alone (paper: 0.8)."""
    all_dropout: float = 0.1
    """Probability that all are dropped (paper: 0.1)."""
    camera_dropout: float = 0.1
    """Probability that a camera view is dropped (paper: 0.1)."""
    lone_camera_share: float = 0.0
    """Share of samples that keep one camera only, for rigs of a single camera (paper: 0.0)."""
    agent_feature_dropout: float = 0.3
    """Probability that one of the 13 features of the agents is dropped (paper: 0.3)."""
    cameras: tuple[int, ...] = ()
    """Numbers of cameras that steps choose from; each sample then keeps a random subset of its cameras, and the step
    has more samples in return. Empty keeps all (paper: none given)."""
    weighted: bool = False
    """Let cells with agents, lights, crossings, lane marks count up to 4 times; rendered clips only (paper: False)."""
    hidden_maps: float = 0.0
    """Weight of aligning hidden states with maps of classes and depth; rendered clips only (paper: 0.0). With
    `start_from`, the head that predicts these begins as the best one for the weights as they are."""
    maps: bool = False
    """Tell cells where they look and which agents they hold, which the paper's learns by itself (paper: False); the
    mini preset does so anyway."""
    near_noise_share: float = 0.2
    """Share of flow times near noise, where the layout is decided (paper: 0.2)."""
    context_noise: float = 0.0
    """Given latents of a context are mixed with noise up to this share (paper: 0.0)."""
    scenario_encoder: Path | None = None
    """Folder of a trained `BehaviourEncoder`: some samples then have its embedding of their scene in place of speed,
    curvature, agents and road, the others have none; rendered clips only. None leaves scenario embeddings out."""
    scenario_share: float = 0.1
    """Share of these samples; used with `scenario_encoder` only."""
    context_share: float = 0.2
    """Share of samples that predict from context (paper: 0.2)."""
    inpainting_share: float = 0.1
    """Share of samples that fill a hole (paper: 0.1)."""
    validation_clips: int = 64
    """Clips at the beginning of the data that are never trained on; of rendered clips, a multiple of 64 (paper: 1,024).
    """
    validate_first: bool = False
    """Validate before the first step, too."""
    videos_every: int | None = None
    """Steps between sample videos of held-out scenes; none by default."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.data is not None or self.latents is not None
        if given and (self.weighted or self.hidden_maps):
            raise ValueError("weighted, hidden_maps: expected rendered clips, whose classes are known; leave out data")
        if self.data is not None and self.latents is not None:
            raise ValueError("data, latents: expected one of them, got both; latents need no clips")
        if not self.encode_first and (self.data is None or self.image_encoder is not None):
            raise ValueError("encode_first: expected true without data, and with image_encoder; leave it out")
        if given and self.scenario_encoder is not None:
            raise ValueError(
                "scenario_encoder: expected rendered clips; put the embeddings into the scenes of your data"
            )
        if self.balanced and not given:
            raise ValueError("balanced: expected data or latents; rendered clips are drawn evenly as they are")
        parse_features(self.balanced)
        if self.hidden_maps and self.context_ranks > 1:
            raise ValueError("context_ranks: expected 1 with hidden_maps, whose maps are not divided; leave one out")


def open_source(recipe: WorldModelRecipe, tokenizer: VideoTokenizer, model: WorldModel, ranks: Ranks) -> Source:
    """Where the latents come from; encodes clips that are not encoded yet."""
    if recipe.data is None and recipe.latents is None:
        encoder = load_scenario_encoder(recipe.scenario_encoder, model)
        return RenderedSource(
            recipe.out,
            getattr(presets, recipe.preset)(),
            tokenizer,
            shards=(recipe.first_shards, recipe.shards),
            steps_per_shard=recipe.steps_per_shard,
            num_held_out=recipe.validation_clips,
            with_maps=recipe.hidden_maps > 0,
            rays=recipe.rays,
            seed=recipe.seed,
            compile=recipe.compile_renderer,
            embed=None if encoder is None else encoder.embed,
            ranks=ranks,
        )
    data = open_latents(
        tokenizer,
        recipe.latents or recipe.out / "latents",
        clips=recipe.data,
        ranks=ranks,
        encode_first=recipe.encode_first,
        image_encoder=recipe.image_encoder,
        window=model.config.window_latents,
        conditions=model.conditions,
        precision=recipe.precision,
        threads=recipe.workers,
    )
    return ShardSource(
        data,
        recipe.validation_clips,
        recipe.steps,
        recipe.seed,
        ranks.device,
        recipe.workers if recipe.encode_first else 0,
        parse_features(recipe.balanced),
    )


def make_step(recipe: WorldModelRecipe, conditions: ConditionTable | None = None) -> WorldModelStep:
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
            conditions=conditions,
        ),
        context_noise=recipe.context_noise,
        scenario_share=None if recipe.scenario_encoder is None else recipe.scenario_share,
    )


def make_model(recipe: WorldModelRecipe, ranks: Ranks | None = None) -> WorldModel:
    """The model as it begins; where ranks share its weights, all but the main one have it on the meta device."""
    return build_world_model(
        getattr(presets, recipe.preset)().world_model,
        start_from=recipe.start_from,
        changes=MAPS if recipe.maps else {},
        seed=recipe.seed,
        weights=ranks is None or ranks.weights is None or ranks.is_main,
    )


def make_learner(
    recipe: WorldModelRecipe, model: WorldModel, ranks: Ranks, *, from_main: bool = False, base: str | None = None
) -> Learner:
    """The model with its optimizer, schedule and average, sharded over the ranks; see `prepare_model`, `Learner`."""
    modules = nn.ModuleDict({"model": model})
    if recipe.hidden_maps:
        torch.manual_seed(recipe.seed)  # the same in all ranks, whoever built the model
        modules["align"] = MapAlignment(dim=model.config.dim, num_maps=num_cell_maps(), weight=recipe.hidden_maps)
    bf16 = resolve_precision(recipe.precision, ranks.device) == "bf16"
    for name, module in modules.items():
        prepare_model(
            module,
            ranks,
            from_main=from_main and name == "model",
            activation_checkpointing=recipe.activation_checkpointing,
            compile=recipe.compile,
            bf16=bf16,
        )
    optimizer = make_optimizer(
        modules,
        recipe.optimizer,
        learning_rate=recipe.learning_rate,
        matrix_learning_rate=recipe.matrix_learning_rate,
        weight_decay=recipe.weight_decay,
        betas=(0.9, 0.99),
    )
    rate = schedule(
        total=recipe.steps,
        warmup=recipe.warmup_steps,
        cooldown=recipe.cooldown_steps,
        final=recipe.final_learning_rate / recipe.learning_rate,
    )
    return Learner(modules, optimizer, rate, recipe.max_grad_norm, WeightAverage(model, recipe.ema_decay), base)


def train(recipe: WorldModelRecipe) -> Path:
    """Run the recipe; returns the folder of the trained world model."""
    with join_ranks(
        recipe.device,
        shard_ranks=recipe.shard_ranks,
        context_ranks=recipe.context_ranks,
        timeout_minutes=recipe.timeout_minutes,
    ) as ranks:
        tokenizer = VideoTokenizer.from_pretrained(recipe.tokenizer).to(ranks.device).eval()
        model = make_model(recipe, ranks)
        loop = train_model(recipe, ranks, tokenizer, model, from_main=True)
        return export_last(loop, model, recipe.out / "transformer", learner="world_model")


def train_model(
    recipe: WorldModelRecipe,
    ranks: Ranks,
    tokenizer: VideoTokenizer,
    model: WorldModel,
    *,
    from_main: bool = False,
    base: str | None = None,
) -> TrainingLoop:
    """Train a model; its last checkpoint is in the loop that comes back.

    `from_main` is as in `prepare_model`, `base` as in `Learner`.
    """
    ranks.samples(recipe.batch_size)
    own, made = model.config.latent_channels, tokenizer.config.latent_channels
    if own != made:
        raise ValueError(
            f"tokenizer: expected latents of the model's {own} channels, got {made} of {recipe.tokenizer}; take the "
            "tokenizer of this preset, or of the model in start_from"
        )
    source = open_source(recipe, tokenizer, model, ranks)
    hidden = BlockOutput(model.transformer_blocks[len(model.transformer_blocks) // 2]) if recipe.hidden_maps else None
    learner = make_learner(recipe, model, ranks, from_main=from_main, base=base)
    step_of = make_step(recipe, model.conditions)
    loop = TrainingLoop("world model", recipe, {"world_model": learner}, ranks)

    def draw(step: int) -> tuple[Batch, WorldModelExample]:
        batch = draw_batch(source, step, ranks, recipe.batch_size, recipe.cameras, recipe.seed + 2, model.conditions)
        return batch, step_of.draw_each(batch.tensors["x"], batch.conditioning, batch.generators)

    if recipe.validate_first and loop.resume() == 0:
        validate(recipe, learner, source, loop, 0)
    if hidden is not None and recipe.start_from is not None and loop.resume() == 0:
        solve_alignment(recipe, learner, hidden, map(draw, range(1, SOLVED_STEPS + 1)), ranks)
    for step in loop:
        batch, example = draw(step)
        weight = batch.tensors["weight"] if recipe.weighted else None
        total, tokens = ranks.sum(counted(example, weight), counted(example))
        size = recipe.micro_batch_size or len(example.tau)
        loss = torch.zeros((), device=ranks.device)
        parts = split_example(example, size)
        for number, part in enumerate(parts):
            rows = slice(number * size, (number + 1) * size)
            with autocast(recipe.precision, ranks.device):
                own = world_model_loss(model, part, None if weight is None else weight[rows], total=total)
            loss += own.detach()
            if hidden is not None:
                assert hidden.value is not None
                aligned = learner.modules["align"](hidden.value, batch.tensors["maps"][rows], part.counts)
                own = own + part.counts.sum() / max(tokens, 1) * aligned
            reduce_after(learner.modules, last=number == len(parts) - 1)
            (own * ranks.world).backward()  # sharding takes the mean over the ranks, and this is a sum

        norm = learner.clip()
        (loss_sum,) = ranks.sum(loss)
        if loop.is_spoilt(step, loss=loss_sum, norm=norm, batch={**batch.tensors, **batch.conditioning}):
            continue
        rate = learner.step(step)

        if loop.is_due(step, recipe.log_every):
            model.record_trained(batch.conditioning)
            seen = samples_sum(batch.names, ranks)
            loop.write(step, {"loss": loss_sum, "grad_norm": norm, "lr": rate, "samples": seen})
        if loop.is_due(step, recipe.validate_every):
            validate(recipe, learner, source, loop, step)
        if recipe.videos_every is not None and loop.is_due(step, recipe.videos_every):
            write_videos(learner, tokenizer, source.scenes(2), loop, step, seed=recipe.seed)
    return loop


def solve_alignment(
    recipe: WorldModelRecipe,
    learner: Learner,
    hidden: BlockOutput,
    batches: Iterable[tuple[Batch, WorldModelExample]],
    ranks: Ranks,
) -> None:
    """Let the alignment's head begin as the best one there is for the model as it is, on a few batches."""
    fit: LeastSquares | None = None
    with torch.no_grad(), autocast(recipe.precision, ranks.device), torch.compiler.set_stance("force_eager"):
        for batch, example in batches:
            size = recipe.micro_batch_size or len(example.tau)
            for part, maps in zip(split_example(example, size), batch.tensors["maps"].split(size), strict=True):
                world_model_loss(learner.model, part)
                assert hidden.value is not None
                fit = fit or LeastSquares(dim=hidden.value.shape[-1], num_maps=maps.shape[-1])
                fit.add(hidden.value, maps, part.counts)
    assert fit is not None
    learner.modules["align"].begin_with(*fit.solve(ranks))


def validate(recipe: WorldModelRecipe, learner: Learner, source: Source, loop: TrainingLoop, step: int) -> None:
    """Log the losses of the averaged weights on held-out clips."""
    assert learner.average is not None
    ranks = loop.ranks
    with (
        learner.average.applied(),
        autocast(recipe.precision, ranks.device),
        torch.compiler.set_stance("force_eager"),  # sizes differ: no recompiling
    ):
        batches = source.held_out(max(1, recipe.batch_size // ranks.data_ranks), ranks)
        losses = validate_world_model(learner.model, batches, source.num_held_out, source.mean, ranks)
    loop.write(step, {f"validation_{name}": value for name, value in losses.items()})
    loop.say(f"step {step}: held-out loss {losses['loss']:.4f}, {losses['ratio']:.3f} of mean velocity")


def plan(recipe: WorldModelRecipe) -> Workload:
    """What the run will cost; nothing is allocated."""
    preset = getattr(presets, recipe.preset)()
    cost = world_model_cost(replace(preset, world_model=preset.world_model | MAPS) if recipe.maps else preset)
    return recipe.workload("world model", cost, seconds=preset.num_frames / FRAME_RATE, keeps_latents=True)


@record
def main() -> None:
    """Read the options and train."""
    recipe = WorldModelRecipe.from_command_line(__doc__)
    if recipe.plan:
        raise SystemExit(print_plan(plan(recipe)))
    train(recipe)


if __name__ == "__main__":
    main()
