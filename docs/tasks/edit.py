# %% [markdown]
# # Change the conditions of a video
#
# A video is noised in part and denoised under other conditions. `strength` is how much of it is noise at the start: 0
# gives the video back as the tokenizer knows it, 1 keeps nothing of it. In between, the layout of the street and what
# moves where stay the more, the smaller it is, while weather and time of day change.
#
# Run it as `python docs/tasks/edit.py`, or open it as a notebook with jupytext.

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
pipe = gaia2.Gaia2EditPipeline.from_pretrained(gaia2.default_model())
pipe.set_progress_bar_config(desc="edit")

# %%
world = ProceduralWorld(rig="front", image_size=(64, 128), num_frames=24)
scene = world.sample_scenes([10_000_008])[0].replace(weather="clear", time_of_day="day")
video = world.render([scene], [10_000_008])[0]
targets = [
    dict(weather="snow", time_of_day="day"),
    dict(weather="clear", time_of_day="dusk"),
    dict(weather="clear", time_of_day="night"),
]
strengths = (0.0, 0.7, 0.85, 0.95)

# %% [markdown]
# One video and a list of scenes: it is edited towards each of them. Guidance on what changes makes the change stronger.

# %%
edited = []
for strength in strengths:
    output = pipe(
        [scene.replace(**target) for target in targets],
        video,
        strength=strength,
        generator=[torch.Generator().manual_seed(1) for _ in targets],
        num_inference_steps=options.steps,
        guidance_scale=2.0,
        guidance_on=("weather", "time_of_day"),
    )
    edited.append([output.pixels(index)[12, 0] for index in range(len(targets))])

# %% [markdown]
# A row for each target: the original at the left, then strengths 0, 0.7, 0.85 and 0.95.

# %%
original = np.asarray(video)[12, 0].transpose(1, 2, 0)
rows = [np.concatenate([original, *(column[index] for column in edited)], axis=1) for index in range(len(targets))]
picture = Image.fromarray(np.concatenate(rows))
picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
picture.save(options.out / "task_edit.png")
