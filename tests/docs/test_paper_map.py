"""Every file and symbol that the map of the paper names exists, and its table is the model's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import torch
from parameter_table import count, rows, table

from gaia2.models import presets
from gaia2.models.world_model import WorldModel

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "paper_map.md").read_text()
NAMED = sorted(set(re.findall(r"`((?:gaia2|recipes|tests|docs)/[\w/]+\.py)(?::([\w.]+))?`", PAGE)))


def names(node: ast.AST) -> dict[str, ast.AST]:
    """What a module or class defines."""
    found: dict[str, ast.AST] = {}
    for child in getattr(node, "body", []):
        if isinstance(child, (ast.ClassDef, ast.FunctionDef)):
            found[child.name] = child
        elif isinstance(child, (ast.Assign, ast.AnnAssign)):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            found |= {target.id: child for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_map_names_much() -> None:
    assert len(NAMED) > 60
    assert not re.findall(r"`(?:gaia2|recipes)/[\w/]+\.py [^`]*`", PAGE)


@pytest.mark.parametrize(("file", "symbol"), NAMED)
def test_what_it_names_is_there(file: str, symbol: str) -> None:
    node: ast.AST = ast.parse((ROOT / file).read_text())
    for part in symbol.split(".") if symbol else []:
        assert part in names(node), f"{file} has no {symbol}"
        node = names(node)[part]


def test_pictures_are_there() -> None:
    for picture in re.findall(r"\]\((images/[\w.]+)\)", PAGE):
        assert (ROOT / "docs" / picture).is_file()


def test_the_table_is_the_models_and_counts_everything() -> None:
    with torch.device("meta"):
        model = WorldModel(**presets.paper().world_model)
    assert sum(number for _, number in rows(model)) == count(model)
    assert count(model) == pytest.approx(8.4e9, rel=0.01)
    assert table(model) in PAGE
