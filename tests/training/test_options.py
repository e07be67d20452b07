from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from gaia2.training.options import TrainingOptions


@dataclass(frozen=True, kw_only=True)
class Options(TrainingOptions):
    PAPER: ClassVar[dict[str, Any]] = dict(steps=460_000, batch_size=256, workers=8)
    REQUIRED: ClassVar[tuple[str, ...]] = ("data", "out")

    data: Path
    """Where the clips are."""
    steps: int = 3
    """Steps (paper: 460,000)."""
    batch_size: int = 2
    """Samples (paper: 256)."""


def read(words: str) -> Options:
    return Options.from_command_line("", words.split())


def test_a_preset_sets_the_numbers_and_each_can_still_be_given() -> None:
    assert read("--data d --out o") == Options(data=Path("d"), out=Path("o"))
    paper = read("--preset paper --data d --out o --batch-size 64")
    assert (paper.steps, paper.batch_size, paper.workers, paper.preset) == (460_000, 64, 8, "paper")
    assert Options.of("paper", data=Path("d"), out=Path("o")).batch_size == 256


@pytest.mark.parametrize(
    ("words", "said"),
    [("--out o", "--data"), ("--data d --out o --preset huge", "huge"), ("--data d --out o -x", "-x")],
)
def test_what_is_missing_or_unknown_is_named(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("name", ["steps", "batch_size", "save_every", "keep_last", "minutes", "micro_batch_size"])
def test_numbers_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a positive number, got 0"):
        Options(data=Path("d"), out=Path("o"), **{name: 0})


def test_every_free_option_is_one() -> None:
    planned = {name for name in TrainingOptions.FREE if name.startswith("plan")}
    assert set(TrainingOptions.FREE) - planned <= {field.name for field in fields(TrainingOptions)}
