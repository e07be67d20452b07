"""Draw the sweeps of docs/gallery.md: one control changed at a time, as rendered and as the default model makes it.

    python docs/draw_gallery.py --out docs/images

A minute or two on 2 CPU cores. The seeds are none that a training has used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from einops import rearrange
from tqdm import tqdm

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.vehicles import SIZES
from gaia2.models import BehaviourEncoder
from gaia2.scene import AGENT_CATEGORIES, METADATA, Agents, CameraRig, Scene, camera_extrinsics
from gaia2.video import unit_to_uint8
from gaia2.viz._tiles import draw_label, enlarge, label_height
from gaia2.viz.png import save_png

SIZE = (64, 128)
FIRST_SEED = 610_000_000
SCALE = 2


@dataclass(frozen=True)
class Sweep:
    """One control and its values.

    Attributes:
        name: Of the picture.
        seed: Of the street.
        values: As they stand in the picture.
        changed: From the street's scene and a value to the scene that is shown.
        frame: The frame that is shown.
        said: From the scene that is shown to what the model is told of it; the scene itself by default.
    """

    name: str
    seed: int
    values: tuple[Any, ...]
    changed: Callable[[Scene, Any], Scene]
    frame: int = 12
    said: Callable[[Scene], Scene] = lambda scene: scene


def metadata(name: str, seed: int, values: tuple[Any, ...] | None = None) -> Sweep:
    """A sweep over a field of the metadata."""
    values = tuple(METADATA[name]) if values is None else values
    return Sweep(name, seed, values, lambda scene, value: scene.replace(**{name: value}))


def with_box(scene: Scene, category: str, x: float, y: float = 0.0) -> Scene:
    """The scene with one agent that keeps its distance."""
    length, width, height = SIZES[category]
    box = [x + length / 2, y, height / 2, length, width, height, 0.0]
    frames = scene.num_frames
    return scene.replace(agents=Agents([[box]] * frames, [[AGENT_CATEGORIES.index(category)]] * frames))


def with_camera(scene: Scene, *, pitch: float = 0.0, height: float = 1.6, width: float = 70.0) -> Scene:
    """The scene seen by one camera in front: degrees downwards, metres above the road, degrees from edge to edge."""
    focal = SIZE[1] / 2 / np.tan(np.deg2rad(width) / 2)
    rig = CameraRig(
        names=["front"],
        intrinsics=[[[focal, 0.0, SIZE[1] / 2], [0.0, focal, SIZE[0] / 2], [0.0, 0.0, 1.0]]],
        extrinsics=[camera_extrinsics((1.7, 0.0, height), pitch_down=pitch)],
        image_size=[SIZE],
    )
    return scene.replace(rig=rig)


def another(scene: Scene, number: int) -> Scene:
    """Another drive altogether, with traffic, that looks like the scene."""
    drive = ProceduralWorld(rig="front", image_size=SIZE, num_frames=24).sample_scenes([FIRST_SEED + 100 + number])[0]
    return drive.replace(rig=scene.rig, weather="cloudy", time_of_day="day", country="germany")


def embedding_of(scene: Scene) -> Scene:
    """What the scene is like by its scenario embedding alone."""
    return BehaviourEncoder.from_pretrained(gaia2.default_model() / "scenario_encoder").stand_in(scene)


SWEEPS = (
    metadata("weather", 0),
    metadata("time_of_day", 1),
    metadata("country", 2),
    metadata("number_of_lanes", 3, (1, 2, 4, 6)),
    metadata("bus_lane", 4),
    metadata("cycle_lane", 5),
    metadata("pedestrian_crossing", 6),
    metadata("traffic_light", 7),
    Sweep("distance of a car", 8, (6.0, 10.0, 16.0, 30.0), lambda s, x: with_box(s, "car", x)),
    Sweep("side of a car", 9, (-4.0, -2.0, 2.0, 4.0), lambda s, y: with_box(s, "car", 9.0, y)),
    Sweep("category", 10, tuple(SIZES), lambda s, name: with_box(s, name, 8.0, -1.0)),
    Sweep("pitch", 11, (-10.0, -5.0, 0.0, 5.0, 10.0), lambda s, v: with_camera(s, pitch=v)),
    Sweep("height", 12, (1.0, 1.6, 2.4, 3.5), lambda s, v: with_camera(s, height=v)),
    Sweep("field of view", 13, (45.0, 70.0, 90.0, 110.0), lambda s, v: with_camera(s, width=v)),
    Sweep("scenario", 15, (0, 1, 2, 3, 4), another, said=embedding_of),
    Sweep("curvature", 14, (-0.02, -0.01, 0.0, 0.01, 0.02), lambda s, v: s.replace(curvature=v), 23),
)


@dataclass(frozen=True)
class Gallery:
    """What to draw, and where."""

    out: Path = Path(__file__).parent / "images"
    """Folder for the pictures."""
    model: str = str(gaia2.default_model())
    """Folder or repository of the pipeline."""
    num_inference_steps: int = 50
    """Denoising steps."""
    guidance_scale: float = 2.0
    """Classifier-free guidance, as in `gaia2 demo`."""
    only: tuple[str, ...] = ()
    """Names of sweeps to draw; all by default."""


def scenes_of(sweep: Sweep) -> list[Scene]:
    """The scenes of a sweep: one street by day, seen by one camera in front, with one control changed."""
    world = ProceduralWorld(rig="front", image_size=SIZE, num_frames=24)
    street = world.sample_scenes([FIRST_SEED + sweep.seed])[0]
    plain = dict(weather="cloudy", time_of_day="day", number_of_lanes=2, traffic_light="none", intersection="none")
    plain |= dict(bus_lane=False, cycle_lane=False, pedestrian_crossing=False, country="germany", one_way=False)
    street = street.replace(speed=8.0, curvature=0.0, agents=Agents.empty(24), **plain)
    return [sweep.changed(street, value) for value in sweep.values]


def rendered(sweep: Sweep, scenes: list[Scene]) -> np.ndarray:
    """`(values, hv, wv, 3)` uint8: the frame of each scene as the procedural world shows it."""
    pictures = []
    for scene in scenes:
        world = ProceduralWorld(scene.rig, SIZE, num_frames=24, rig_jitter=False)
        pictures.append(world.render([scene], [FIRST_SEED + sweep.seed])[0, sweep.frame, 0])
    return rearrange(torch.stack(pictures), "i c h w -> i h w c").numpy()


def main(gallery: Gallery) -> None:
    """Draw all sweeps."""
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gallery.model)
    pipe.set_progress_bar_config(disable=True)
    for sweep in tqdm([sweep for sweep in SWEEPS if not gallery.only or sweep.name in gallery.only], desc="sweeps"):
        scenes = scenes_of(sweep)
        made = []
        for scene in scenes:  # one by one: a batch has one rig
            frames = pipe(
                sweep.said(scene),
                num_inference_steps=gallery.num_inference_steps,
                guidance_scale=gallery.guidance_scale,
                generator=torch.Generator().manual_seed(sweep.seed),
            ).frames
            made.append(unit_to_uint8(np.asarray(frames)[0, sweep.frame, 0]))
        tiles = enlarge(np.stack([rendered(sweep, scenes), np.stack(made)]), SCALE).copy()
        for column, value in enumerate(sweep.values):
            draw_label(tiles[0, column], f"{value:g}" if isinstance(value, float) else str(value), label_height(256))
        name = sweep.name.replace(" ", "_")
        save_png(gallery.out / f"gallery_{name}.png", rearrange(tiles, "r v h w c -> (r h) (v w) c"))


if __name__ == "__main__":
    main(tyro.cli(Gallery, description=__doc__))
