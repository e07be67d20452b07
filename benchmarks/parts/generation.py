"""Whole generations: what they cost beside the network and the decoder, and how cost grows with cameras and length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from benchmarks.live import step_flops
from benchmarks.memory import peak
from benchmarks.models import MINI, TINY, Size, rig, world_model
from benchmarks.parts.blocks import step
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, exponent, interleaved, ratio
from gaia2 import FlowMatchScheduler, Gaia2Pipeline, VideoTokenizer, default_model
from gaia2.models import presets
from gaia2.scene import Scene

STEPS = 8


def pipeline(settings: Settings) -> Gaia2Pipeline:
    """The default model; a tiny one with random weights for tests."""
    if settings.small:
        options = dict(dim=32, num_heads=2, encoder_blocks=1, decoder_blocks=(1, 0))
        vae = VideoTokenizer(**{**presets.mini().tokenizer, **options})
        model = world_model(replace(TINY, blocks=2), torch.float32)
        pipe = Gaia2Pipeline(vae=vae, transformer=model, scheduler=FlowMatchScheduler())
    else:
        pipe = Gaia2Pipeline.from_pretrained(default_model())
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(settings.device)


def scene(cameras: int, frames: int) -> Scene:
    """What is generated."""
    return Scene.create(rig(cameras), frames, speed=8.0)


def measure_sampling(settings: Settings) -> Iterator[Figure]:
    """A generation against its network evaluations and its decoding alone."""
    pipe = pipeline(settings)
    size = replace(TINY if settings.small else MINI, cameras=5, grid=(4, 8))
    times = {"frames": 8 * size.times, "cameras": size.cameras}
    once = scene(size.cameras, 8 * size.times)
    network = step(pipe.transformer, size, torch.float32, settings.device)
    with torch.no_grad():
        made = pipe(once, num_inference_steps=1, guidance_scale=1.0, output_type="latent").frames
    steps = 2 if settings.small else STEPS

    def decode() -> Any:
        with torch.no_grad():
            return pipe.decode_latents(made)

    works: dict[str, Callable[[], Any]] = {
        "all": lambda: pipe(once, num_inference_steps=steps, guidance_scale=1.0),
        "guided": lambda: pipe(once, num_inference_steps=steps, guidance_scale=2.0),
        "network": network,
        "decode": decode,
    }
    spent = interleaved(works, settings.rounds)
    alone = [steps * a + b for a, b in zip(spent["network"], spent["decode"], strict=True)]
    details = {**times, "steps": steps, "video_seconds": 8 * size.times / 10}
    yield Figure("sampling", f"{steps} steps", "of steps x forward + decode", ratio(spent["all"], alone), 1.1, details)
    twice = [2 * steps * a + b for a, b in zip(spent["network"], spent["decode"], strict=True)]
    value = ratio(spent["guided"], twice)
    yield Figure("sampling", f"{steps} guided steps", "of 2 x steps x forward + decode", value, 1.1, details)
    seconds = Spread.of([total / details["video_seconds"] for total in spent["all"]])
    yield Figure("sampling", f"{steps} steps", "s a second of video", seconds, None, details)


def measure_growth(settings: Settings) -> Iterator[Figure]:
    """How the cost of a generation grows, and the memory of one that streams."""
    pipe = pipeline(settings)
    window = pipe.transformer.config.window_latents * pipe.vae.frames_per_latent
    steps = 1 if settings.small else 2
    for name, sizes, of in (
        ("cameras", (1, 2) if settings.small else (1, 2, 4, 8), lambda number: scene(number, window)),
        ("windows", (1, 2) if settings.small else (3, 9, 27), lambda number: _windows(pipe, number, window)),
    ):
        works = {str(number): _generation(pipe, of(number), steps) for number in sizes}
        times = interleaved(works, settings.rounds)
        value = exponent(sizes, [times[str(number)] for number in sizes])
        yield Figure("growth", f"cost over {name}", "fitted exponent", value, 1.1, {"sizes": sizes})
    yield _streaming(pipe, window, settings)
    yield from _model_of_cost(settings)


def _windows(pipe: Gaia2Pipeline, number: int, window: int) -> Scene:
    """A scene of so many windows: after the first, each adds what it does not share with those before."""
    overlap = pipe.transformer.config.window_latents // 2 or 1
    new = pipe.transformer.config.window_latents - overlap
    return scene(1, window + (number - 1) * new * pipe.vae.frames_per_latent)


def _generation(pipe: Gaia2Pipeline, asked: Scene, steps: int) -> Callable[[], Any]:
    return lambda: pipe(asked, num_inference_steps=steps, guidance_scale=1.0)


def _streaming(pipe: Gaia2Pipeline, window: int, settings: Settings) -> Figure:
    """Memory at the end of a stream of many windows, against that after a few."""
    few, many = (2, 4) if settings.small else (3, 12)

    def stream(number: int) -> Callable[[], None]:
        def run() -> None:
            for _ in pipe.stream(_windows(pipe, number, window), num_inference_steps=1, guidance_scale=1.0):
                pass

        return run

    stream(few)()
    runs = [[peak(stream(number)) for number in (few, many)] for _ in range(settings.rounds)]
    value = Spread.of([at_many / max(at_few, 1e-9) for at_few, at_many in runs])
    details = {"windows": (few, many), "mib": tuple(median(run) for run in zip(*runs, strict=True))}
    return Figure("growth", "peak memory of a stream, many windows", "of few windows", value, 1.1, details)


def _model_of_cost(settings: Settings) -> Iterator[Figure]:
    """Operations of a network evaluation, counted, times one fitted rate, against its measured time at many sizes."""
    base = TINY if settings.small else Size(dim=256, blocks=2, times=3)
    changes: list[dict[str, Any]] = [
        dict(cameras=1),
        dict(cameras=2),
        dict(),
        dict(times=6),
        dict(grid=(14, 15)),
        dict(grid=(14, 30)),
    ]
    sizes = [replace(base, **change) for change in changes[: 2 if settings.small else None]]
    model = world_model(base, torch.float32, settings.device)
    works = {str(number): step(model, size, torch.float32, settings.device) for number, size in enumerate(sizes)}
    times = interleaved(works, settings.rounds)
    flops = [step_flops(size) for size in sizes]
    for number, size in enumerate(sizes):
        rates = [[f / t for f, t in zip(flops, one, strict=True)] for one in zip(*times.values(), strict=True)]
        mean = [sum(one) / len(one) for one in rates]
        value = Spread.of([m / one[number] for m, one in zip(mean, rates, strict=True)])
        details = {"tokens": size.tokens, "gflop": flops[number] / 1e9}
        h, w = size.grid
        named = f"{size.times}x{size.cameras}x{h}x{w} tokens"
        yield Figure("growth", f"network, {named}", "of what the model of cost says", value, None, details)
