"""The notebooks run on the default model from their first cell to the last, and are kept without results."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))


STEPS = 4


def cells(path: Path) -> list[str]:
    """The code of a notebook, with few denoising steps."""
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    return [re.sub(r"(num_inference_steps=|^STEPS = )\d+", rf"\g<1>{STEPS}", source, flags=re.M) for source in sources]


def run(path: Path) -> tuple[dict[str, Any], list[Any]]:
    """Run a notebook's cells in this process: its names at the end, and what each cell shows."""
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, source in enumerate(cells(path)):
        tree = ast.parse(source)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), f"{path.name}, cell {number}", "eval"), names))
    return names, [value for value in shown if value is not None]


def test_there_is_one_for_each_thing() -> None:
    titles = {path.stem for path in NOTEBOOKS}
    assert titles == {"first_video", "controls", "four_tasks", "own_model", "train_tiny", "closed_loop"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_results(path: Path) -> None:
    notebook = json.loads(path.read_text())
    assert notebook["cells"][0]["cell_type"] == "markdown"
    for cell in notebook["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not (cell["cell_type"] == "code" and ast.parse("".join(cell["source"])).body == [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:scene. expected:UserWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if path.stem == "closed_loop":
        pytest.importorskip("IPython", reason="needs pip install 'gaia2[docs]'")
    names, shown = run(path)
    pictures = [np.asarray(value) for value in shown if isinstance(value, Image.Image)]
    assert all(picture.std() > 4 for picture in pictures)
    told = capsys.readouterr().out
    match path.stem:
        case "first_video":
            assert names["video"].frames.mean() > names["night"].frames.mean() + 0.1  # day and night
            assert [type(value).__name__ for value in shown] == ["Scene", *["Gaia2PipelineOutput"] * 2, "list"]
        case "controls":
            assert len(pictures) == 9
            day, night = (picture_of(pictures[0], column, of=4) for column in (1, 3))
            assert day.mean() > night.mean() + 20
            assert "did you mean" in told
            assert "not trained" in told or "was trained on" in told
        case "four_tasks":
            clip, made = np.split(pictures[3].astype(float), 2)  # what is away from the mask stays
            assert np.median(np.abs(clip - made)) < 12
        case "closed_loop":
            speeds = [speed for speed, _, _ in names["log"]]
            assert speeds[0] == 8.0
            assert speeds[-1] < 2.0
            assert min(distance for _, distance, _ in names["log"]) > 8.0
        case "own_model":
            assert falls(told)
        case "train_tiny":
            assert falls(told.split("{")[-1])
            assert abs(names["x"].mean().item()) < 1e-3


def picture_of(table: np.ndarray, column: int, *, of: int) -> np.ndarray:
    """A column of a table of pictures."""
    return np.split(table, of, axis=1)[column]


def falls(told: str) -> bool:
    """Whether the losses in lines of a step and a loss end at less than 0.7 of their beginning."""
    lines = [line.split() for line in told.splitlines()]
    losses = [float(words[1]) for words in lines if len(words) == 2 and words[0].isdigit()]
    return len(losses) > 2 and losses[-1] < 0.7 * losses[0]


@pytest.mark.long
def test_a_notebook_runs_in_a_kernel() -> None:
    """As in Jupyter: the first one, whose videos come out as players."""
    nbclient = pytest.importorskip("nbclient", reason="needs pip install 'gaia2[docs]'")
    nbformat = pytest.importorskip("nbformat")
    (path,) = [path for path in NOTEBOOKS if path.stem == "first_video"]
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        cell.source = cell.source.replace("num_inference_steps=20", "num_inference_steps=2")
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    players = [output for output in outputs if "<video" in output.get("data", {}).get("text/html", "")]
    assert len(players) == 2
