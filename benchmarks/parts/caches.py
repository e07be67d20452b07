"""diffusers' step caches on the default model: the time that they save, and how far they lead astray."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from diffusers import FirstBlockCacheConfig
from diffusers.hooks import TaylorSeerCacheConfig

from benchmarks.parts.generation import pipeline, scene
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, interleaved, ratio
from gaia2 import Gaia2Pipeline
from gaia2.training.few_steps import distance

STEPS = 50
SEEDS = (0, 1, 2, 3)


def measure(settings: Settings) -> Iterator[Figure]:
    """Generations with caches, and with fewer steps, against one of all steps: time, and distance from the same noise.

    The distance is the root of the mean square over normalised latents, whose deviation is near 1.
    """
    pipe = pipeline(settings)
    steps = 4 if settings.small else STEPS
    ways: dict[str, tuple[int, Any]] = {
        "all steps": (steps, None),
        "half of the steps": (steps // 2, None),
        "a fourth of the steps": (steps // 4, None),
        **{f"FirstBlockCache, {t:g}": (steps, FirstBlockCacheConfig(threshold=t)) for t in (0.02, 0.05, 0.1)},
        "TaylorSeer": (steps, TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=3)),
    }
    times = interleaved({name: partial(_generate, pipe, *way) for name, way in ways.items()}, settings.rounds)
    whole = [_generate(pipe, steps, None, seed) for seed in SEEDS]
    for name in list(ways)[1:]:
        saved = ratio(times[name], times["all steps"])
        yield Figure("caches", f"{name}, time", f"of {steps} steps", saved, None, {"steps": ways[name][0]})
        off = [float(distance(_generate(pipe, *ways[name], seed), end)) for seed, end in zip(SEEDS, whole, strict=True)]
        yield Figure("caches", f"{name}, distance", f"from {steps} steps", Spread.of(off), None, {"seeds": len(SEEDS)})


def _generate(pipe: Gaia2Pipeline, steps: int, cache: Any, seed: int = 0) -> torch.Tensor:
    """Latents of five cameras and a window."""
    frames = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
    if cache is not None:
        pipe.transformer.enable_cache(cache)
    try:
        generator = torch.Generator().manual_seed(seed)
        asked = scene(5, frames)
        options = dict(num_inference_steps=steps, guidance_scale=1.0)  # TaylorSeer and others want one branch
        return pipe(asked, **options, generator=generator, output_type="latent").frames
    finally:
        if cache is not None:
            pipe.transformer.disable_cache()
