"""Make the default model from nothing: train tokenizer, behaviour encoder and world model, write the pipeline.

    python recipes/train_mini.py --runs runs/mini

Days on 2 CPU cores; see docs/default_model.md. Stop it at any time and start it again: finished work is kept.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from measure_latents import MeasureRecipe, measure
from render_procedural import RenderRecipe, render
from train_behaviour_encoder import BehaviourRecipe
from train_behaviour_encoder import train as train_behaviour_encoder
from train_tokenizer import TokenizerRecipe
from train_tokenizer import train as train_tokenizer
from world_model_options import WorldModelRecipe

import gaia2
from gaia2.models.behaviour_encoder import BehaviourEncoder
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.export import export_model
from gaia2.zoo.manifest import file_hashes, write_manifest

GUIDANCE_SCALE = 2.0
"""What the default model is sampled with unless a call says otherwise; docs/evaluation.md has what it is for."""


@dataclass(frozen=True)
class MiniRecipe:
    """How much to train."""

    runs: Path = Path("runs/mini")
    """Folder for clips, checkpoints and logs."""
    tokenizer: Path | None = None
    """Folder of a trained tokenizer to use, in place of training one."""
    num_clips: int = 2040
    """Procedural clips to render for the tokenizer."""
    videos: tuple[Path, ...] = ()
    """Video files of one camera that the tokenizer is trained on as well."""
    video_share: float = 0.1
    """Share of the tokenizer's training examples that come from them."""
    tokenizer_steps: int = 4400
    """Steps of the tokenizer."""
    tokenizer_cooldown_steps: int = 3900
    """Steps of them at the end in which its learning rate falls."""
    tokenizer_learning_rate: float = 1e-3
    """Rate of AdamW, for the tokenizer's biases, norms and narrow weights."""
    tokenizer_matrix_learning_rate: float = 1e-2
    """Rate of Muon, for its weight matrices and convolutions."""
    tokenizer_seam_weight: float = 0.25
    """Weight of errors that jump between frames which its decoder does not make at once."""
    num_streets: int = 1200
    """Clips with random rigs to render for the tokenizer's second training, in which small things count more."""
    streets_steps: int = 1600
    """Steps of the second training."""
    streets_cooldown_steps: int = 1500
    """Steps of them at the end in which its learning rate falls."""
    scenario_encoder: Path | None = None
    """Folder of a trained behaviour encoder to use, in place of training one."""
    scenario_steps: int = 800
    """Steps of the behaviour encoder."""
    start_from: Path | None = None
    """Folder of a trained world model to begin with, for example the one that ships; None trains it from nothing."""
    world_model_steps: int = 62_500
    """Steps of the world model, each of 48 camera views: as many as 600,000 clips of five cameras have."""
    world_model_cooldown_steps: int = 6_000
    """Steps of them at the end in which its learning rate falls."""
    processes: int = 2
    """Processes that train the world model together; on a CPU one a core is faster than one process with threads."""
    world_model_learning_rate: float = 1e-3
    """Rate of AdamW, for the world model's biases, norms and embeddings."""
    world_model_matrix_learning_rate: float = 1e-2
    """Rate of Muon, for its weight matrices."""
    out: Path = Path("runs/mini/pipeline")
    """Where the pipeline is written; `make zoo` names the folder of the package's default model."""
    compile: bool = True
    """Compile the renderer and the tokenizer with torch.compile; needs a C++ compiler."""


def install(tokenizer: Path, transformer: Path, scenario_encoder: Path, out: Path) -> Path:
    """Write a pipeline of both trained models in bfloat16 to the folder `out`, with the behaviour encoder beside."""
    vae = VideoTokenizer.from_pretrained(tokenizer, dtype=torch.bfloat16)
    world_model = WorldModel.from_pretrained(transformer, dtype=torch.bfloat16)
    for model in (vae, world_model):
        model.register_to_config(_name_or_path=out.name)  # not the folder that it happened to be trained in
    pipeline = Gaia2Pipeline(
        vae=vae,
        transformer=world_model,
        scheduler=FlowMatchScheduler(),
        default_guidance_scale=GUIDANCE_SCALE,
    )
    export_model(pipeline, out)
    encoder = BehaviourEncoder.from_pretrained(scenario_encoder, dtype=torch.bfloat16)
    encoder.register_to_config(_name_or_path=out.name)
    export_model(encoder, out / "scenario_encoder")
    return out


def train_mini_tokenizer(recipe: MiniRecipe) -> Path:
    """Render clips and train the tokenizer on them, twice; goes on where it was stopped."""
    clips, folder = recipe.runs / "clips", recipe.runs / "tokenizer"
    trained, measured = folder / "tokenizer", folder / "measured"
    both: dict[str, Any] = dict(
        videos=recipe.videos,
        video_share=recipe.video_share,
        optimizer="muon",
        seam_weight=recipe.tokenizer_seam_weight,
        compile=recipe.compile,
    )
    if not measured.is_file():
        render(RenderRecipe(out=clips, num_clips=recipe.num_clips, compile=recipe.compile))
        train_tokenizer(
            TokenizerRecipe(
                data=clips,
                out=folder,
                steps=recipe.tokenizer_steps,
                cooldown_steps=recipe.tokenizer_cooldown_steps,
                learning_rate=recipe.tokenizer_learning_rate,
                matrix_learning_rate=recipe.tokenizer_matrix_learning_rate,
                **both,
            )
        )
        measure(MeasureRecipe(data=clips, tokenizer=trained))
        measured.touch()
    streets = recipe.runs / "streets_clips"
    render(
        RenderRecipe(
            out=streets,
            num_clips=recipe.num_streets,
            rig="random",
            frame_rates=(10.0, 12.0, 15.0, 20.0, 30.0),
            importance=True,
            first_seed=31_000_000,
            compile=recipe.compile,
        )
    )
    return train_tokenizer(
        TokenizerRecipe(
            data=streets,
            out=recipe.runs / "streets",
            start_from=trained,
            steps=recipe.streets_steps,
            cooldown_steps=recipe.streets_cooldown_steps,
            warmup_steps=50,
            learning_rate=0.4 * recipe.tokenizer_learning_rate,
            matrix_learning_rate=0.4 * recipe.tokenizer_matrix_learning_rate,
            pixel_importance=4.0,
            drift_weight=0.01,
            mirrored_share=0.5,
            **both,
        )
    )


def train_mini_scenario_encoder(recipe: MiniRecipe) -> Path:
    """Train the encoder that makes scenario embeddings; goes on where it was stopped."""
    return train_behaviour_encoder(BehaviourRecipe(out=recipe.runs / "scenario", steps=recipe.scenario_steps))


def world_model_recipe(recipe: MiniRecipe, tokenizer: Path, scenario_encoder: Path) -> WorldModelRecipe:
    """How the default world model is trained: on clips that are rendered meanwhile, where the controls act."""
    return WorldModelRecipe(
        tokenizer=tokenizer,
        out=recipe.runs / "world_model",
        start_from=recipe.start_from,
        scenario_encoder=scenario_encoder,
        steps=recipe.world_model_steps,
        cooldown_steps=recipe.world_model_cooldown_steps,
        batch_size=8,
        cameras=(1, 3, 6),
        optimizer="muon",
        learning_rate=recipe.world_model_learning_rate,
        matrix_learning_rate=recipe.world_model_matrix_learning_rate,
        warmup_steps=100,
        condition_dropout=0.1,
        camera_dropout=0.05,
        agent_feature_dropout=0.0,
        weighted=True,
        hidden_maps=2.0,
        maps=True,
        near_noise_share=0.4,
        context_noise=0.2,
        shards=320,
        first_shards=8,
        steps_per_shard=300,
        compile_renderer=recipe.compile,
        compile=recipe.compile,
        validate_every=1000,
        save_every=200,
    )


def command_line(options: Any) -> list[str]:
    """The words that give a recipe the options that differ from its defaults.

    Example:
        >>> command_line(MiniRecipe(runs=Path("runs/a"), compile=False, processes=1))
        ['--runs', 'runs/a', '--processes', '1', '--no-compile']
    """
    words = []
    for field in dataclasses.fields(options):
        value, flag = getattr(options, field.name), field.name.replace("_", "-")
        if value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    return words


def train_mini_world_model(recipe: MiniRecipe, tokenizer: Path, scenario_encoder: Path) -> Path:
    """Train the world model in processes of its own; goes on where it was stopped."""
    options = world_model_recipe(recipe, tokenizer, scenario_encoder)
    script = Path(__file__).with_name("train_world_model.py")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(recipe.processes)]
    subprocess.run([sys.executable, *launch, str(script), *command_line(options)], check=True)
    return options.out / "transformer"


def facts(recipe: MiniRecipe) -> dict[str, Any]:
    """What the manifest says of the training: versions, commit, options and curves."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    ).stdout.strip()
    curves = {}
    for name in ("tokenizer", "streets", "scenario", "world_model"):
        log = recipe.runs / name / "scalars.jsonl"
        rows = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
        curves[name] = [row for row in rows if any("validation" in key for key in row)]
    return {
        "commit": commit or None,
        "versions": {"gaia2": gaia2.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "options": {  # where files lay says nothing to others
            name: str(value) for name, value in dataclasses.asdict(recipe).items() if not isinstance(value, Path)
        },
        "began_with": {} if recipe.start_from is None else file_hashes(recipe.start_from),
        "curves": curves,
        "figures": {name: curve[-1] for name, curve in curves.items() if curve},
    }


def main(recipe: MiniRecipe) -> None:
    """Run all stages; each goes on where it was stopped."""
    tokenizer = recipe.tokenizer or train_mini_tokenizer(recipe)
    scenario_encoder = recipe.scenario_encoder or train_mini_scenario_encoder(recipe)
    transformer = train_mini_world_model(recipe, tokenizer, scenario_encoder)
    write_manifest(install(tokenizer, transformer, scenario_encoder, recipe.out), facts(recipe))
    print(f"written to {recipe.out}")


if __name__ == "__main__":
    main(tyro.cli(MiniRecipe, description=__doc__))
