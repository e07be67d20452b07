# %% [markdown]
# # Make a part of a video again
#
# A mask in space, time and cameras says what is made again so that it obeys the scene; every other latent stays as it
# was encoded, to the last bit. The decoder looks at neighbours, so pixels beside the mask may change a little. Here the
# masks are the tubes of agents: one is taken out of a clip, and another is asked for.
#
# Run it as `python docs/tasks/inpaint.py`, or open it as a notebook with jupytext.

# %%
import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.pipelines import agent_tubes, project_agents

parser = argparse.ArgumentParser()
parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="folder for the pictures")
parser.add_argument("--steps", type=int, default=50, help="denoising steps")
options = parser.parse_known_args()[0]  # a notebook has arguments of its own
options.out.mkdir(parents=True, exist_ok=True)

# %%
pipe = gaia2.Gaia2InpaintPipeline.from_pretrained(gaia2.default_model())
pipe.set_progress_bar_config(desc="inpaint")

# %% [markdown]
# A clip of the procedural world, and its agent that is largest in the front camera.

# %%
clip = ProceduralWorld(rig="surround", image_size=(64, 128), num_frames=24).sample([10_000_005])[0]
seen = project_agents(clip.scene)[:, 0, :, :4]
area = np.nan_to_num((seen[..., 2] - seen[..., 0]) * (seen[..., 3] - seen[..., 1])).sum(axis=0)
largest = int(area.argmax())
keep = np.arange(clip.scene.agents.max_agents) != largest

# %% [markdown]
# Out: the mask is the agent's tube, the scene is the same without it.

# %%
agents = clip.scene.agents
others = gaia2.Agents(agents.boxes[:, keep], agents.category[:, keep], agents.track_id[:, keep])
track = int(agents.track_id[:, largest].max())
mask = agent_tubes(clip.scene, [track], dilation=6)
removed = pipe(
    clip.scene.replace(agents=others),
    clip.frames,
    mask,
    generator=torch.Generator().manual_seed(0),
    num_inference_steps=options.steps,
)

# %% [markdown]
# In: the scene has a bus that comes towards us; `agents=[99]` masks its tube. Guidance on the agents asks for it more
# strongly.

# %%
bus = np.tile([30.0, 4.0, 1.6, 9.0, 2.5, 3.2, np.pi], (24, 1))
bus[:, 0] -= 1.0 * np.arange(24)
added = clip.scene.replace(
    agents=gaia2.Agents(
        np.concatenate([others.boxes, bus[:, None]], axis=1),
        np.concatenate([others.category, np.full((24, 1), 2)], axis=1),
        np.concatenate([others.track_id, np.full((24, 1), 99)], axis=1),
    )
)
put_in = pipe(
    added,
    clip.frames,
    mask,
    agents=[99],
    generator=torch.Generator().manual_seed(0),
    num_inference_steps=options.steps,
    guidance_scale=3.0,
    guidance_on=("agents",),
)

# %% [markdown]
# The front camera: the clip, its mask in red, what was made without the agent, and what was made where the bus is asked
# for.

# %%
original = np.asarray(clip.frames).transpose(0, 1, 3, 4, 2)
masked = np.where(mask[..., None], original // 2 + np.array([120, 0, 0], dtype=np.uint8), original)
columns = [video[4::8, 0] for video in (original, masked, removed.pixels(), put_in.pixels())]
picture = Image.fromarray(np.concatenate([np.concatenate(list(column)) for column in columns], axis=1))
picture = picture.resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
picture.save(options.out / "task_inpaint.png")
