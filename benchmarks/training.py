"""Tokens a second and model FLOPs utilisation of blocks of the world model in training, forward and backward.

    python benchmarks/training.py                               # one and four blocks of the paper's width, on a GPU
    python benchmarks/training.py --dim 224 --heads 7 --latents 3 --grid 4 8 --device cpu --peak-tflops 0.1

Each is timed as it is and compiled, with and without recomputing activations, in turn in one process. Utilisation
counts the products of one forward and twice as many for the backward pass, not what is computed again, over the rate
that the maker states. With `--loop`, the share of a training step of the mini preset that is neither forward,
backward nor optimizer.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gaia2.nn.blocks import WorldModelBlock
from gaia2.training.options import Checkpointing
from gaia2.training.parallel import checkpoint_activations

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Options:
    """What to time."""

    blocks: tuple[int, ...] = (1, 4)
    """Numbers of blocks."""
    dim: int = 4096
    """Channels (paper: 4096)."""
    heads: int = 32
    """Attention heads (paper: 32)."""
    latents: int = 6
    """Latent times (paper: 6)."""
    cameras: int = 5
    """Cameras (paper: 5)."""
    grid: tuple[int, int] = (14, 30)
    """Cells of a camera (paper: 14 30)."""
    conditions: int = 29
    """Condition tokens of a camera and time: 16 boxes, 11 metadata names, CLIP and scenario."""
    modes: tuple[Checkpointing, ...] = ("none", "selective", "full")
    """Modes of activation checkpointing."""
    repeats: int = 10
    """Timings of each; the median counts."""
    peak_tflops: float = 989.0
    """The machine's dense bfloat16 rate (H100: 989)."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to compute."""
    loop: bool = False
    """Measure the overhead of the training loop at mini size in place of the blocks."""


class Stack(nn.Module):
    """Blocks one after the other."""

    def __init__(self, options: Options, number: int, mode: Checkpointing, compiled: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(WorldModelBlock(dim=options.dim, num_heads=options.heads) for _ in range(number))
        for block in self.blocks:
            checkpoint_activations(block, mode)
            if compiled:
                block.compile()

    def forward(self, tokens: torch.Tensor, given: tuple[torch.Tensor, ...], masks: dict[str, Any]) -> torch.Tensor:
        """All blocks."""
        for block in self.blocks:
            tokens = block(tokens, *given, **masks)
        return tokens


def inputs(options: Options) -> tuple[torch.Tensor, tuple[torch.Tensor, ...], dict[str, Any]]:
    """Tokens, and what a block takes beside them, with the masks of training."""
    t, n, (h, w), c = options.latents, options.cameras, options.grid, options.dim
    with torch.device(options.device):
        tokens = torch.randn(1, t, n, h, w, c, dtype=torch.bfloat16, requires_grad=True)
        given = (torch.randn(1, t, n, h, w, c), torch.randn(1, t, c), torch.randn(1, t, n, options.conditions, c))
        masks = dict(
            known_modulation=torch.randn(1, t, c),
            known_mask=torch.rand(1, t, n, h, w) < 0.3,
            condition_mask=torch.ones(1, t, n, options.conditions, dtype=torch.bool),
            camera_mask=torch.ones(1, n, dtype=torch.bool),
        )
    return tokens, given, masks


def seconds(run: Callable[[], None], options: Options) -> float:
    """Median time of a call, after two that warm up."""
    times = []
    for number in range(options.repeats + 2):
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()
        began = time.perf_counter()
        run()
        if options.device.startswith("cuda"):
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def measure(options: Options, number: int, mode: Checkpointing, compiled: bool) -> dict[str, Any]:
    """Tokens a second, utilisation and peak memory of a stack."""
    stack = Stack(options, number, mode, compiled).to(options.device)
    tokens, given, masks = inputs(options)

    def step() -> None:
        with torch.autocast(options.device.split(":")[0], torch.bfloat16):
            out = stack(tokens, given, masks)
        out.float().square().mean().backward()
        stack.zero_grad(set_to_none=True)

    with torch.no_grad(), FlopCounterMode(display=False) as flops, torch.compiler.set_stance("force_eager"):
        stack(tokens.float(), given, masks)
    if options.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    took = seconds(step, options)
    memory = torch.cuda.max_memory_allocated() / 1e9 if options.device.startswith("cuda") else float("nan")
    return dict(
        blocks=number,
        checkpointing=mode,
        compiled=compiled,
        milliseconds=1e3 * took,
        tokens_a_second=tokens.shape[1:5].numel() / took,
        utilisation=3 * flops.get_total_flops() / took / (options.peak_tflops * 1e12),
        gigabytes=memory,
    )


def loop_overhead() -> dict[str, float]:
    """Share of the time between two steps that is neither forward, backward nor optimizer, at mini size."""
    sys.path.insert(0, str(ROOT / "recipes"))
    import train_world_model

    from gaia2.data.clip_folder import write_chunk
    from gaia2.data.procedural import ProceduralWorld
    from gaia2.models import presets
    from gaia2.models.video_tokenizer import VideoTokenizer
    from gaia2.training.learner import Learner

    inside, marks = [0.0], []

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                inside[0] += time.perf_counter() - began

        return call

    train_world_model.world_model_loss = timed(train_world_model.world_model_loss)
    torch.Tensor.backward = timed(torch.Tensor.backward)  # type: ignore[method-assign]
    Learner.clip = timed(Learner.clip)  # type: ignore[method-assign]
    step = timed(Learner.step)

    def step_and_mark(self: Learner, number: int) -> float:
        rate = step(self, number)
        marks.append((time.perf_counter(), inside[0]))
        return rate

    Learner.step = step_and_mark  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        world = ProceduralWorld(rig="surround", image_size=(64, 128), num_frames=24, rays=1)
        write_chunk(path / "clips", 0, world.sample(range(8)))
        VideoTokenizer(**presets.mini().tokenizer).save_pretrained(path / "tokenizer")
        options = dict(steps=12, batch_size=8, validation_clips=1, validate_every=99, save_every=99)
        recipe = train_world_model.WorldModelRecipe(
            data=path / "clips", tokenizer=path / "tokenizer", out=path / "out", **options
        )
        train_world_model.train(recipe)
    (began, before), (ended, after) = marks[1], marks[-2]
    return dict(seconds_a_step=(ended - began) / (len(marks) - 3), overhead=1 - (after - before) / (ended - began))


def main(options: Options) -> None:
    """Print a line of JSON for each measurement."""
    if options.loop:
        print(json.dumps(loop_overhead()))
        return
    for number in options.blocks:
        for mode in options.modes:
            for compiled in (False, True):
                print(json.dumps(measure(options, number, mode, compiled)), flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
