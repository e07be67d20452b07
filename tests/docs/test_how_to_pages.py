"""The how-to pages: every example runs as it stands, every link leads to a file, every option is there."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from gaia2 import FlowMatchScheduler, Gaia2Pipeline, VideoTokenizer, WorldModel, default_model

ROOT = Path(__file__).parents[2]
PAGES = ("install.md", "lora.md", "previews.md", "assemble.md", "memory.md", "from_diffusers.md")


def text(page: str) -> str:
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES[1:])
def test_examples_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page == "lora.md":
        pytest.importorskip("peft")
    monkeypatch.chdir(tmp_path)
    if page == "assemble.md":  # what the recipes leave
        (tmp_path / "runs").mkdir()
        for folder, part in (("tokenizer/tokenizer", "vae"), ("world_model/transformer", "transformer")):
            (tmp_path / "runs" / folder).parent.mkdir()
            (tmp_path / "runs" / folder).symlink_to(default_model() / part)
    code = "\n".join(re.findall(r"```python\n(>>> .*?)```", text(page), flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(code, {}, page, None, 0)
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    results = runner.run(test)
    assert results.attempted > 5
    assert results.failed == 0, capsys.readouterr().out


@pytest.mark.parametrize("page", PAGES)
def test_links_and_recipes_are_there(page: str) -> None:
    for target in re.findall(r"\]\(([\w./]+)\)", text(page)):
        assert (ROOT / "docs" / target).is_file(), target
    for recipe in re.findall(r"`?(?:recipes/)?(\w+\.py)\b", text(page)):
        folders = ("recipes", "benchmarks", "docs")
        assert any((ROOT / folder / recipe).is_file() for folder in folders), recipe


def test_methods_that_the_pages_name_are_there() -> None:
    """Those of snippets that need a GPU or a download, and of tables."""
    for page in PAGES:
        for owner, name in re.findall(r"pipe(\.transformer|\.vae)?\.([a-z]\w+)\(", text(page)):
            classes = {"": [Gaia2Pipeline], ".transformer": [WorldModel], ".vae": [VideoTokenizer]}[owner]
            assert all(hasattr(cls, name) for cls in (*classes,)), f"{page}: pipe{owner}.{name}"
    assert FlowMatchScheduler.from_config
