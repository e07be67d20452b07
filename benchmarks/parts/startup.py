"""What comes before any work: importing the package, and loading weights."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.models import TINY, Size, world_model
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, interleaved, ratio

IMPORTS = {"gaia2": 0.3, "gaia2.scene": None, "numpy": None, "torch": None}
"""What is imported, in an interpreter of its own, and the seconds that it may take."""


def measure_import(settings: Settings) -> Iterator[Figure]:
    """Seconds of imports, without those of an interpreter that imports nothing."""
    spent: dict[str, list[float]] = {name: [] for name in ("", *IMPORTS)}
    for _ in range(1 if settings.small else settings.rounds):
        for name, times in spent.items():
            times.append(_import(name, settings))
    for name, target in IMPORTS.items():
        seconds = Spread.of([a - b for a, b in zip(spent[name], spent[""], strict=True)])
        yield Figure("import", f"import {name}", "s", seconds, target)


def _import(name: str, settings: Settings) -> float:
    before, began = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {name}" if name else "0"], check=True)
    after, ended = os.times(), time.perf_counter()
    processor = after.children_user - before.children_user + after.children_system - before.children_system
    return processor if settings.clock == "processor" else ended - began


def measure_loading(settings: Settings) -> Iterator[Figure]:
    """A world model from its folder, against reading the file of its weights to memory."""
    import torch

    from gaia2 import WorldModel, default_model

    sizes = {"tiny": TINY} if settings.small else {"0.1 billion weights": Size(dim=1024, heads=16, blocks=4)}
    with tempfile.TemporaryDirectory() as folder:
        places = {"default model": default_model() / "transformer"}
        for label, size in sizes.items():
            places[label] = Path(folder) / label
            world_model(size, torch.float32).save_pretrained(places[label])
        for label, place in places.items():
            file = next(place.glob("*.safetensors"))
            held = bytearray(file.stat().st_size)
            works = {"load": _loading(WorldModel, place), "read": _reading(file, held)}
            if label != "default model":
                works["read to new memory"] = _reading(file, None)
            times = interleaved(works, settings.rounds)
            details = {"mib": file.stat().st_size / 2**20}
            target = None if label == "default model" else 1.5
            value = ratio(times["load"], times.get("read to new memory", times["read"]))
            yield Figure("loading", label, "of reading the file", value, target, details)


def _loading(model_class: type, place: Path) -> Callable[[], object]:
    return lambda: model_class.from_pretrained(place)  # type: ignore[attr-defined]


def _reading(file: Path, held: bytearray | None) -> Callable[[], object]:
    """Read a file that the system holds in memory already, into new memory or into some that is there."""

    def read() -> object:
        if held is None:
            return file.read_bytes()
        with file.open("rb", buffering=0) as stream:
            return stream.readinto(held)

    return read
