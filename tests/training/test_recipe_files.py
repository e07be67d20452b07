from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gaia2 import cli
from gaia2.training import recipe_files


@pytest.fixture(autouse=True)
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_the_command_runs_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["train", "measure-latents", "--help"])
    assert ended.value.code == 0
    assert "--validation-clips" in capsys.readouterr().out
    assert cli.main(["train"]) == 0
    text = capsys.readouterr().out
    names = (
        "train-world-model",
        "train-tokenizer",
        "finetune-decoder",
        "finetune",
        "distill",
        "encode-latents",
        "train-mini",
    )
    for name in names:
        assert name in text
    assert "tokenizer-options" not in text


def test_recipes_are_copied_out_and_what_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "finetune.py").write_text("mine")
    assert cli.main(["train", "--copy", str(tmp_path)]) == 0
    assert (tmp_path / "finetune.py").read_text() == "mine"
    own = recipe_files.recipes_folder() / "train_world_model.py"
    assert (tmp_path / "train_world_model.py").read_text() == own.read_text()
    assert (tmp_path / "tokenizer_options.py").is_file()
    assert cli.main(["train", "--where"]) == 0
    assert str(own.parent) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [(["train", "everything"], "expected one of .*, got 'everything'"), (["train", "--copy"], "expected a folder")],
)
def test_what_cannot_be_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    import re

    assert cli.main(words) == 2
    assert re.search(said, capsys.readouterr().err)


def test_without_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe_files, "__file__", str(tmp_path / "gaia2" / "training" / "recipe_files.py"))
    with pytest.raises(FileNotFoundError, match="expected the recipes in it or beside it, got none"):
        recipe_files.recipes_folder()
