"""What `make mutants` changes, and that it sees a test that fails."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from tests import mutants

CODE = '''
"""A page with 1 + 1 in its docstring."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import os

LIMIT: int = 3

def area(width: "1 + 1", height=2.0, flag=True):
    if width < 0:
        raise ValueError(f"width: expected {1 + 1}, got {width}")
    print(width)
    return -width * height if flag and width is not None else 0
'''


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[mutants.Mutant, object]]:
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    (tmp_path / "code.py").write_text(CODE)
    return mutants.mutants(tmp_path / "code.py")


def test_every_kind_of_change_is_made_and_messages_types_and_docstrings_are_left(made: list) -> None:
    changes = {(mutant.was, mutant.becomes) for mutant, _ in made}
    assert changes == {
        ("3", "4"), ("2.0", "3.1"), ("True", "False"), ("0", "1"),
        ("width < 0", "width <= 0"), ("if width < 0:", "if False:"), ("print(width)", "pass"),
        ("-width * height", "-width / height"), ("-width * height", "-width"), ("-width", "width"),
        ("flag and width is not None", "flag or width is not None"), ("width is not None", "width is None"),
        (
            "-width * height if flag and width is not None else 0",
            "0 if flag and width is not None else -width * height",
        ),
    }  # fmt: skip


def test_a_mutant_differs_from_the_code_by_its_change_alone(made: list) -> None:
    def area(code: object) -> object:
        names: dict = {"print": lambda _: None}
        exec(code, names)
        return [names["area"](2.0), names["area"](2.0, 5), names["area"](2.0, flag=False)]

    right = area(compile(ast.parse(CODE), "code", "exec"))
    assert right == [-4.0, -10.0, 0]
    got = {(mutant.was, mutant.becomes): area(code) for mutant, code in made}
    assert got["-width * height", "-width / height"] == [-1.0, -0.4, 0]
    assert got["2.0", "3.1"] == [-6.2, -10.0, 0]
    assert got["flag and width is not None", "flag or width is not None"] == [-4.0, -10.0, -4.0]
    assert got["print(width)", "pass"] == right


def test_the_draw_is_the_same_for_a_seed() -> None:
    drawn = [mutants.draw("losses", 5, seed) for seed in (0, 0, 1)]
    lists = [[(m.file, m.line, m.becomes) for pairs in one.values() for m, _ in pairs] for one in drawn]
    assert lists[0] == lists[1] != lists[2]
    assert len(lists[0]) == 5
    assert random.random() != random.random()  # it has random numbers of its own


def test_a_fork_answers() -> None:
    assert mutants.in_a_fork(lambda: {"a": [1, 2]}, seconds=60) == {"a": [1, 2]}


def test_a_fork_that_does_not_end_is_stopped() -> None:
    def forever() -> None:
        while True:
            pass

    assert mutants.in_a_fork(forever, seconds=1) is None
