"""Runs of the recipes on tiny models, in processes of their own."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from gaia2.data.clip_folder import write_chunk
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.training.options import TrainingOptions
from gaia2.training.run_checkpoints import RunCheckpoints, load_tensors, tensor_sizes
from tests.ranks import await_ranks, start_ranks
from tests.recipes.tiny_preset import PRESET
from tests.tiny import clip, tokenizer, world_model

ROOT = Path(__file__).parents[2]


def run_recipe(rank: int, name: str, options: TrainingOptions) -> None:
    """Train, with tiny models for the mini preset; what a process does."""
    from gaia2.models import presets
    from tests.recipes.tiny_preset import PRESET

    sys.path.insert(0, str(ROOT / "recipes"))
    presets.mini = lambda: PRESET
    importlib.import_module(name).train(options)


def killed_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let trainings in this process die behind the checkpoint of a step."""
    save = RunCheckpoints.save

    def save_and_die(self: RunCheckpoints, at: int, *args: Any) -> None:
        save(self, at, *args)
        if at == step:
            self.finish()
            raise KeyboardInterrupt

    monkeypatch.setattr(RunCheckpoints, "save", save_and_die)


def last_step(out: Path) -> int:
    """Step of the last line of a run's log."""
    path = out / "scalars.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


def kill_often(name: str, options: TrainingOptions, folder: Path, *, kills: int, count: int = 1) -> list[str]:
    """Train, killing one of the processes with SIGKILL at random moments and going on; gives what was done.

    The first kill falls behind the first checkpoint; after each one the run has to get further.
    """
    history: list[str] = []
    for number in range(1000):
        trace = folder / f"attempt-{number}"
        trace.mkdir()
        processes = start_ranks(run_recipe, name, options, count=count, folder=trace)
        if number < kills:
            wait = last_step(options.out) + random.randint(1, 2), random.uniform(0, 0.1)
            while last_step(options.out) < wait[0] and all(process.is_alive() for process in processes):
                time.sleep(0.002)
            time.sleep(wait[1])
            victim = random.randrange(count)
            with suppress(ProcessLookupError):  # it has ended by itself, which is found below
                os.kill(processes[victim].pid or 0, signal.SIGKILL)
            history.append(f"rank {victim} {wait[1]:.3f} s after step {wait[0]}")
        hanging = await_ranks(processes)
        errors = [path.read_text() for path in sorted(trace.glob("error*"))]
        assert not hanging, f"{hanging} ranks hang after {history}"
        if all(process.exitcode == 0 for process in processes):
            return history
        if number >= kills:
            raise AssertionError("\n".join([*errors, *history]))
    raise AssertionError(f"never ends: {history}")


def last_state(out: Path) -> dict[str, Any]:
    """All that the newest checkpoint of a run holds."""
    last = RunCheckpoints(out / "checkpoints").newest()
    assert last is not None
    tensors = {name: torch.empty(size) for name, size in tensor_sizes(last.path).items()}
    load_tensors(last.path, tensors)
    return {**tensors, "step": last.step, "learners": last.facts["learners"]}


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (out / "scalars.jsonl").read_text().splitlines()]


def same_tree(one: Any, other: Any) -> bool:
    """Whether nested states are equal, tensors bit by bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_tree(value, other[key]) for key, value in one.items())
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same_tree, one, other))
    return bool(one == other)


def save_clips_and_pipeline(path: Path) -> dict[str, Any]:
    """Four clips and a tiny pipeline in that folder, as options of recipes that begin with a released model."""
    write_chunk(path / "clips", 0, [clip(i) for i in range(4)])
    model = world_model(**PRESET.world_model)
    Gaia2Pipeline(vae=tokenizer(), transformer=model, scheduler=FlowMatchScheduler()).save_pretrained(path / "model")
    return dict(data=path / "clips", model=str(path / "model"))
