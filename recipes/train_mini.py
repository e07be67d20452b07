"""Make the default model from nothing: render clips, train the tokenizer and the world model, write the pipeline.

    python recipes/train_mini.py --runs runs/mini

About three hours on 2 CPU cores. Stop it at any time and start it again: finished work is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from measure_latents import MeasureRecipe, measure
from render_procedural import RenderRecipe, render
from train_tokenizer import TokenizerRecipe
from train_tokenizer import train as train_tokenizer
from train_world_model import WorldModelRecipe
from train_world_model import train as train_world_model

from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.export import export_model


@dataclass(frozen=True)
class MiniRecipe:
    """How much to train."""

    runs: Path = Path("runs/mini")
    """Folder for clips, checkpoints and logs."""
    num_clips: int = 2040
    """Procedural clips to render."""
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
    world_model_steps: int = 6000
    """Steps of the world model."""
    world_model_learning_rate: float = 1e-3
    """Rate of AdamW, for the world model's biases, norms and embeddings."""
    world_model_matrix_learning_rate: float = 1e-2
    """Rate of Muon, for its weight matrices."""
    out: Path = Path("runs/mini/pipeline")
    """Where the pipeline is written; `make zoo` names the folder of the package's default model."""
    compile: bool = True
    """Compile renderer and models with torch.compile; needs a C++ compiler."""


def install(tokenizer: Path, transformer: Path, out: Path) -> Path:
    """Write a pipeline of both trained models in bfloat16 to the folder `out`."""
    vae = VideoTokenizer.from_pretrained(tokenizer, dtype=torch.bfloat16)
    world_model = WorldModel.from_pretrained(transformer, dtype=torch.bfloat16)
    for model in (vae, world_model):
        model.register_to_config(_name_or_path=out.name)  # not the folder that it happened to be trained in
    pipeline = Gaia2Pipeline(vae=vae, transformer=world_model, scheduler=FlowMatchScheduler())
    export_model(pipeline, out)
    return out


def main(recipe: MiniRecipe) -> None:
    """Run all stages; each goes on where it was stopped."""
    clips, tokenizer, world_model = (recipe.runs / name for name in ("clips", "tokenizer", "world_model"))
    trained = tokenizer / "tokenizer"
    render(RenderRecipe(out=clips, num_clips=recipe.num_clips, compile=recipe.compile))
    measured = tokenizer / "measured"
    if not measured.is_file():
        train_tokenizer(
            TokenizerRecipe(
                data=clips,
                out=tokenizer,
                videos=recipe.videos,
                video_share=recipe.video_share,
                steps=recipe.tokenizer_steps,
                cooldown_steps=recipe.tokenizer_cooldown_steps,
                optimizer="muon",
                learning_rate=recipe.tokenizer_learning_rate,
                matrix_learning_rate=recipe.tokenizer_matrix_learning_rate,
                seam_weight=recipe.tokenizer_seam_weight,
                compile=recipe.compile,
            )
        )
        measure(MeasureRecipe(data=clips, tokenizer=trained))
        measured.touch()
    transformer = train_world_model(
        WorldModelRecipe(
            data=clips,
            tokenizer=trained,
            out=world_model,
            steps=recipe.world_model_steps,
            batch_size=8,
            warmup_steps=100,
            condition_dropout=0.3,
            lone_camera_share=0.1,
            optimizer="muon",
            learning_rate=recipe.world_model_learning_rate,
            matrix_learning_rate=recipe.world_model_matrix_learning_rate,
            compile=recipe.compile,
        )
    )
    print(f"written to {install(trained, transformer, recipe.out)}")


if __name__ == "__main__":
    main(tyro.cli(MiniRecipe, description=__doc__))
