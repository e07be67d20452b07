"""No example of the documentation goes unexecuted: Python runs as it stands, commands are ones that there are."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import pytest

from gaia2.cli import parse

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_HERE = ("index", "tour", "concepts", "own_rig", "default_model")
"""Pages whose examples run one after the other, as they are, but for the number of steps."""
STEPS = 2


def snippets(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("name", RUN_HERE)
def test_a_pages_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = snippets(DOCS / f"{name}.md")
    assert code
    if ">>> " in code[0]:
        test = doctest.DocTestParser().get_doctest("\n".join(code), {}, name, None, 0)
        results = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test)
        assert results.attempted > 3
        assert results.failed == 0, capsys.readouterr().out
    else:
        names: dict[str, object] = {}
        for snippet in code:
            fewer = re.sub(r"num_inference_steps=\d+", f"num_inference_steps={STEPS}", snippet)
            exec(compile(fewer, name, "exec"), names)
        if name in ("index", "tour"):
            assert (tmp_path / "snow.mp4").stat().st_size > 1000


def test_the_readmes_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    code = [*snippets(ROOT / "README.md")]
    few = f"def few(*given, **options):\n    return pipe(*given, num_inference_steps={STEPS}, **options)\n"
    for snippet in code:
        exec(compile(few + snippet.replace("= pipe(", "= few("), "README", "exec"), names)
    assert len(code[0].strip().splitlines()) <= 12  # ten, and two of imports
    assert (tmp_path / "dusk.mp4").stat().st_size > 1000
    assert names["longer"].frames.shape[1] == 96  # type: ignore[attr-defined]


def test_every_page_with_python_is_run_by_a_test() -> None:
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    pages = [page.stem for page in DOCS.glob("*.md") if snippets(page)]
    assert len(pages) > 8
    assert [page for page in pages if page not in RUN_HERE and f'"{page}.md"' not in tests] == []


def commands() -> list[str]:
    """Lines of `gaia2 generate`, `demo`, `data` and `app` in all pages."""
    found = []
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL):
            whole = block.replace("\\\n", " ")
            found += re.findall(r"^gaia2 (?:generate|demo|data|app)\b.*$", whole, flags=re.MULTILINE)
    return sorted(set(found))


@pytest.mark.parametrize("command", commands())
def test_a_command_is_one_that_there_is(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    if "--help" not in words:
        parse(words)
