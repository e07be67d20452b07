"""The page on publishing: its examples run, its commands' options are there, its links lead somewhere."""

from __future__ import annotations

import doctest
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gaia2 import VideoTokenizer
from tests.hub.conftest import hub, logged_in
from tests.hub.server import Hub

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "publish.md").read_text()
fixtures = (hub, logged_in)


def test_its_examples_run(logged_in: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    dry, publish, load = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    test = doctest.DocTestParser().get_doctest(dry, {}, "publish.md", None, 0)
    names: dict[str, Any] = test.globs
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.DocTestRunner(verbose=False, optionflags=options).run(test, clear_globs=False).failed == 0, (
        capsys.readouterr().out
    )
    publish, load = (code.replace("org/", "lab/") for code in (publish, load))
    exec(publish, names)
    assert logged_in.repositories["lab/name"].private
    names["pipe"].push_to_hub("lab/name", revision="main", variant="bf16")
    logged_in.repositories["lab/name"].tags["v1"] = logged_in.repositories["lab/name"].branches["main"]
    exec(load, names)
    assert isinstance(names["tokenizer"], VideoTokenizer)


def test_options_and_links_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    from publish import PublishRecipe

    known = {field.name for field in fields(PublishRecipe)}
    named = {word.replace("-", "_") for word in re.findall(r"--([a-z][\w-]+)", PAGE)}
    assert named <= known, named - known
    for target in re.findall(r"\]\(([\w./]+)\)", PAGE):
        assert (ROOT / "docs" / target).is_file(), target
