"""Memory of this process while something runs."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MIB = 2**20


def peak(run: Callable[[], Any]) -> float:
    """MiB that a run holds at its most, beyond what was held before; NaN where the system does not tell.

    On a GPU its allocator tells; on a CPU the kernel does, which counts what libraries take for themselves, too.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return (torch.cuda.max_memory_allocated() - before) / MIB
    if not sys.platform.startswith("linux"):
        return float("nan")
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def held() -> float:
    """MiB that the process holds now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{name}: expected in /proc/self/status, found no such line")
