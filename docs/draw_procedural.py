"""Draw the procedural world for the README: `python docs/draw_procedural.py`. A few seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from gaia2._files import replacing
from gaia2.data.procedural import ProceduralWorld

PICTURE = Path(__file__).parent / "images" / "procedural.png"


def main(scale: int = 2) -> None:
    """Render six clips and show a frame of each: a row a clip, a column a camera."""
    clips = ProceduralWorld(rig="surround", image_size=(64, 128), num_frames=24).sample(range(6))
    rows = [np.concatenate(list(np.asarray(clip.frames)[12].transpose(0, 2, 3, 1)), axis=1) for clip in clips]
    image = Image.fromarray(np.concatenate(rows))
    with replacing(PICTURE) as unfinished:
        image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC).save(unfinished, "PNG")


if __name__ == "__main__":
    main()
