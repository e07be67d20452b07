"""Distil a released world model to few steps: a student learns to do in one step what the model does in several.

    python recipes/distill.py --out runs/eight_steps
    python recipes/distill.py --num-inference-steps 4 --guidance-scale 3 --data runs/my_clips --out runs/four_steps

Without `--model` it is the model inside the package, and without data clips of the procedural world are rendered. The
result is an adapter, or new weights, for `--num-inference-steps` steps of the pipeline's scheduler; one that is
distilled from guidance is used without it. How far the student's videos end from the model's own of many steps, from
the same noise, is in `report.json`. Stop it at any time and start it again with the same words.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from few_steps_comparison import Comparison
from finetune import TARGETS, add_adapter, export_lora, find_pipeline, make_adapted, write_before_and_after
from torch import nn
from torch.distributed.elastic.multiprocessing.errors import record
from train_world_model import FRAME_RATE, make_learner, open_source
from world_model_options import WorldModelRecipe

from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.dropout import ConditioningDropout, drop_all
from gaia2.models import presets
from gaia2.models.lora import check_peft
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.export import export_last
from gaia2.training.few_steps import Velocity, few_step_loss, frozen_velocity, teacher_times
from gaia2.training.learner import Learner
from gaia2.training.loop import TrainingLoop, samples_sum
from gaia2.training.model_costs import world_model_cost
from gaia2.training.parallel import prepare_model, reduce_after
from gaia2.training.plan import PlannedOptions, Workload, print_plan
from gaia2.training.precision import autocast, resolve_precision
from gaia2.training.ranks import Ranks, join_ranks
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_data import Source, draw_batch
from gaia2.training.world_model_step import WorldModelExample, WorldModelStep, counted, split_example

STUDENT_TARGETS = (*TARGETS, "mlp.up", "mlp.down", "to_shift_scale")
"""The flow time acts by the last: at the student's it has to answer for a whole step."""
NOISE = BimodalLogitNormal(mean=-1000.0, std=0.0, secondary_probability=0.0)
"""Flow times that are all 0."""


@dataclass(frozen=True, kw_only=True)
class DistillRecipe(PlannedOptions):
    """How to distil; the defaults suit LoRA on the default model on a CPU."""

    PAPER: ClassVar[dict[str, Any]] = dict(
        steps=2_000, batch_size=64, cameras=(), workers=8, activation_checkpointing="full", ema_decay=0.99
    )
    FREE: ClassVar[tuple[str, ...]] = (*PlannedOptions.FREE, "compared_clips", "compared_steps", "reference_steps")

    model: str | None = None
    """Folder or hub id of a pipeline; the package's default model if not given."""
    data: Path | None = None
    """Folder of clips, or of clip shards; without it and `latents`, clips of the procedural world are rendered."""
    latents: Path | None = None
    """Folder of latent shards that encode_latents.py has made with the pipeline's tokenizer."""
    num_inference_steps: int = 8
    """Steps that the student generates in, on the grid of the pipeline's scheduler."""
    teacher_steps: int = 6
    """Steps of the teacher for one of the student's, at most; fewer where those are short."""
    guidance_scale: float = 1.0
    """Guidance of the teacher over all conditions, which the student learns without a second branch; 1 is none."""
    method: Literal["lora", "full"] = "lora"
    """Small matrices beside those of the blocks, a file of a few megabytes; or all weights."""
    lora_rank: int = 16
    """Rank of the small matrices."""
    adapter: Path | None = None
    """Folder of an adapter to begin with, of the same rank, such as that of earlier weights; a new one if not given."""
    steps: int = 120
    """Optimiser steps."""
    batch_size: int = 4
    """Videos a step, over all ranks together; each goes the whole way from noise to data."""
    cameras: tuple[int, ...] = (1, 3, 6)
    """Numbers of cameras that steps choose from; with fewer a step has more samples in return. Empty keeps all."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up; about a tenth of it suits `full`."""
    warmup_steps: int = 10
    """Steps of linear rise; then a cosine falls to a tenth."""
    ema_decay: float = 0.95
    """Decay of the averaged weights."""
    condition_dropout: float = 0.1
    """Probability that a condition is dropped, each alone."""
    context_share: float = 0.2
    """Share of samples that predict from context."""
    inpainting_share: float = 0.1
    """Share of samples that fill a hole."""
    validation_clips: int = 64
    """Clips at the beginning of the data that are never trained on; of rendered clips, a multiple of 64."""
    compared_clips: int = 8
    """Of them, those whose ends are compared."""
    compared_steps: tuple[int, ...] = (4, 8)
    """Numbers of steps at which student and teacher are compared, besides the student's own."""
    reference_steps: int = 50
    """Steps of the teacher's video that they are compared with."""
    shards: int = 4
    """Shards of 64 rendered clips, and their mirror images, that there are at most."""
    first_shards: int = 4
    """Shards that there are before the first step."""
    steps_per_shard: int = 120
    """Steps between one new shard and the next."""
    compile_renderer: bool = False
    """Compile the renderer with torch.compile; needs a C++ compiler."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_inference_steps", "teacher_steps", "lora_rank", "compared_clips", "reference_steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.adapter is not None and (self.method == "full" or not self.adapter.is_dir()):
            raise ValueError(
                f"adapter: expected the folder of an adapter, and method lora, got {self.adapter} and "
                f"{self.method}; name a folder that there is, or leave it out"
            )
        if not self.guidance_scale > 0:
            raise ValueError(f"guidance_scale: expected 1 for none, or a positive number, got {self.guidance_scale}")

    def as_training(self, pipeline: Path) -> WorldModelRecipe:
        """The same as a training of the world model: where its data come from, and its optimizer."""
        named = {field.name for field in fields(WorldModelRecipe)} & {field.name for field in fields(self)}
        return WorldModelRecipe(
            **{name: getattr(self, name) for name in named},
            tokenizer=pipeline / "vae",
            final_learning_rate=self.learning_rate / 10,
        )


@dataclass
class Distillation:
    """Student, teacher, and the flow times of both.

    Attributes:
        recipe: Its options.
        student: The model that learns; with adapters, the teacher too.
        frozen: The teacher where it is a model of its own.
        scheduler: Of the pipeline; lays the grids.
        ranks: The processes.
    """

    recipe: DistillRecipe
    student: WorldModel
    frozen: WorldModel | None
    scheduler: FlowMatchScheduler
    ranks: Ranks

    def grid(self, steps: int) -> list[float]:
        """Flow times of so many steps."""
        return flow_times(self.scheduler, steps)

    def teaching(self) -> AbstractContextManager[nn.Module]:
        """Within the block its value is the teacher."""
        return _without_adapters(self.student) if self.frozen is None else nullcontext(self.frozen)

    def teacher(
        self, latents: torch.Tensor, conditioning: Conditioning, known_mask: torch.Tensor | None = None
    ) -> Velocity:
        """The teacher's velocity, guided if it is to be."""
        scale = self.recipe.guidance_scale
        free = None if scale == 1 else drop_all(conditioning, self.student.conditions)
        h, w = latents.shape[3:5]
        with self.teaching() as model:
            velocity_of = frozen_velocity(model, conditioning, (h, w), known_mask, free=free, scale=scale)

        def taught(x: torch.Tensor, tau: float) -> torch.Tensor:
            with self.teaching():
                return velocity_of(x, tau)

        return taught

    def learn(self, learner: Learner, example: WorldModelExample, total: float) -> torch.Tensor:
        """Gradients of the whole way from noise to data of some samples; gives their share of the step's loss.

        Args:
            learner: What is trained.
            example: Samples that begin at noise.
            total: Tokens that count in all samples of the step.
        """
        known, size = example.known_mask, self.recipe.micro_batch_size or len(example.tau)
        ways = teacher_times(self.grid(self.recipe.num_inference_steps), self.recipe.teacher_steps)
        loss = torch.zeros((), device=example.noisy.device)
        parts = split_example(example, size)
        for number, part in enumerate(parts):
            latents, known = part.noisy, part.known_mask
            weight = float(counted(part)) / max(total, 1.0) / len(ways)

            def student(x: torch.Tensor, tau: float, part: WorldModelExample = part) -> torch.Tensor:
                at = torch.full((len(x),), tau, device=x.device)
                return self.student(x, at, part.conditioning, known_mask=part.known_mask).sample

            teacher = self.teacher(latents, part.conditioning, known)
            for place, times in enumerate(ways):
                own, latents = few_step_loss(student, teacher, latents, times, known)
                loss += weight * own.detach()
                reduce_after(learner.modules, last=number == len(parts) - 1 and place == len(ways) - 1)
                (weight * own * self.ranks.world).backward()  # sharding takes the mean over the ranks: this is a sum
        return loss


def flow_times(scheduler: FlowMatchScheduler, steps: int) -> list[float]:
    """The scheduler's grid of so many steps, from 0 to 1."""
    scheduler.set_timesteps(steps)
    return scheduler.grid.tolist()


@contextmanager
def _without_adapters(model: WorldModel) -> Iterator[WorldModel]:
    """Within the block the model is as it was before it got adapters; what is to be trained stays so.

    Shards learn at the first pass of a model, which may be the teacher's, what of it is trained and in which precision.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.disable_adapters()
    for parameter in trained:
        parameter.requires_grad_(True)
    try:
        yield model
    finally:
        model.enable_adapters()


def make_adapter(recipe: DistillRecipe, pipeline: Path) -> tuple[WorldModel, str]:
    """The student as it begins, with its adapter, and the hash of its other weights."""
    return make_adapted(pipeline, recipe.lora_rank, STUDENT_TARGETS, recipe.seed, recipe.adapter)


def make_teacher(recipe: DistillRecipe, pipeline: Path, ranks: Ranks) -> WorldModel:
    """A model of its own, beside a student all of whose weights are trained."""
    teacher = WorldModel.from_pretrained(pipeline / "transformer").requires_grad_(False).eval()
    prepare_model(teacher, ranks, bf16=resolve_precision(recipe.precision, ranks.device) == "bf16")
    return teacher


def make_step(recipe: DistillRecipe, model: WorldModel) -> WorldModelStep:
    """What a step draws: a task and noise; all conditions are dropped only where guidance is to be possible after."""
    return WorldModelStep(
        tasks=TaskSampler(context=recipe.context_share, inpainting=recipe.inpainting_share),
        times=NOISE,
        dropout=ConditioningDropout(
            individual=recipe.condition_dropout,
            all=0.1 if recipe.guidance_scale == 1 else 0.0,
            camera=0.0,
            agent_feature=0.0,
            agent_instances=False,
            conditions=model.conditions,
        ),
    )


def train(recipe: DistillRecipe) -> Path:
    """Run the recipe; returns the folder of the adapter, or of the world model."""
    pipeline = find_pipeline(recipe.model)
    training = recipe.as_training(pipeline)
    with join_ranks(
        recipe.device,
        shard_ranks=recipe.shard_ranks,
        context_ranks=recipe.context_ranks,
        timeout_minutes=recipe.timeout_minutes,
    ) as ranks:
        ranks.samples(recipe.batch_size)
        tokenizer = VideoTokenizer.from_pretrained(pipeline / "vae").to(ranks.device).eval()
        base, frozen = None, None
        if recipe.method == "lora":
            student, base = make_adapter(recipe, pipeline)
        else:
            student = WorldModel.from_pretrained(pipeline / "transformer").train()
            frozen = make_teacher(recipe, pipeline, ranks)
        scheduler = FlowMatchScheduler.from_pretrained(pipeline / "scheduler")
        source = open_source(training, tokenizer, student, ranks)
        learner = make_learner(training, student, ranks, base=base)
        loop = TrainingLoop("distillation", recipe, {"world_model": learner}, ranks)
        run(Distillation(recipe, student, frozen, scheduler, ranks), learner, source, loop)
        if recipe.method == "lora":
            folder = export_lora(lambda: make_adapter(recipe, pipeline)[0], loop)
        else:
            folder = export_last(loop, student, recipe.out / "transformer", learner="world_model")
        if ranks.is_main:
            write_before_and_after(recipe.out)
    return folder


def run(distillation: Distillation, learner: Learner, source: Source, loop: TrainingLoop) -> None:
    """The steps of the training that are left."""
    recipe, ranks, conditions = distillation.recipe, loop.ranks, distillation.student.conditions
    step_of = make_step(recipe, distillation.student)
    comparison = Comparison(distillation, learner, source)
    if loop.resume() == 0:
        comparison.write(loop, 0)
    for step in loop:
        batch = draw_batch(source, step, ranks, recipe.batch_size, recipe.cameras, recipe.seed + 2, conditions)
        example = step_of.draw_each(batch.tensors["x"], batch.conditioning, batch.generators)
        (total,) = ranks.sum(counted(example))
        with autocast(recipe.precision, ranks.device):
            loss = distillation.learn(learner, example, total)
        norm = learner.clip()
        (loss_sum,) = ranks.sum(loss)
        if loop.is_spoilt(step, loss=loss_sum, norm=norm, batch={**batch.tensors, **batch.conditioning}):
            continue
        rate = learner.step(step)
        if loop.is_due(step, recipe.log_every):
            seen = samples_sum(batch.names, ranks)
            loop.write(step, {"loss": loss_sum, "grad_norm": norm, "lr": rate, "samples": seen})
        if loop.is_due(step, recipe.validate_every):
            comparison.write(loop, step)


def plan(recipe: DistillRecipe) -> Workload:
    """What the run will cost, for a model of the preset; nothing is allocated."""
    preset, adapt = getattr(presets, recipe.preset)(), None
    if recipe.method == "lora":
        check_peft()
        adapt = partial(add_adapter, rank=recipe.lora_rank, targets=STUDENT_TARGETS)
    cost = world_model_cost(preset, adapt=adapt)
    ways = teacher_times(flow_times(FlowMatchScheduler(), recipe.num_inference_steps), recipe.teacher_steps)
    branches = 1 if recipe.guidance_scale == 1 else 2
    taught = branches * sum(len(times) - 1 for times in ways)
    one, passes = cost.forward, len(ways)  # one after the other: their activations are not there at once
    whole = replace(
        one,
        flops=(passes + taught) * one.flops,
        backward_flops=passes * one.backward_flops,
        block_flops=passes * one.block_flops,
        selective_flops=passes * one.selective_flops,
    )
    frozen = cost.frozen if recipe.method == "lora" else cost.parameters
    return recipe.workload(
        f"distillation of a world model ({recipe.method})",
        replace(cost, forward=whole, frozen=frozen),
        seconds=preset.num_frames / FRAME_RATE,
        keeps_latents=True,
        frozen_saved=False,
        uncounted=f"the exchange of weights in all but one of the {passes + taught} passes of a sample",
    )


@record
def main() -> None:
    """Read the options and distil."""
    recipe = DistillRecipe.from_command_line(__doc__)
    if recipe.plan:
        raise SystemExit(print_plan(plan(recipe)))
    folder = train(recipe)
    print(f"written to {folder}")
    if recipe.guidance_scale != 1:
        print("generate with guidance_scale=1: the guidance of the teacher is in the weights")


if __name__ == "__main__":
    main()
