from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gaia2._checkpoint import load_checkpoint
from gaia2.training.average import WeightAverage
from gaia2.training.learner import Learner
from gaia2.training.loop import TrainingLoop
from gaia2.training.options import TrainingOptions
from gaia2.training.sampling import step_generator


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    learning_rate: float = 0.1


def learner(seed: int = 0, size: int = 3) -> Learner:
    torch.manual_seed(seed)
    model = nn.Linear(size, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return Learner(
        nn.ModuleDict({"model": model}), optimizer, lambda done: 1 / (1 + done), average=WeightAverage(model, 0.5)
    )


def train(out: Path, *, steps: int = 8, spoil: tuple[int, ...] = (), times: int = 1, **changes: Any) -> Learner:
    """Eight steps on random numbers; the gradient of some steps is spoilt the first times."""
    options = Options(**dict(out=out, steps=steps, batch_size=1, save_every=3, seed=5) | changes)
    own = learner()
    loop = TrainingLoop("test", options, {"one": own})
    left = dict.fromkeys(spoil, times)
    for step in loop:
        x = torch.randn(4, 3, generator=step_generator(0, step)) + torch.randn(())  # also of the global chance
        loss = own.model(x).square().mean()
        loss.backward()
        if left.get(step, 0):
            left[step] -= 1
            own.model.weight.grad[0, 0] = torch.inf
        if loop.is_spoilt(step, loss=loss.item(), norm=own.clip(), batch={"x": x}):
            continue
        rate = own.step(step)
        loop.write(step, {"loss": loss.item(), "lr": rate}, shown={"seconds": 0.1})
    return own


def state(own: Learner) -> list[torch.Tensor]:
    return [value.clone() for value in own.tensors().values()]


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "scalars.jsonl").read_text().splitlines()]


def test_goes_on_with_all_parts_and_the_same_chance(tmp_path: Path) -> None:
    straight = train(tmp_path / "straight")
    train(tmp_path / "parts", steps=4)
    torch.manual_seed(99)
    resumed = train(tmp_path / "parts")
    assert all(map(torch.equal, state(straight), state(resumed)))
    assert log(tmp_path / "straight") == log(tmp_path / "parts")
    assert [line["step"] for line in log(tmp_path / "parts")] == list(range(1, 9))
    assert [line["lr"] for line in log(tmp_path / "parts")] == pytest.approx([0.1 / step for step in range(1, 9)])
    assert "seconds" not in log(tmp_path / "parts")[0]


def test_a_step_that_is_not_finite_sends_it_back_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    straight = train(tmp_path / "straight")
    resumed = train(tmp_path / "spoilt", spoil=(5,))
    assert all(map(torch.equal, state(straight), state(resumed)))
    assert log(tmp_path / "straight") == log(tmp_path / "spoilt")
    assert "Back to the checkpoint of step 3, once" in capsys.readouterr().out
    written = load_checkpoint(tmp_path / "spoilt" / "spoilt" / "step-000000005-rank-0.pt")
    assert written["batch"]["x"].shape == (4, 3)
    assert written["gradients"] == {"one": ["model.weight"]}


@pytest.mark.parametrize(("spoil", "times"), [((5,), 2), ((5, 7), 1)])
def test_the_second_time_it_ends_and_no_weight_is_spoilt(spoil: tuple[int, ...], times: int, tmp_path: Path) -> None:
    message = (
        rf"step {spoil[-1]}: the loss or its gradient is not finite; .*spoilt.*-rank-0.pt. It ends here, after going"
    )
    with pytest.raises(RuntimeError, match=message):
        train(tmp_path, spoil=spoil, times=times)
    resumed = train(tmp_path)  # what spoilt it is gone
    assert all(value.isfinite().all() for value in state(resumed))
    assert all(map(torch.equal, state(resumed), state(train(tmp_path / "straight"))))


def test_before_the_first_checkpoint_it_ends_at_once(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="It ends here, before the first checkpoint"):
        train(tmp_path, spoil=(2,))
    assert not list((tmp_path / "checkpoints").glob("*"))


def refused(out: Path, match: str, **changes: Any) -> None:
    """Going on raises, and leaves every file as it was."""
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=match):
        train(out, **changes)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_other_options_are_refused_and_more_steps_are_not(tmp_path: Path) -> None:
    train(tmp_path)
    match = r"expected the options that the run was begun with, batch_size=1, seed=5, got batch_size=2, seed=6; give"
    refused(tmp_path, match, batch_size=2, seed=6, steps=9)
    train(tmp_path, steps=9, log_every=3, keep_last=1, workers=2)
    assert [line["step"] for line in log(tmp_path)] == list(range(1, 10))
    train(tmp_path, steps=10, seed=6, accept_changes=("seed",))
    assert log(tmp_path)[-1]["step"] == 10


def test_the_newest_checkpoint_stays_while_nothing_is_added(tmp_path: Path) -> None:
    """A run that is stopped at once after it was resumed does not write its only checkpoint anew."""
    train(tmp_path, steps=3)
    last = tmp_path / "checkpoints" / "step-000000003" / "training.json"
    before = last.stat().st_mtime_ns
    with pytest.raises(SystemExit) as stopped:
        train(tmp_path, minutes=1e-9)
    assert stopped.value.code == 0
    assert last.stat().st_mtime_ns == before


def test_a_model_of_another_config(tmp_path: Path) -> None:
    from tests.tiny import tokenizer

    def loop(**config: Any) -> TrainingLoop:
        model = tokenizer(**config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        own = Learner(nn.ModuleDict({"model": model}), optimizer, lambda done: 1.0)
        return TrainingLoop("test", Options(out=tmp_path, steps=1, batch_size=1), {"tokenizer": own})

    for _ in loop():
        pass
    message = r"expected a checkpoint of a model with dim=32, encoder_blocks=2, got one with dim=16, encoder_blocks=1"
    with pytest.raises(ValueError, match=message):
        loop(dim=32, encoder_blocks=2).resume()
