"""The commands of the page about training: every recipe and every option that it names is there."""

from __future__ import annotations

import importlib
import re
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text()
COMMANDS = re.findall(r"(?:recipes|\$R)/([a-z_]+)\.py((?:[^\n\\]|\\\n)*)", PAGE)


def options_of(name: str) -> set[str]:
    """Options of a recipe's command line."""
    sys.path.insert(0, str(ROOT / "recipes"))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(ROOT / "recipes"))
    own = [value for key, value in vars(module).items() if key.endswith("Recipe") and is_dataclass(value)]
    places = {name, name.removeprefix("train_") + "_options"}  # not of a recipe that it makes use of
    return {field.name for cls in own if cls.__module__ in places for field in fields(cls)}


def test_it_has_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize(("name", "words"), COMMANDS)
def test_a_command_can_be_given(name: str, words: str) -> None:
    given = {word.replace("-", "_") for word in re.findall(r"--([\w-]+)", words.split("#")[0])}
    assert given <= options_of(name), given - options_of(name)


def test_options_in_the_text_are_there() -> None:
    known = (
        options_of("train_world_model")
        | options_of("finetune")
        | options_of("distill")
        | {"help", "copy", "where", "logdir"}
    )
    started_with = {"nnodes", "nproc_per_node", "rdzv_backend", "rdzv_endpoint", "rdzv_id", "standalone"}
    slurm = {"nodes", "ntasks_per_node", "gpus_per_node", "time", "signal", "requeue"}
    renders = options_of("render_procedural")
    named = {word.replace("-", "_").removeprefix("no_") for word in re.findall(r"--([a-z][\w-]+)", PAGE)}
    assert named <= known | started_with | slurm | renders, named
