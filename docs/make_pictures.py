"""Make the pictures of the README: `python docs/make_pictures.py`. About half a minute on 2 CPU cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.video import unit_to_uint8
from gaia2.viz.contact_sheet import contact_sheet

IMAGES = Path(__file__).parent / "images"
CONDITIONS = (
    dict(time_of_day="day", weather="clear", country="us"),
    dict(time_of_day="day", weather="snow", country="germany"),
    dict(time_of_day="dusk", weather="clear", country="us", curvature=0.01),
    dict(time_of_day="day", weather="fog", country="uk"),
    dict(time_of_day="day", weather="rain", country="germany", curvature=-0.01),
    dict(time_of_day="night", weather="clear", country="us"),
)


def sheet(frames: np.ndarray, path: Path, scale: int = 2) -> None:
    """Write images `(rows, n, hv, wv, 3)` uint8 as one picture, a row per scene and a column per camera."""
    picture = np.concatenate([np.concatenate(list(row), axis=1) for row in frames])
    image = Image.fromarray(picture)
    image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC).save(path)


def main() -> None:
    """Render six clips of the procedural world; generate with the default model under `CONDITIONS`."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    base = dict(rig="surround", num_frames=24, speed=10.0, number_of_lanes=2, pedestrian_crossing=False)
    scenes = [gaia2.Scene.create(**base | conditions) for conditions in CONDITIONS]

    world = ProceduralWorld(rig="surround", image_size=(64, 128), num_frames=24)
    clips = world.sample(range(6))
    rendered = np.stack([np.asarray(clip.frames)[12] for clip in clips])
    sheet(rendered.transpose(0, 1, 3, 4, 2), IMAGES / "procedural.png")

    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(scenes))]
    frames = pipe(scenes, guidance_scale=2.0, generator=generators).frames
    pixels = unit_to_uint8(frames)
    sheet(pixels[:, 12], IMAGES / "generated.png")
    contact_sheet(IMAGES / "generated_over_time.png", pixels[0], scenes[0].rig.names, frame_rate=10.0, scale=2)


if __name__ == "__main__":
    main()
