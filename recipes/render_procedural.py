"""Render clips of the procedural driving world into a folder that the trainings read.

    python recipes/render_procedural.py --out runs/clips --num-clips 2000

Run it again with more clips to go on where it ended; a killed run loses at most the chunk in the making.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from tqdm import trange

from gaia2.data.clip import Clip
from gaia2.data.clip_folder import finished_chunks, write_chunk
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.rendered import MASK_STRIDE
from gaia2.training.maps import pixel_importance


@dataclass(frozen=True)
class RenderRecipe:
    """What to render."""

    out: Path
    """Folder to fill."""
    num_clips: int = 2000
    """Clips in the folder when done."""
    clips_per_chunk: int = 20
    """Clips rendered and written together."""
    rig: str = "surround"
    """Named camera rig, which each clip jitters a little; `random` draws one for each clip."""
    num_cameras: int = 5
    """Cameras of random rigs; named ones have their own."""
    frame_rates: tuple[float, ...] = (10.0,)
    """Frames a second (1/s); each clip has one of them."""
    importance: bool = False
    """Write how important each pixel is, too: agents, lights, signs, crossings and lane marks are (for the option
    `--pixel-importance` of the tokenizer's trainings)."""
    image_size: tuple[int, int] = (64, 128)
    """Pixels (height, width)."""
    num_frames: int = 24
    """Video frames of a clip."""
    rays: int = 2
    """Rays of a pixel: 1, 2, or a square number."""
    first_seed: int = 0
    """Seed of the first clip; clip i has seed first_seed + i."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to render."""
    compile: bool = False
    """Compile the renderer with torch.compile: minutes of start-up, then several times faster (2,000 clips take about
    four hours on two cores without it). Needs a C++ compiler."""


def render(recipe: RenderRecipe) -> None:
    """Render the chunks that are missing."""
    if recipe.importance and recipe.num_frames % MASK_STRIDE:
        raise ValueError(
            f"num_frames: expected a multiple of {MASK_STRIDE} with importance, got {recipe.num_frames}; render "
            "more or fewer frames"
        )
    world = ProceduralWorld(
        rig=recipe.rig,
        image_size=recipe.image_size,
        num_frames=recipe.num_frames,
        num_cameras=recipe.num_cameras,
        frame_rates=recipe.frame_rates,
        rays=recipe.rays,
        device=recipe.device,
        compile=recipe.compile,
    )
    done = {chunk.name for chunk in finished_chunks(recipe.out)}
    for number in trange(-(-recipe.num_clips // recipe.clips_per_chunk), desc="render", unit="chunk"):
        if f"clips-{number:05d}" in done:
            continue
        first = recipe.first_seed + number * recipe.clips_per_chunk
        seeds = range(first, first + recipe.clips_per_chunk)
        if not recipe.importance:
            write_chunk(recipe.out, number, world.sample(seeds))
            continue
        scenes = world.sample_scenes(seeds)
        frames, masks = world.render_with_masks(scenes, seeds, MASK_STRIDE)
        clips = [Clip(scene=scene, frames=video.cpu().numpy()) for scene, video in zip(scenes, frames, strict=True)]
        importance = (pixel_importance(masks.classes) * 255).round().to(torch.uint8)
        write_chunk(recipe.out, number, clips, importance=importance.cpu().numpy())


if __name__ == "__main__":
    render(tyro.cli(RenderRecipe, description=__doc__))
