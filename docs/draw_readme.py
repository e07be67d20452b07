"""Draw the moving picture of the README with the default model: `python docs/draw_readme.py`.

One street by day, in snow, at dusk and at night, from the same noise: the front three cameras of each, a loop of 24
frames. Half a minute on two CPU cores.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gaia2
from gaia2._files import replacing
from gaia2.scene.example import street_with_traffic

PICTURE = Path(__file__).parent / "images" / "driving.webp"
CAMERAS = ("front_left", "front", "front_right")
LOOKS = (
    dict(weather="clear", time_of_day="day"),
    dict(weather="snow", time_of_day="day"),
    dict(weather="clear", time_of_day="dusk"),
    dict(weather="clear", time_of_day="night"),
)
SEED = 1


def videos(num_inference_steps: int = 50) -> list[np.ndarray]:
    """A video of each of `LOOKS`, uint8 `(tv, hv, n wv, 3)`, its cameras side by side from left to right."""
    pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    scene = street_with_traffic()
    output = pipe(
        [scene.replace(**look) for look in LOOKS],
        generator=[torch.Generator().manual_seed(SEED) for _ in LOOKS],
        num_inference_steps=num_inference_steps,
        guidance_scale=2.0,
    )
    order = [output.camera_names.index(name) for name in CAMERAS]
    return [
        np.concatenate([output.pixels(index)[:, camera] for camera in order], axis=2) for index in range(len(LOOKS))
    ]


def moving_picture(shown: list[np.ndarray], *, scale: int = 1, gap: int = 4) -> list[Image.Image]:
    """The frames of the picture: the videos in two columns, with white gaps between."""
    rows = [shown[index : index + 2] for index in range(0, len(shown), 2)]
    frames = []
    for time in range(len(shown[0])):
        lines = []
        for row in rows:
            height = row[0].shape[1]
            white = np.full((height, gap, 3), 255, dtype=np.uint8)
            lines += [np.concatenate([row[0][time], white, row[1][time]], axis=1)]
            lines += [np.full((gap, lines[0].shape[1], 3), 255, dtype=np.uint8)]
        frame = Image.fromarray(np.concatenate(lines[:-1]))
        frames.append(frame.resize((frame.width * scale, frame.height * scale), Image.Resampling.BICUBIC))
    return frames


def save(frames: list[Image.Image], path: Path, *, frame_rate: float = 10.0, quality: int = 70) -> None:
    """Write the frames as a WebP that loops; it appears when it is whole."""
    with replacing(path) as unfinished:
        frames[0].save(
            unfinished,
            format="WEBP",
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / frame_rate),
            loop=0,
            quality=quality,
            method=6,
        )


if __name__ == "__main__":
    save(moving_picture(videos()), PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")
