"""Publish a model: make its card of facts, and send it to a hub.

    python recipes/publish.py --repo org/name --dry-run        # every file with its size, and the card
    python recipes/publish.py --repo org/name --model runs/mini/pipeline --tag v1

The folder's `manifest.json` (training, data, figures), its configs and an `evaluation.json` of recipes/evaluate.py
become the card. Weights stay as they are, bit for bit, unless a file is larger than --max-shard-size. A pickle, a
token, a password or a path of this computer in any file ends it before anything is sent. An upload that was interrupted
goes on when it is called again. Log in with `hf auth login`, or set HF_TOKEN; HF_ENDPOINT names another hub.
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import torch
import tyro

import gaia2
from gaia2.hub.folder import contents, list_contents
from gaia2.hub.publishing import Destination, publish
from gaia2.hub.staging import CARD, CardOptions, stage, write_card
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.viz.contact_sheet import contact_sheet

LOOKS = (("clear", "day"), ("rain", "dusk"), ("snow", "day"), ("clear", "night"), ("fog", "dawn"), ("cloudy", "day"))


@dataclass(frozen=True)
class PublishRecipe:
    """What to publish, and where."""

    repo: str
    """The repository: namespace/name."""
    model: Path = field(default_factory=gaia2.default_model)
    """Folder of a pipeline, a tokenizer or a world model, as `save_pretrained` writes it."""
    revision: str | None = None
    """Branch to publish to, which is made if it is not there; main by default."""
    tag: str | None = None
    """Name for this version, as v1."""
    message: str | None = None
    """Of the commit."""
    private: bool = False
    """Make a new repository private."""
    update: bool = False
    """Publish a new version of a repository that has a model of this library already."""
    create_pr: bool = False
    """Propose the change, in place of making it."""
    license: str = "apache-2.0"
    """Licence of the weights, as the hub names it."""
    data: tuple[str, ...] = ()
    """Data that the weights were trained on, each with its licence, beside what the manifest says."""
    about: str = ""
    """A paragraph of your own for the card."""
    evaluation: Path | None = None
    """`evaluation.json` of recipes/evaluate.py, for the table of metrics."""
    pictures: tuple[Path, ...] = ()
    """Sample pictures of your own."""
    samples: int = 1
    """Sample pictures to generate for the card; only pipelines can."""
    num_inference_steps: int = 50
    """Denoising steps of those."""
    max_shard_size: str = "5GB"
    """Largest file of weights; larger ones are divided."""
    variants: tuple[str, ...] = ()
    """Formats in which to write the weights as well: bf16, fp16, fp32."""
    dry_run: bool = False
    """Send nothing; print every file with its size, and the card."""


def main(recipe: PublishRecipe) -> None:
    """Publish."""
    to = Destination(
        recipe.repo,
        private=recipe.private or None,
        revision=recipe.revision,
        tag=recipe.tag,
        create_pr=recipe.create_pr,
        message=recipe.message,
        update=recipe.update,
    )
    if not 0 <= recipe.samples <= len(LOOKS):
        raise ValueError(f"samples: expected a whole number from 0 to {len(LOOKS)}, got {recipe.samples}")
    card = CardOptions(recipe.license, recipe.data, recipe.about, recipe.evaluation, recipe.pictures)
    with tempfile.TemporaryDirectory() as work:
        sizes, variants = recipe.max_shard_size, recipe.variants
        folder = stage(recipe.model, Path(work), recipe.repo, card, max_shard_size=sizes, variants=variants)
        samples(recipe, folder / "samples")
        write_card(folder, recipe.repo, card)
        print(
            contents(folder), *(f"{'left out':>15}  {name}" for name in list_contents(recipe.model).left_out), sep="\n"
        )
        if recipe.dry_run:
            print(f"\n{(folder / CARD).read_text(encoding='utf-8')}")
            return
        done = publish(folder, to)
    print(f"published {done.repo_id} at {done.commit}: {done.url}")


def samples(recipe: PublishRecipe, folder: Path) -> None:
    """Generate sample pictures, a scene each, all cameras at four times; none of what is not a pipeline."""
    if recipe.samples == 0 or not (recipe.model / "model_index.json").is_file():
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = Gaia2Pipeline.from_pretrained(recipe.model).to(device)
    frames = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
    for weather, time_of_day in LOOKS[: recipe.samples]:
        scene = gaia2.Scene.create("surround", num_frames=frames, speed=10.0, weather=weather, time_of_day=time_of_day)
        video = pipe(
            scene,
            num_inference_steps=recipe.num_inference_steps,
            generator=torch.Generator().manual_seed(0),
        )
        path = folder / f"{weather}_{time_of_day}.png"
        names, rate = video.camera_names, video.frame_rate()
        contact_sheet(path, video.pixels(), names, rows=min(4, frames), frame_rate=rate, scale=2)


if __name__ == "__main__":
    try:
        main(tyro.cli(PublishRecipe, description=__doc__))
    except (ValueError, OSError) as error:
        print(f"publish: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
