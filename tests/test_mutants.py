"""What `make mutants` changes, and that it sees a test that fails."""

from __future__ import annotations

import ast
import json
import random
import signal
from dataclasses import asdict
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
    assert drawn[0] == drawn[1] != drawn[2]
    assert sum(map(len, drawn[0].values())) == 5
    assert random.random() != random.random()  # it has random numbers of its own


def test_a_number_names_one_mutant() -> None:
    path = mutants.ROOT / "gaia2" / "losses" / "flow_matching.py"
    every, some = mutants.mutants(path), mutants.mutants(path, compiled={3, 7})
    assert [mutant.number for mutant, code in some if code is not None] == [3, 7]
    assert [mutant for mutant, _ in some] == [mutant for mutant, _ in every]


def test_a_fork_answers() -> None:
    assert mutants.in_a_fork(lambda: {"a": [1, 2]}, seconds=60) == ({"a": [1, 2]}, 0)


def test_a_fork_that_does_not_end_is_stopped() -> None:
    def forever() -> None:
        while True:
            pass

    assert mutants.in_a_fork(forever, seconds=1) == (None, signal.SIGXCPU)


@pytest.mark.parametrize(
    ("answer", "ended_by", "verdict"),
    [
        ([0, []], 0, "survived"),
        ([1, ["test_a.py::test_b"]], 0, "killed"),
        ([4, []], 0, "undecided"),  # pytest does not find the tests that it is asked for
        (None, 0, "undecided"),
        (None, signal.SIGXCPU, "undecided"),
        (None, signal.SIGALRM, "undecided"),
        (None, signal.SIGSEGV, "killed"),
    ],
)
def test_only_a_test_that_fails_kills(answer: list | None, ended_by: int, verdict: str) -> None:
    assert mutants.judge(answer, ended_by)[0] == verdict


def test_a_mutant_is_killed_by_a_test_that_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a library of one line, whose `>` may become `>=`, which the test does not see, and whose 10 may become 11."""
    import gaia2.losses  # noqa: F401  here, so that no fork has to

    test = "from gaia2.losses.size import is_large\n\ndef test_large():\n    assert is_large(11)\n"
    library = "def is_large(x):\n    return x > 10\n"
    for name, text in (("gaia2/losses/size.py", library), ("tests/losses/test_size.py", test)):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    page = tmp_path / "page.md"
    page.write_text(
        "- `gaia2/losses/size.py`, in `return x > 10`: `x > 10` becomes\n  `x < 10`. Not one that is drawn."
    )
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "PAGE", page)
    monkeypatch.setattr(mutants, "FILES", {"losses": ("size",)})
    monkeypatch.chdir(tmp_path)
    tried = list(mutants.try_room("losses", mutants.draw("losses", 9, seed=0)))
    assert [(mutant.becomes, mutant.verdict) for mutant in tried] == [("x >= 10", "survived"), ("11", "killed")]
    assert mutants.table(tried).splitlines()[-1] == "| losses | 2 | 1 | 1 | 0 | 0 | 50% |"
    results = tmp_path / "results.json"
    results.write_text(json.dumps([asdict(mutant) for mutant in tried]))
    assert mutants.left_over("losses", results) == {tmp_path / "gaia2/losses/size.py": {0}}
    page.write_text("- `gaia2/losses/size.py`, in `return x > 10`: `x > 10` becomes\n  `x >= 10`. Said to be one.")
    assert [mutants.is_no_mistake(mutant) for mutant in tried] == [True, False]
    tried[0].verdict = "equivalent"
    assert mutants.table(tried).splitlines()[-1] == "| losses | 2 | 1 | 0 | 0 | 1 | 100% |"
