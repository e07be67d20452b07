"""Draw what the default model makes of two genuine logs: the last two pictures of docs/gallery.md.

    python docs/draw_logs.py --comma2k19 <segment> --argoverse2 <log>

The minute of comma2k19 says how its car drove; the log of Argoverse 2 has cameras and annotated agents, too. Nothing of
their footage is read. On 2 CPU cores it takes some two minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import tyro
from einops import rearrange

import gaia2
from gaia2.conditioning.projection import project_agents
from gaia2.data import load_argoverse2, load_comma2k19
from gaia2.scene import Scene
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX
from gaia2.video import unit_to_uint8
from gaia2.viz._tiles import draw_label, enlarge, label_height
from gaia2.viz.contact_sheet import contact_sheet
from gaia2.viz.overlay import draw_boxes
from gaia2.viz.png import save_png

SAID = dict(country="us", weather="clear", time_of_day="day")
CAMERAS = ("ring_side_left", "ring_front_left", "ring_front_right", "ring_side_right")
RATE = 10.0


@dataclass(frozen=True)
class Logs:
    """Where the logs are, and where the pictures go."""

    comma2k19: Path
    """Folder of a comma2k19 segment."""
    argoverse2: Path
    """Folder of an Argoverse 2 sensor log."""
    out: Path = Path(__file__).parent / "images"
    """Folder for the pictures."""
    num_inference_steps: int = 50
    """Denoising steps of a window."""


def whole_latents(scene: Scene, group: int) -> Scene:
    """The scene up to its last whole latent of `group` frames, with the weather that both logs had."""
    return scene.window(0, scene.num_frames // group * group).replace(**SAID)


def generate(pipe: gaia2.Gaia2Pipeline, scene: Scene, steps: int, guidance_scale: float) -> np.ndarray:
    """`(tv, n, hv, wv, 3)` uint8."""
    generator = torch.Generator().manual_seed(0)
    made = pipe(scene, num_inference_steps=steps, guidance_scale=guidance_scale, generator=generator)
    return unit_to_uint8(np.asarray(made.frames)[0])


def over_time(frames: np.ndarray, every: int, columns: int) -> np.ndarray:
    """One picture `(hv, wv, 3)` of every so many of a camera's frames `(tv, hv, wv, 3)`, with their seconds."""
    tiles = enlarge(frames[::every], 2).copy()
    tiles = tiles[: len(tiles) // columns * columns]
    for number, tile in enumerate(tiles):
        draw_label(tile, f"{number * every / RATE:g} s", label_height(tile.shape[1]))
    return rearrange(tiles, "(r c) h w rgb -> (r h) (c w) rgb", c=columns)


def with_boxes(frames: np.ndarray, scene: Scene, within: float = 40.0) -> np.ndarray:
    """Frames with the boxes of the agents that were asked for, up to so many metres away."""
    seen = project_agents(scene).numpy()
    near = np.linalg.norm(scene.agents.boxes[..., :2], axis=-1) < within
    category = np.where(near[:, None], seen[..., CATEGORY], -1).astype(int)
    return draw_boxes(frames, seen[..., IMAGE_BOX], category)


def main(logs: Logs) -> None:
    """Draw both."""
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    group = pipe.vae.frames_per_latent
    minute = whole_latents(load_comma2k19(logs.comma2k19).resample(frame_rate=RATE), group)
    street = load_argoverse2(logs.argoverse2, cameras=CAMERAS, num_frames=48)
    street = whole_latents(street, group)
    frames = generate(pipe, minute, logs.num_inference_steps, 1.0)
    save_png(logs.out / "gallery_comma2k19.png", over_time(frames[:, 0], every=len(frames) // 10, columns=5))
    frames = with_boxes(generate(pipe, street, logs.num_inference_steps, 2.0), street)
    contact_sheet(logs.out / "gallery_argoverse2.png", frames, CAMERAS, rows=4, frame_rate=RATE, scale=2)


if __name__ == "__main__":
    main(tyro.cli(Logs, description=__doc__))
