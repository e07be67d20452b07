# %% [markdown]
# # Generate a scene from nothing
#
# A scene says who looks (the camera rig), when, how the ego vehicle moves, who else is there, and what it is like.
# The pipeline turns it into video of all cameras. Here the same street is made under three conditions, from the same
# noise, with agents in it; the boxes that were asked for are drawn over what came out.
#
# Run it as `python docs/tasks/generate.py`, or open it as a notebook with jupytext.

# %%
import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gaia2

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="folder for the pictures")
parser.add_argument("--steps", type=int, default=50, help="denoising steps")
options = parser.parse_known_args()[0]  # a notebook has arguments of its own
options.out.mkdir(parents=True, exist_ok=True)

# %%
pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
pipe.set_progress_bar_config(desc="generate")

# %% [markdown]
# Two agents: a car that drives 15 m ahead, and one that comes towards us on the left. Boxes are x y z of the centre,
# length width height (metres) and yaw (radians), in the frame of the ego vehicle: x forward, y left, z up.

# %%
frames = np.arange(24)
ahead = np.stack([np.full(24, 15.0), np.zeros(24), np.full(24, 0.8)], axis=-1)
oncoming = np.stack([40 - 1.8 * frames, np.full(24, 3.5), np.full(24, 0.8)], axis=-1)
size = np.tile([4.5, 1.9, 1.6], (24, 1))
boxes = np.stack(
    [np.hstack([ahead, size, np.zeros((24, 1))]), np.hstack([oncoming, size, np.full((24, 1), np.pi)])], axis=1
)
agents = gaia2.Agents(boxes, category=np.zeros((24, 2), dtype=int), track_id=np.tile([1, 2], (24, 1)))

scene = gaia2.Scene.create(rig="surround", num_frames=24, frame_rate=10.0, speed=8.0, agents=agents, country="us")
conditions = [
    dict(time_of_day="day", weather="clear"),
    dict(time_of_day="day", weather="snow"),
    dict(time_of_day="night", weather="clear"),
]

# %% [markdown]
# A list of scenes is a batch. One generator for each, all with the same seed, gives all the same noise. In each step
# the scale of `guidance_region="agents"` acts under the agents' boxes only; what changes there reaches the rest of the
# picture by attention, in the steps after it.

# %%
output = pipe(
    [scene.replace(**changes) for changes in conditions],
    generator=[torch.Generator().manual_seed(7) for _ in conditions],
    num_inference_steps=options.steps,
    guidance_scale=3.0,
    guidance_region="agents",
)
print(output.frames.shape, output.camera_names)

# %%
rows = [np.concatenate(list(output.overlay(index)[12]), axis=1) for index in range(len(conditions))]
picture = Image.fromarray(np.concatenate(rows))
picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
picture.save(options.out / "task_generate.png")

# %% [markdown]
# A generated clip is a labelled sample: `output.save_sample("folder")` writes a video for each camera, the scene, and
# the boxes in the images.

# %%
output.save_video(options.out / "task_generate.mp4", index=0, boxes=True, scale=3)
