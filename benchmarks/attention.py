"""Plain matrix products against the dispatched attention kernel on the CPU, over the length of the context.

    python benchmarks/attention.py --threads 2

Both are timed in turn in one process, forward alone and forward with backward, so that the ratio holds on a busy
machine too. The last column is what `gaia2.nn.attention.CPU_SHORT_CONTEXT` is chosen by: above 1, plain products are
quicker.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import tyro
from diffusers.models.attention_dispatch import dispatch_attention_fn

from gaia2.nn.attention import CPU_SHORT_CONTEXT, short_attention

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Options:
    """What to time."""

    lengths: tuple[int, ...] = (3, 8, 32, 64, 128, 256, 512, 1024)
    """Tokens of the context, and queries."""
    tokens: int = 2048
    """Queries in all: the batch is this many divided by the length."""
    heads: int = 7
    """Attention heads."""
    channels: int = 32
    """Channels of a head."""
    dtype: str = "bfloat16"
    """Type of the numbers, a name in torch."""
    repeats: int = 15
    """Timings of each; the median counts."""
    threads: int = 0
    """Threads of torch; 0 leaves torch's own choice."""


def seconds(attend: Attend, qkv: list[torch.Tensor], backward: bool) -> float:
    """Time of one call."""
    began = time.perf_counter()
    with torch.set_grad_enabled(backward):
        out = attend(*qkv)
        if backward:
            out.sum().backward()
    return time.perf_counter() - began


def compare(options: Options, length: int, backward: bool) -> tuple[float, float]:
    """Median seconds of plain products and of the dispatched kernel, in turn."""
    shape = (max(1, options.tokens // length), length, options.heads, options.channels)
    dtype = getattr(torch, options.dtype)
    qkv = [torch.randn(shape, dtype=dtype, requires_grad=backward) for _ in range(3)]
    times: dict[Attend, list[float]] = {short_attention: [], dispatch_attention_fn: []}
    for attend in times:
        seconds(attend, qkv, backward)
    for _ in range(options.repeats):
        for attend, measured in times.items():
            measured.append(seconds(attend, qkv, backward))
    plain, dispatched = (statistics.median(measured) for measured in times.values())
    return plain, dispatched


def main(options: Options) -> None:
    """Print the table."""
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.dtype}, limit {CPU_SHORT_CONTEXT}")
    print(f"{'length':>7} {'pass':>8} {'plain ms':>9} {'kernel ms':>10} {'kernel / plain':>15}")
    for length in options.lengths:
        for backward in (False, True):
            plain, dispatched = compare(options, length, backward)
            name = "both" if backward else "forward"
            print(f"{length:7} {name:>8} {1e3 * plain:9.2f} {1e3 * dispatched:10.2f} {dispatched / plain:15.2f}")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
