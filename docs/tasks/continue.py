# %% [markdown]
# # Go on from given frames
#
# The first frames are given as `context`; the rest is predicted from them and from the speed and curvature of the
# scene. The same beginning goes on in three ways: straight on, turning left, and standing still.
#
# Run it as `python docs/tasks/continue.py`, or open it as a notebook with jupytext.

# %%
import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gaia2
from gaia2.data.procedural import ProceduralWorld

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="folder for the pictures")
parser.add_argument("--steps", type=int, default=50, help="denoising steps")
options = parser.parse_known_args()[0]  # a notebook has arguments of its own
options.out.mkdir(parents=True, exist_ok=True)

# %%
pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
pipe.set_progress_bar_config(desc="continue")

# %% [markdown]
# The beginning: 16 frames of a clip that the procedural world draws. Frames are uint8 `(tv, n, 3, hv, wv)`, as a video
# file or a driving log would give them.

# %%
clip = ProceduralWorld(rig="front", image_size=(64, 128), num_frames=40).sample([10_000_021])[0]
context = np.asarray(clip.frames)[:16]
new = np.arange(40) >= 16
ways = {
    "straight on": dict(
        speed=np.where(new, 10.0, clip.scene.speed), curvature=np.where(new, 0.0, clip.scene.curvature)
    ),
    "to the left": dict(
        speed=np.where(new, 8.0, clip.scene.speed), curvature=np.where(new, 0.06, clip.scene.curvature)
    ),
    "standing": dict(speed=np.where(new, 0.0, clip.scene.speed), curvature=np.where(new, 0.0, clip.scene.curvature)),
}

# %%
output = pipe(
    [clip.scene.replace(agents=None, **way) for way in ways.values()],
    context=context,  # the same for all three
    generator=[torch.Generator().manual_seed(3) for _ in ways],
    num_inference_steps=options.steps,
)

# %% [markdown]
# A row for each way: the last frame of the context, then every fourth frame of the prediction.

# %%
rows = [np.concatenate(list(output.pixels(index)[15::4, 0]), axis=1) for index in range(len(ways))]
picture = Image.fromarray(np.concatenate(rows))
picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
picture.save(options.out / "task_continue.png")
