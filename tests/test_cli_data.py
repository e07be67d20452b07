"""The command `gaia2 data`."""

from __future__ import annotations

from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
from PIL import Image

from gaia2.cli import main
from gaia2.cli_data import Build
from gaia2.data.datasets import DATASETS
from gaia2.data.index import Index
from tests.data.datasets import write_drive


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_drive(folder / "drives" / "a", frames=16, size=(72, 128))
    write_drive(folder / "drives" / "b", frames=4, size=(72, 128))
    arguments = ["data", "build", "--dataset", "folder", "--root", str(folder / "drives"), "--out", str(folder / "out")]
    assert main([*arguments, "--num-frames", "8", "--image-size", "36", "64"]) == 0
    return folder / "out"


def test_every_dataset_can_be_named() -> None:
    assert get_args(get_type_hints(Build)["dataset"]) == tuple(DATASETS)


def test_build(shards: Path) -> None:
    index = Index.load(shards)
    assert [clip.image_size for clip in index.clips] == [(36, 64)] * 2
    assert [failure["log"] for failure in index.failed] == ["b"]


def test_inspect(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    sheet = tmp_path / "sheet.png"
    assert main(["data", "inspect", "--folder", str(shards), "--by", "num_cameras", "--sheet", str(sheet)]) == 0
    out = capsys.readouterr().out
    assert "2 clips in 1 shards, 0.00 hours, 32 pictures" in out
    assert "2 clips of folder: 2 cameras, 36x64, 10 Hz, mp4" in out
    assert "left out: b: no 8 frames in a row, 4 in all" in out
    assert "100.00%" in out
    picture = np.asarray(Image.open(sheet).convert("RGB")).astype(int)
    assert picture.shape == (4 * 36, 2 * 64, 3)
    car = np.abs(picture - (64, 200, 255)).sum(-1) < 40  # the colour of a car's box
    assert car[:36, :64].any()
    assert car[:36, 64:].any()
    assert main(["data", "inspect", "--folder", str(shards), "--by", "weather"]) == 0
    assert "no clip has one of weather" in capsys.readouterr().out


def test_verify(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "verify", "--folder", str(shards)]) == 0
    assert "all is well" in capsys.readouterr().out
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tar = next(tmp_path.glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-600])
    assert main(["data", "verify", "--folder", str(tmp_path), "--no-decode"]) == 2
    captured = capsys.readouterr()
    assert "cut short" in captured.out
    assert captured.err.endswith(f"gaia2: {tmp_path}: 1 problems in its shards\n")


def test_errors_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["data", "inspect", "--folder", str(tmp_path)]) == 2
    assert "expected a folder of clip shards" in capsys.readouterr().err
    write_drive(tmp_path / "d", frames=4)
    arguments = ["data", "build", "--dataset", "waymo", "--root", str(tmp_path / "d"), "--out", str(tmp_path / "o")]
    assert main(arguments) == 2
    assert "expected Waymo Open Dataset v2" in capsys.readouterr().err
