"""Images per second of the procedural world.

    python benchmarks/render_procedural.py --threads 2 --compile
    python benchmarks/render_procedural.py --threads 2 --image-size 112 240 --rays 1

Prints one line: wall-clock images per second, processor time per image, and the time of the first call.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import tyro

from gaia2.data.procedural import ProceduralWorld


@dataclass(frozen=True)
class Benchmark:
    """What to measure."""

    image_size: tuple[int, int] = (64, 128)
    """Height and width in pixels."""
    rays: int = 2
    """Rays of a pixel: 1, 2, or a square number."""
    rig: str = "surround"
    """Name of the camera rig."""
    clips: int = 8
    """Clips in a batch."""
    num_frames: int = 8
    """Frames of each clip."""
    repeats: int = 5
    """Batches that are timed; the fastest counts."""
    threads: int = 2
    """Processor threads."""
    compile: bool = False
    """Compile the picture program first."""
    device: str = "cpu"
    """Where to render: cpu or cuda."""


def measure(setup: Benchmark) -> str:
    """Renders the same batch several times and describes the fastest."""
    torch.set_num_threads(setup.threads)
    world = ProceduralWorld(
        rig=setup.rig,
        image_size=setup.image_size,
        num_frames=setup.num_frames,
        rays=setup.rays,
        device=setup.device,
        compile=setup.compile,
    )
    seeds = list(range(setup.clips))
    scenes = world.sample_scenes(seeds)

    def timed() -> tuple[float, float, int]:
        wall, processor = time.perf_counter(), time.process_time()
        frames = world.render(scenes, seeds)
        if frames.is_cuda:
            torch.cuda.synchronize()
        images = frames.shape[0] * frames.shape[1] * frames.shape[2]
        return time.perf_counter() - wall, time.process_time() - processor, images

    first, _, images = timed()
    runs = [timed() for _ in range(setup.repeats)]
    wall, processor = min(r[0] for r in runs), min(r[1] for r in runs)
    height, width = setup.image_size
    return (
        f"{height}x{width}, {setup.rays} rays, {setup.threads} threads, {setup.device}, "
        f"{'compiled' if setup.compile else 'eager'}: {images / wall:.0f} images/s, "
        f"{1e3 * processor / images:.1f} ms of processor time per image, first call {first:.1f} s"
    )


if __name__ == "__main__":
    print(measure(tyro.cli(Benchmark)))
