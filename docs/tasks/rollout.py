# %% [markdown]
# # Drive for a minute
#
# Speed and curvature come from a comma2k19 segment, one minute on a road; the video is made window by window and
# written as it comes, so memory does not grow with its length.
#
# Run it as `python docs/tasks/rollout.py --segment <route>/<segment>`. Without a segment, a minute of gentle bends is
# driven instead.

# %%
import argparse
import resource
import time
from pathlib import Path

import numpy as np
import torch

import gaia2
from gaia2.data import load_comma2k19
from gaia2.video.files import VideoWriter
from gaia2.viz.mosaic import mosaic

parser = argparse.ArgumentParser()
parser.add_argument("--segment", type=Path, help="folder of a comma2k19 segment")
parser.add_argument("--out", type=Path, default=Path("runs/tasks"), help="folder for the video")
parser.add_argument("--steps", type=int, default=50, help="denoising steps of each window")
parser.add_argument("--seconds", type=float, default=60.0, help="length of the video")
options = parser.parse_known_args()[0]  # a notebook has arguments of its own

# %%
pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
pipe.set_progress_bar_config(desc="rollout")

# %% [markdown]
# The default model was trained at 10 frames a second. A scene has whole latents of a few frames each.

# %%
rate, group = 10.0, pipe.vae.frames_per_latent
num_frames = int(options.seconds * rate) // group * group
if options.segment is None:
    seconds = np.arange(num_frames) / rate
    scene = gaia2.Scene.create("front", num_frames=num_frames, speed=12.0, curvature=0.01 * np.sin(seconds / 4))
else:
    # The log ends a little before the last whole latent of its minute: its own length decides.
    whole = load_comma2k19(options.segment).resample(frame_rate=rate)
    num_frames = min(num_frames, whole.num_frames // group * group)
    scene = whole.window(0, num_frames)
scene = scene.replace(country="us", weather="clear", time_of_day="day")
print(scene)


def memory() -> float:
    """Resident memory in MiB."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


# %% [markdown]
# `pipe.stream` gives the frames of each window. For the check of the borders, the mean difference between neighbouring
# frames is kept: one number a frame.

# %%
overlap = pipe.transformer.config.window_latents // 2
steps_between: list[np.ndarray] = []
used: list[float] = []
last = None
began = time.perf_counter()
with VideoWriter(options.out / "task_rollout.mp4", rate, quality=26) as video:
    pieces = pipe.stream(
        scene,
        num_inference_steps=options.steps,
        guidance_scale=1.0,  # none: half the time
        num_context_latents=overlap,
        generator=torch.Generator().manual_seed(0),
    )
    for piece in pieces:
        frames = piece.frames[0] if last is None else np.concatenate([last, piece.frames[0]])
        assert np.isfinite(frames).all()
        steps_between.append(np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3, 4)))
        last = frames[-1:]
        video.write(mosaic(piece.pixels(), piece.camera_names, scale=2))
        used.append(memory())

# %% [markdown]
# Windows meet where new latents begin. A jump there would show as a larger difference than inside of windows. The
# borders are also compared with the steps from one latent to the next inside of windows.

# %%
change = np.concatenate(steps_between)
window = pipe.transformer.config.window_latents
borders = np.arange(window, num_frames // group, window - overlap) * group - 1
inside = np.setdiff1d(np.arange(len(change)), borders)
latent_steps = np.intersect1d(np.arange(group - 1, len(change), group), inside)
seconds = time.perf_counter() - began
print(f"{num_frames} frames in {seconds:.0f} s, {len(used)} pieces")
print(f"most memory in the first half {max(used[: len(used) // 2 + 1]):.0f} MiB, in all {max(used):.0f} MiB")
if len(borders):
    ratio = change[borders].mean() / change[inside].mean()
    ratio_to_latents = change[borders].mean() / change[latent_steps].mean()
    print(
        f"change between frames: {change[borders].mean():.4f} at borders, {change[inside].mean():.4f} inside windows,"
    )
    print(f"of it {change[latent_steps].mean():.4f} from latent to latent")
    print(f"ratio of borders to inside {ratio:.2f}, to the steps between latents inside {ratio_to_latents:.2f}")
