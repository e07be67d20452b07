from __future__ import annotations

import builtins
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

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


def test_a_resumed_training_drops_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    log = ScalarLog(tmp_path, tensorboard=False)
    for step in (10, 20, 30):
        log.write(step, {"loss": float(step)})
    with open(tmp_path / "scalars.jsonl", "a") as file:
        file.write('{"step": 40, "lo')  # killed while it wrote
    ScalarLog(tmp_path, start=20, tensorboard=False).write(30, {"loss": 3.0})
    lines = [json.loads(line) for line in (tmp_path / "scalars.jsonl").read_text().splitlines()]
    assert lines == [{"step": 10, "loss": 10.0}, {"step": 20, "loss": 20.0}, {"step": 30, "loss": 3.0}]
    assert [file.name for file in tmp_path.iterdir()] == ["scalars.jsonl"]
    log.write(0, {"loss": 9.0})
    ScalarLog(tmp_path, start=0, tensorboard=False).write(0, {"loss": 9.0})
    assert (tmp_path / "scalars.jsonl").read_text() == '{"step": 0, "loss": 9.0}\n'


def test_tensorboard_shows_pictures(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    log = ScalarLog(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (8, 16, 3), dtype=np.uint8)
    log.show(5, "clips", picture)
    log.writer.close()
    accumulator = events.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    (event,) = accumulator.Images("clips")
    assert event.step == 5
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(event.encoded_image_string))), picture)


def test_works_without_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    log = ScalarLog(tmp_path)
    log.write(1, {"loss": 0.5})
    log.show(1, "clips", np.zeros((8, 16, 3), np.uint8))
    assert log.writer is None
    assert [file.name for file in tmp_path.iterdir()] == ["scalars.jsonl"]
