"""The wheel and the sdist: what is in them, and that they work in an environment that has nothing else of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("hatchling")
pytest.importorskip("pip")


def run(*words: str | Path, cwd: Path) -> str:
    """What a command prints, without this checkout on the path."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of this checkout, and the wheel that is built from what is in it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=folder / sdist.name[:-7])
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def environment(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment with the wheel in it, beside the libraries of this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    options = ("--no-deps", "--no-index", "--disable-pip-version-check", "--quiet")
    run(sys.executable, "-m", "pip", "--python", python, "install", *options, built[1], cwd=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder


def test_the_wheel_has_what_the_package_needs(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = set(wheel.namelist())
        (metadata,) = [wheel.read(name).decode() for name in names if name.endswith("dist-info/METADATA")]
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "gaia2").rglob("*") if path.is_file()}
    own = {name for name in package if "__pycache__" not in name and not Path(name).name.startswith(".")}
    recipes = {f"gaia2/recipes/{path.name}" for path in (ROOT / "recipes").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == own | recipes
    said = message_from_string(metadata)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(said.get_all("Provides-Extra") or ()) == project["optional-dependencies"].keys()
    assert "arxiv.org" in said["Project-URL"]
    assert said["License-Expression"] == "Apache-2.0"


def test_the_sdist_has_what_tests_and_pages_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("pyproject.toml", "Makefile", "CITATION.cff", "requirements/constraints.txt", "docs/install.md"):
        assert name in names
    for folder in ("gaia2", "recipes", "tests"):
        assert {p.relative_to(ROOT).as_posix() for p in (ROOT / folder).rglob("*.py")} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".git/", "runs/", ".venv"))]


def test_it_works_in_a_fresh_environment(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "gaia2"
    place = "import gaia2, importlib.metadata as m; print(gaia2.__file__, gaia2.default_model().is_dir(), "
    place += "[e.value for e in m.entry_points(group='gymnasium.envs')])"
    where = run(environment / "bin" / "python", "-c", place, cwd=tmp_path)
    assert where.startswith(str(environment)), where
    assert where.endswith("True ['gaia2._gym:register_envs']")
    assert run(command, "--version", cwd=tmp_path).startswith("gaia2 0.1.0 (torch ")
    assert Path(run(command, "train", "--where", cwd=tmp_path)).is_relative_to(environment)
    words = ("--rig", "front", "--seconds", "0.8", "--steps", "1", "--out", "short.mp4")
    run(command, "generate", *words, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"short.mp4", "short.png", "short.json"}


def test_extras_that_are_named_are_there() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "gaia2").rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in [*files, *(ROOT / "recipes").glob("*.py")])
    named = {one for group in re.findall(r"gaia2\[([\w,-]+)\]", text) for one in group.split(",")}
    assert {"train", "metrics", "lora", "gym"} <= named
    assert named <= extras.keys(), named - extras.keys()
    page = (ROOT / "docs" / "install.md").read_text()
    assert [name for name in extras if f"| `{name}` |" not in page] == []
