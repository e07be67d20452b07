"""Bad input by area: a case is made of an area's name and a seed, so that it can be made again."""

from __future__ import annotations

import importlib
import random
from functools import cache
from typing import Any

from tests.edges.clear import Case

AREAS = (
    "scene",
    "scene_file",
    "nn",
    "schedulers",
    "models",
    "loading",
    "pipelines",
    "commands",
    "conditions",
    "data",
    "video",
)
MODULES = {"scene_file": "scene"}


def make_case(area: str, seed: int) -> Case:
    """The bad call of an area that a seed stands for."""
    rng = random.Random(f"{area}:{seed}")
    module = _module(area)
    maker = getattr(module, "MAKERS", {}).get(area)
    return rng.choice(module.TARGETS).case(rng) if maker is None else maker(rng)


def targets(area: str) -> list[Any]:
    """The calls of an area that are made with one bad argument."""
    module = _module(area)
    return [] if area in getattr(module, "MAKERS", {}) else module.TARGETS


@cache
def _module(area: str) -> Any:
    return importlib.import_module(f"tests.edges.of_{MODULES.get(area, area)}")
