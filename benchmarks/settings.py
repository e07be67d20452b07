"""What a run of the benchmarks is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro

from benchmarks.timing import Clock

PartName = Literal[
    "import",
    "loading",
    "block",
    "world_model",
    "paper_width",
    "temporal_attention",
    "peers",
    "tokenizer",
    "tokenizer_peers",
    "sampling",
    "caches",
    "growth",
    "memory",
    "data",
]
DtypeName = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Settings:
    """What to measure, and how."""

    parts: tyro.conf.Positional[tuple[PartName, ...]] = ()
    """Parts to run; all if none is named."""
    json: Path | None = None
    """File for the figures; those of parts that it has and that are not run again stay."""
    threads: int = 0
    """Threads of torch; 0 leaves torch's own choice."""
    clock: Clock = "wall"
    """`processor` counts this process alone, for a machine that has other work; give it one thread then."""
    rounds: int = 7
    """Rounds in which all that is compared takes its turn; medians and quartiles are over them."""
    dtypes: tuple[DtypeName, ...] = ("float32", "bfloat16")
    """Types of the numbers."""
    compiled: bool = False
    """Measure compiled blocks besides, where a part has them."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to compute."""
    small: bool = False
    """Sizes of a test: the figures say nothing, but everything runs."""

    @property
    def torch_dtypes(self) -> list[torch.dtype]:
        """`dtypes` as torch's."""
        return [getattr(torch, name) for name in self.dtypes]
