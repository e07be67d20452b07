from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import pytest

from gaia2.training.logging import ScalarLog


def test_a_line_of_json_a_step(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    ScalarLog(folder, tensorboard=False).write(1, {"loss": 0.5, "lr": 1e-3})
    ScalarLog(folder, tensorboard=False).write(2, {"loss": 0.25})
    lines = [json.loads(line) for line in (folder / "scalars.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "loss": 0.5, "lr": 1e-3}, {"step": 2, "loss": 0.25}]


def test_tensorboard_gets_the_same(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = ScalarLog(tmp_path)
    log.write(1, {"loss": 0.5})
    log.write(3, {"loss": 0.25})
    log.writer.close()
    accumulator = events.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    assert [(event.step, event.value) for event in accumulator.Scalars("loss")] == [(1, 0.5), (3, 0.25)]


def test_works_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    log = ScalarLog(tmp_path)
    log.write(1, {"loss": 0.5})
    assert log.writer is None
    assert [file.name for file in tmp_path.iterdir()] == ["scalars.jsonl"]
