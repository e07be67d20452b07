from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gaia2 import cli
from gaia2.app.command import App, uploads


def test_options_of_the_command_line() -> None:
    command = cli.parse(["app", "--port", "8000", "--max-seconds", "4", "--device", "cpu"])
    assert command == App(port=8000, max_seconds=4.0, device="cpu")
    assert App().host == "127.0.0.1"  # nobody else can reach it


def test_the_command_loads_what_its_options_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(App, "run", lambda self, load: load())
    monkeypatch.setattr(cli, "load_pipeline", asked.append)
    assert cli.main(["app", "--model", "somewhere", "--device", "cpu"]) == 0
    assert [(options.model, options.device) for options in asked] == [("somewhere", "cpu")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--port", "0"], "--port: expected a whole number from 1 to 65535, got 0"),
        (["--max-seconds", "nan"], "--max-seconds: expected seconds from 0.1 to 3600"),
        (["--max-steps", "0"], "--max-steps: expected a whole number"),
        (["--keep-hours", "0"], "--keep-hours: expected hours above 0"),
        (["--device", "abacus"], "--device: expected auto, cpu, or an accelerator"),
        (["--model", "no/such/folder"], "--model: expected"),
    ],
)
def test_bad_options(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["app", *words]) == 2
    assert capsys.readouterr().err.startswith(f"gaia2: {message}")


def test_without_gradio(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gradio" else find(name, *rest)
    )
    assert cli.main(["app"]) == 2
    assert 'expected gradio, which is not installed; pip install "gaia2[app]"' in capsys.readouterr().err


def test_nothing_but_the_page_loads_gradio() -> None:
    code = "import gaia2, gaia2.cli, gaia2.app.command, sys; print('gradio' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_upload_folder_goes_unless_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", "before")
    with uploads(None) as folder:
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        (folder / "file").touch()
    assert not folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "before"
    monkeypatch.delenv("GRADIO_TEMP_DIR")
    with uploads(tmp_path / "kept") as folder:
        (folder / "file").touch()
    assert (tmp_path / "kept" / "file").exists()
    assert "GRADIO_TEMP_DIR" not in os.environ
