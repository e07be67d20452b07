"""Our world model beside what a user would pick instead, at equal width, heads, depth and tokens: time and memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.floor import Floor
from benchmarks.memory import peak
from benchmarks.models import TINY, Size, world_model
from benchmarks.parts.blocks import step
from benchmarks.peers import gaia2_pytorch, transformers
from benchmarks.settings import Settings
from benchmarks.timing import Figure, Spread, collect, interleaved, ratio


def measure(settings: Settings) -> Iterator[Figure]:
    """One network evaluation of each, against ours and against its own floor."""
    size = TINY if settings.small else Size()
    for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
        model = world_model(size, dtype, settings.device)
        ours = step(model, size, dtype, settings.device)
        weights = transformers.parameters(model.transformer_blocks)
        peers = {label: make(size, dtype, settings.device) for label, make in transformers.MAKE.items()}
        if gaia2_pytorch.available():
            peers["gaia2-pytorch"] = gaia2_pytorch.world_model(size, dtype, settings.device)
        runs = {label: _inference(peer.run) for label, peer in peers.items()}
        floors = {label: Floor(run, settings.device) for label, run in runs.items()}
        spent: dict[str, list[float]] = {label: [] for label in runs}

        def floor_of(label: str, spent: Any = spent, floors: Any = floors) -> Callable[[], None]:
            return lambda: spent[label].append(floors[label].seconds())

        works = {"ours": ours, **runs, **{f"{label}, floor": floor_of(label) for label in runs}}
        times = interleaved(works, settings.rounds)
        memory = {label: Spread.of([peak(run) for _ in range(3)]) for label, run in {"ours": ours, **runs}.items()}
        for label, peer in peers.items():
            share = peer.block_parameters / weights
            details = {
                "size": str(size),
                "block_parameters_of_ours": share,
                "gflop": floors[label].flops / 1e9,
                "mib": memory[label].median,
                "our_mib": memory["ours"].median,
            }
            named = f"{label}, {name}"
            equal = ratio(times["ours"], times[label], share)
            yield Figure(
                "peers",
                f"{named}, time at equal depth",
                "of the peer",
                ratio(times["ours"], times[label]),
                None,
                details,
            )
            yield Figure("peers", f"{named}, time at equal parameters", "of the peer", equal, 0.8, details)
            pairs = Spread.of([memory["ours"].median / memory[label].median])
            yield Figure("peers", f"{named}, peak memory", "of the peer", pairs, 0.8, details)
            own = ratio(times[label], spent[label][-settings.rounds :])
            yield Figure("peers", f"{named}, its own floor", "of the floor", own, None, details)
        del model, peers, runs, works, floors
        collect()


def _inference(run: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
    def inference() -> torch.Tensor:
        with torch.no_grad():
            return run()

    return inference
