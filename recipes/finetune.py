"""Fine-tune a released world model on clips of a rig and a place of your own: LoRA, or all of its weights.

    python recipes/finetune.py --data runs/my_clips --out runs/mine
    python recipes/finetune.py --method full --learning-rate 2e-4 --data runs/my_clips --out runs/mine

Without `--model` it is the model inside the package. Clips are what `render_procedural.py` writes, or clip shards of
recordings. The held-out loss before and after is in `report.json`. Stop it at any time and start it again with the same
words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch.distributed.elastic.multiprocessing.errors import record
from train_world_model import train_model
from world_model_options import WorldModelRecipe

from gaia2._files import replacing, replacing_folder
from gaia2.models.lora import check_peft, read_lora
from gaia2.models.presets import Preset
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.training.clip_source import open_clip_source
from gaia2.training.encoding import module_hash
from gaia2.training.export import export_last
from gaia2.training.loop import TrainingLoop
from gaia2.training.model_costs import world_model_cost
from gaia2.training.options import TrainingOptions
from gaia2.training.plan import PlannedOptions, Workload, print_plan
from gaia2.training.ranks import Ranks, join_ranks
from gaia2.training.run_checkpoints import load_tensors, tensor_sizes
from gaia2.zoo import default_model

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


@dataclass(frozen=True, kw_only=True)
class FinetuneRecipe(PlannedOptions):
    """How to fine-tune; the defaults suit LoRA on the default model on a CPU."""

    REQUIRED: ClassVar[tuple[str, ...]] = ("data", "out")

    data: Path
    """Folder of clips, or of clip shards; of at least as many frames as the model's window, at its size."""
    model: str | None = None
    """Folder or hub id of a pipeline; the package's default model if not given."""
    method: Literal["lora", "full"] = "lora"
    """Small matrices beside those of the attentions, a file of a few megabytes; or all weights."""
    lora_rank: int = 16
    """Rank of the small matrices."""
    steps: int = 200
    """Optimiser steps."""
    batch_size: int = 4
    """Clips a step, over all ranks together."""
    learning_rate: float = 1e-3
    """Rate of AdamW after the warm-up; about a fifth of it suits `full`."""
    warmup_steps: int = 10
    """Steps of linear rise; then a cosine falls to a tenth."""
    ema_decay: float = 0.98
    """Decay of the averaged weights."""
    condition_dropout: float = 0.1
    """Probability that a condition is dropped, each alone. This and the next three are as in the training of the
    default model: with others a short fine-tuning learns to do without what is always given, and forgets."""
    camera_dropout: float = 0.05
    """Probability that a camera view is dropped."""
    agent_feature_dropout: float = 0.0
    """Probability that one of the 13 features of the agents is dropped."""
    near_noise_share: float = 0.4
    """Share of flow times near noise, where the layout is decided."""
    validation_clips: int = 8
    """Clips at the beginning of the data that are never trained on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preset != "mini":
            raise ValueError(f"preset: expected none, as the size is that of --model, got {self.preset}; leave it out")

    def as_training(self, pipeline: Path) -> WorldModelRecipe:
        """The same as a training of the world model."""
        shared: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(TrainingOptions)}
        return WorldModelRecipe(
            **shared,
            tokenizer=pipeline / "vae",
            start_from=pipeline / "transformer",
            data=self.data,
            learning_rate=self.learning_rate,
            final_learning_rate=self.learning_rate / 10,
            warmup_steps=self.warmup_steps,
            ema_decay=self.ema_decay,
            condition_dropout=self.condition_dropout,
            camera_dropout=self.camera_dropout,
            agent_feature_dropout=self.agent_feature_dropout,
            near_noise_share=self.near_noise_share,
            validation_clips=self.validation_clips,
            validate_first=True,
        )


def find_pipeline(model: str | None) -> Path:
    """Folder of a pipeline, from the hub if it is not one."""
    if model is None:
        return Path(default_model())
    return Path(model) if Path(model).is_dir() else Path(Gaia2Pipeline.download(model))


def add_adapter(model: WorldModel, rank: int, targets: Sequence[str] = TARGETS) -> None:
    """Put new small matrices beside the layers whose names end so, and freeze everything else, in place."""
    from peft import LoraConfig

    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)


def make_model(recipe: FinetuneRecipe, pipeline: Path) -> tuple[WorldModel, str | None]:
    """The released model, the same in all ranks; if it is to be LoRA, with a new adapter, and the weights' hash."""
    if recipe.method == "full":
        return WorldModel.from_pretrained(pipeline / "transformer").train(), None
    return make_adapted(pipeline, recipe.lora_rank, TARGETS, recipe.seed)


def make_adapted(
    pipeline: Path, rank: int, targets: Sequence[str], seed: int, adapter: Path | None = None
) -> tuple[WorldModel, str]:
    """The released model with an adapter, which alone is to be trained, and the hash of its other weights.

    Args:
        pipeline: Folder of the pipeline.
        rank: Of the adapter.
        targets: Names that those of the adapted layers end with.
        seed: Of a new adapter's weights.
        adapter: One of this kind to begin with; a new one if not given.
    """
    check_peft()
    torch.manual_seed(seed)
    model = WorldModel.from_pretrained(pipeline / "transformer").train()
    base = module_hash(model)
    add_adapter(model, rank, targets)
    if adapter is not None:
        copy_adapter(adapter, model)
    return model, base


def copy_adapter(source: Path, model: WorldModel) -> None:
    """Give the small matrices of a model the values of a file that `save_lora_adapter` or a recipe has written.

    Raises:
        ValueError: If the file has other layers, or another rank.
    """
    there, _ = read_lora(source)
    there = {name.removeprefix(f"{WorldModel.lora_prefix}."): value for name, value in there.items()}
    own = {name.replace(".default", ""): p.data for name, p in model.named_parameters() if "lora_" in name}
    if {name: value.shape for name, value in own.items()} != {name: value.shape for name, value in there.items()}:
        raise ValueError(
            f"adapter: expected one of {len(own)} matrices, as these options make it, got one of "
            f"{len(there)} or of other sizes in {source}; give the layers and the rank that it was made with"
        )
    for name, value in own.items():
        value.copy_(there[name])


def train(recipe: FinetuneRecipe) -> Path:
    """Run the recipe; returns the folder of the adapter, or of the world model."""
    pipeline = find_pipeline(recipe.model)
    training = recipe.as_training(pipeline)
    with join_ranks(
        recipe.device,
        shard_ranks=recipe.shard_ranks,
        context_ranks=recipe.context_ranks,
        timeout_minutes=recipe.timeout_minutes,
    ) as ranks:
        tokenizer = VideoTokenizer.from_pretrained(pipeline / "vae").to(ranks.device).eval()
        model, base = make_model(recipe, pipeline)
        loop = train_model(training, ranks, tokenizer, model, base=base)
        if recipe.method == "full":
            folder = export_last(loop, model, recipe.out / "transformer", learner="world_model")
        else:
            folder = export_lora(lambda: make_model(recipe, pipeline)[0], loop)
        write_report(recipe, ranks)
    return folder


def export_lora(make: Callable[[], WorldModel], loop: TrainingLoop) -> Path:
    """Write the averaged adapter, for `load_lora_weights` or `load_lora_adapter`, from the last checkpoint.

    Args:
        make: Gives the model with a new adapter.
        loop: Of the training, which has ended.
    """
    folder = loop.options.out / "lora"
    last = loop.checkpoints.newest(verify=False)
    assert last is not None
    if loop.ranks.is_main:
        fresh = make()
        adapter = {f"world_model/average/{n}": p.data for n, p in fresh.named_parameters() if "lora_" in n}
        assert adapter.keys() <= tensor_sizes(last.path).keys()
        load_tensors(last.path, adapter)
        with replacing_folder(folder) as unfinished:
            fresh.save_lora_adapter(unfinished)
    loop.ranks.barrier()
    return folder


def write_report(recipe: FinetuneRecipe, ranks: Ranks) -> None:
    """The held-out losses before and after."""
    if not ranks.is_main:
        return
    before, after = (line["validation_loss"] for line in write_before_and_after(recipe.out))
    print(f"held-out loss {before:.4f} before, {after:.4f} after {recipe.steps} steps")


def write_before_and_after(out: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the first and the last held-out figures of the run in this folder to its `report.json`; gives both."""
    lines = [json.loads(line) for line in (out / "scalars.jsonl").read_text().splitlines()]
    held_out = [line for line in lines if "validation_loss" in line]
    before, after = held_out[0], held_out[-1]
    with replacing(out / "report.json") as unfinished:
        unfinished.write_text(json.dumps({"before": before, "after": after}, indent=2))
    return before, after


def plan(recipe: FinetuneRecipe) -> Workload:
    """What the run will cost; of the model its configs are read, of clips, if there are some, what they measure."""
    name = default_model() if recipe.model is None else recipe.model
    vae, transformer = (
        {key: value for key, value in model.load_config(name, subfolder=part).items() if not key.startswith("_")}
        for model, part in ((VideoTokenizer, "vae"), (WorldModel, "transformer"))
    )
    with torch.device("meta"):
        tokenizer = VideoTokenizer(**vae)
    clips = open_clip_source(recipe.data) if recipe.data.is_dir() else None
    preset = Preset(
        tokenizer=vae,
        world_model=transformer,
        image_size=tokenizer.config.sample_size if clips is None else clips.image_size,
        num_frames=transformer["window_latents"] * tokenizer.frames_per_latent,
    )
    if recipe.method == "lora":
        check_peft()
    cost = world_model_cost(
        preset,
        cameras=5 if clips is None else clips.num_cameras,
        adapt=partial(add_adapter, rank=recipe.lora_rank) if recipe.method == "lora" else None,
    )
    title = f"fine-tuning of a world model ({recipe.method})"
    return recipe.workload(title, cost, seconds=1.0, keeps_latents=False, frozen_saved=False)


@record
def main() -> None:
    """Read the options and fine-tune."""
    recipe = FinetuneRecipe.from_command_line(__doc__)
    if recipe.plan:
        raise SystemExit(print_plan(plan(recipe)))
    folder = train(recipe)
    print(f"written to {folder}")


if __name__ == "__main__":
    main()
