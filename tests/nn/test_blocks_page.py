"""The page on the blocks names every one of them, and its examples run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import gaia2.nn

PAGE = Path(__file__).parents[2] / "docs" / "blocks.md"


def test_names_every_block() -> None:
    missing = {name for name in gaia2.nn.__all__ if f"**`{name}`**" not in PAGE.read_text()}
    assert not missing


def test_examples_run(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, PAGE.name, str(PAGE), 0)
    results = doctest.DocTestRunner(verbose=False).run(test)
    assert results.attempted > 20
    assert results.failed == 0, capsys.readouterr().out
