"""Runs a function in several processes that are the ranks of a job, on the CPU.

The processes are forked from a server that has imported what they need, once for all tests.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

SECONDS = 900  # a machine may be busy; what hangs for good is ended by the timeout of the group


def run_ranks(function: Callable[..., Any], *args: Any, count: int = 2) -> None:
    """Call `function(rank, *args)` in `count` processes that have joined a group; raises what went wrong in one."""
    with tempfile.TemporaryDirectory() as folder:
        processes = start_ranks(function, *args, count=count, folder=Path(folder))
        hanging = await_ranks(processes)
        errors = [path.read_text() for path in sorted(Path(folder).glob("error*"))]
    assert not errors, "\n".join(errors)
    assert not hanging, f"{hanging} of {count} ranks did not end in {SECONDS} s"
    assert all(process.exitcode == 0 for process in processes), [process.exitcode for process in processes]


def start_ranks(function: Callable[..., Any], *args: Any, count: int, folder: Path) -> list[ForkServerProcess]:
    """Begin what `run_ranks` does; errors are written into the folder, a fresh one."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.ranks_preload"])
    processes = [context.Process(target=_join, args=(function, rank, count, folder, args)) for rank in range(count)]
    for process in processes:
        process.start()
    return processes


def await_ranks(processes: Sequence[ForkServerProcess], seconds: float = SECONDS) -> int:
    """Wait until all have ended; those that do not are killed, and counted."""
    end = time.monotonic() + seconds
    for process in processes:
        process.join(max(0.0, end - time.monotonic()))
    hanging = [process for process in processes if process.exitcode is None]
    for process in hanging:
        process.kill()
        process.join()
    return len(hanging)


def _join(function: Callable[..., Any], rank: int, count: int, folder: Path, args: tuple[Any, ...]) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    log = os.open(folder / f"output{rank}", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1), os.dup2(log, 2)
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count)
    try:
        function(rank, *args)
    except SystemExit:
        raise
    except BaseException:
        (folder / f"error{rank}").write_text(traceback.format_exc())
        os._exit(1)
    if count > 1:
        dist.destroy_process_group()
