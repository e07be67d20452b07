"""Train the latent world model with flow matching (paper §2.2, §4).

    python recipes/train_world_model.py --data runs/clips --tokenizer runs/tokenizer/tokenizer --out runs/world_model
    torchrun --nproc-per-node 8 recipes/train_world_model.py --preset paper --latents runs/latents ...

The clips of a folder are encoded once, or beforehand by `encode_latents.py`; without either, clips of the procedural
world are rendered on the way, so that none is seen often. Stop it at any time and start it again with the same words:
it goes on from its last checkpoint, also with another number of processes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from sample_videos import write_videos
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from world_model_options import WorldModelRecipe

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
from gaia2.training.optimizers import make_optimizer
from gaia2.training.parallel import prepare_model, reduce_after
from gaia2.training.plan import Workload, print_plan
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
    alignment = learner.modules["align"]
    assert isinstance(alignment, MapAlignment)
    fit = LeastSquares(dim=alignment.head.in_features, num_maps=alignment.head.out_features)
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for batch, example in batches:
            size = recipe.micro_batch_size or len(example.tau)
            for part, maps in zip(split_example(example, size), batch.tensors["maps"].split(size), strict=True):
                with autocast(recipe.precision, ranks.device):
                    world_model_loss(learner.model, part)
                assert hidden.value is not None
                fit.add(hidden.value, maps, part.counts)
    alignment.begin_with(*fit.solve(ranks))


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
