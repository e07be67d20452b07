"""Compare samplers on held-out procedural scenes: Fréchet distance to what the world looks like, obedience, time.

    python benchmarks/samplers.py --scenes 32 --rig front

The distance is between features of EfficientNet-Lite0 of the generated frames and of the world's own pictures of the
same scenes; figures of it compare with one another only, at the same number of scenes. Obedience is the share of
generated clips that are nearer to the picture of their own scene than to those of the other scenes: chance is one over
the number of scenes. All samplers begin with the same noise. A guided step costs two network evaluations.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional
from tqdm import tqdm

import gaia2
from gaia2.data.procedural import ProceduralWorld
from gaia2.metrics.extractors import efficientnet_features
from gaia2.metrics.frechet import FrechetStatistics, frechet_distance
from gaia2.schedulers import FlowMatchScheduler

FIRST_SEED = 600_000_000  # no training takes seeds from here on
SAMPLERS = {  # solver, steps, guidance scale
    "euler 50": ("euler", 50, 1.0),
    "adams_bashforth 50": ("adams_bashforth", 50, 1.0),
    "adams_bashforth 25": ("adams_bashforth", 25, 1.0),
    "heun 25": ("heun", 25, 1.0),
    "euler 50, guidance 2": ("euler", 50, 2.0),
    "adams_bashforth 50, guidance 2": ("adams_bashforth", 50, 2.0),
    "adams_bashforth 25, guidance 2": ("adams_bashforth", 25, 2.0),
    "heun 25, guidance 3": ("heun", 25, 3.0),
}


def clip_features(features: torch.Tensor, num_clips: int) -> torch.Tensor:
    """One vector a clip and camera `(i, d)`, of length 1, of the features of all its frames."""
    per_clip = rearrange(features, "(i f) d -> i f d", i=num_clips).mean(dim=1)
    return functional.normalize(per_clip - per_clip.mean(dim=0), dim=1)


def main(options: argparse.Namespace) -> None:
    pipe = gaia2.Gaia2Pipeline.from_pretrained(options.model or gaia2.default_model())
    pipe.set_progress_bar_config(disable=True)
    height, width = pipe.vae.config.sample_size
    length = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
    world = ProceduralWorld(rig=options.rig, image_size=(height, width), num_frames=length)
    seeds = [FIRST_SEED + index for index in range(options.scenes)]
    scenes = world.sample_scenes(seeds)
    extract = efficientnet_features()

    def features_of(frames: np.ndarray) -> torch.Tensor:
        """Of every fourth frame `(tv, n, 3, hv, wv)` uint8, cameras first."""
        return extract(torch.from_numpy(rearrange(frames[2::4], "f n c hv wv -> (n f) c hv wv")))

    real = torch.cat([features_of(np.asarray(world.render([s], [seed])[0])) for s, seed in zip(scenes, seeds)])
    truth, clips = FrechetStatistics.of(real), options.scenes * scenes[0].rig.num_cameras
    per_scene = clip_features(real, clips)
    print(f"{options.scenes} scenes, {extract.name}\n{'sampler':34s} Fréchet  obedience  seconds")
    for name in options.samplers or SAMPLERS:
        solver, steps, scale = SAMPLERS[name]
        pipe.scheduler = FlowMatchScheduler.from_config(pipe.scheduler.config, solver=solver)
        features, began = [], time.process_time()
        for scene, seed in tqdm(list(zip(scenes, seeds, strict=True)), desc=name, leave=False):
            generator = torch.Generator().manual_seed(seed)
            output = pipe(scene, num_inference_steps=steps, guidance_scale=scale, generator=generator)
            features.append(features_of(rearrange(output.pixels(), "tv n hv wv c -> tv n c hv wv")))
        seconds = (time.process_time() - began) / options.scenes
        made = torch.cat(features)
        distance = float(frechet_distance(truth, FrechetStatistics.of(made)))
        nearest = (clip_features(made, clips) @ per_scene.T).argmax(dim=1)
        obeyed = float((nearest == torch.arange(clips)).float().mean())
        print(f"{name:34s} {distance:7.2f}  {obeyed:9.2f}  {seconds:7.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=32)
    parser.add_argument("--rig", default="front")
    parser.add_argument("--model", type=Path, help="folder of a pipeline; the default model if not given")
    parser.add_argument("--samplers", nargs="*", choices=SAMPLERS, help="some of them; all by default")
    main(parser.parse_args())
