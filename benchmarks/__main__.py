"""Measure what the library costs, as ratios within one run: to the floor, and to what a user would pick instead.

    python -m benchmarks                                   # all parts
    python -m benchmarks block peers --dtypes bfloat16     # some of them
    python -m benchmarks --json figures.json               # and keep the figures, for docs/performance_tables.py

The floor of a computation is the time that its matrix products alone take, at their own shapes, in the same process.
All that is compared takes its turn in each round; a figure is the median of the rounds, with their quartiles. Scripts
beside this command look closer at one question each: attention.py, data.py, render_procedural.py, samplers.py and
training.py.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import typing
from collections.abc import Callable, Iterator
from datetime import date
from typing import Any

import diffusers
import torch
import tyro

import gaia2
from benchmarks.settings import PartName, Settings
from benchmarks.timing import Figure, collect, use_clock
from gaia2._files import replacing

PARTS: dict[PartName, str] = {
    "import": "startup:measure_import",
    "loading": "startup:measure_loading",
    "block": "blocks:measure_block",
    "world_model": "blocks:measure_world_model",
    "paper_width": "blocks:measure_paper_width",
    "temporal_attention": "blocks:measure_temporal_attention",
    "peers": "peers:measure",
    "tokenizer": "tokenizer:measure",
    "tokenizer_peers": "tokenizer:measure_peers",
    "sampling": "generation:measure_sampling",
    "caches": "caches:measure",
    "growth": "generation:measure_growth",
    "memory": "memory:measure",
    "data": "data:measure",
}


def part(name: PartName) -> Callable[[Settings], Iterator[Figure]]:
    """The function that measures a part."""
    module, function = PARTS[name].split(":")
    return getattr(importlib.import_module(f"benchmarks.parts.{module}"), function)


def machine(settings: Settings) -> dict[str, Any]:
    """What the figures were measured on, and how."""
    return {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if settings.device.startswith("cuda") else _processor(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "clock": settings.clock,
        "rounds": settings.rounds,
        "gaia2": gaia2.__version__,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "allocator": {name: value for name, value in os.environ.items() if name.startswith("MALLOC_")},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def measure(settings: Settings) -> dict[str, Any]:
    """Run the parts and print their figures; gives what the file of them holds."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    use_clock(settings.clock)
    result: dict[str, Any] = {"parts": {}}
    if settings.json is not None and settings.json.exists():
        result = json.loads(settings.json.read_text())
    for name in settings.parts or typing.get_args(PartName):
        figures: list[dict[str, Any]] = []
        result["parts"][name] = {"machine": machine(settings), "figures": figures}
        for figure in part(name)(settings):
            print(figure, flush=True)
            figures.append(figure.to_json())
            if settings.json is not None:  # after each, so that a run that is cut short keeps what it has
                with replacing(settings.json) as unfinished:
                    unfinished.write_text(json.dumps(result, indent=1) + "\n")
        collect()
    return result


if __name__ == "__main__":
    measure(tyro.cli(Settings, description=__doc__))
