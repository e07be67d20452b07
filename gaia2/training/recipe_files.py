"""The recipes of an installed package: run them, and copy them out to change them (`gaia2 train`)."""

from __future__ import annotations

import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

USAGE = """gaia2 train RECIPE [OPTIONS]     run a recipe; RECIPE --help names its options
gaia2 train --copy FOLDER        copy the recipes out, to change them and to run them with torchrun
gaia2 train --where              print the folder of the recipes, for torchrun

Recipes: {names}
"""


def recipes_folder() -> Path:
    """Folder of the recipes: inside the package where it is installed, beside it in a checkout.

    Raises:
        FileNotFoundError: If there is neither.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "recipes", package.parent / "recipes"):
        if (folder / "train_world_model.py").is_file():
            return folder
    raise FileNotFoundError(f"{package}: expected the recipes in it or beside it, got none; install gaia2 from a wheel")


def recipe_names() -> list[str]:
    """Names of the recipes.

    Example:
        >>> "train-world-model" in recipe_names()
        True
    """
    files = sorted(recipes_folder().glob("*.py"))
    return [path.stem.replace("_", "-") for path in files if '__name__ == "__main__"' in path.read_text("utf-8")]


def copy_recipes(folder: str | Path) -> list[Path]:
    """Copy the recipes into a folder; files that are there already are left alone.

    Returns:
        The files that were written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    new = [path for path in sorted(recipes_folder().glob("*.py")) if not (target / path.name).exists()]
    return [Path(shutil.copy(path, target / path.name)) for path in new]


def main(words: Sequence[str]) -> int:
    """Run `gaia2 train`; gives the status."""
    names = recipe_names()
    if not words or words[0] in ("-h", "--help"):
        print(USAGE.format(names=", ".join(names)), end="")
        return 0
    if words[0] == "--where":
        print(recipes_folder())
        return 0
    if words[0] == "--copy":
        if len(words) != 2:
            raise ValueError("--copy: expected a folder, as in gaia2 train --copy my_recipes")
        print(f"{len(copy_recipes(words[1]))} files copied to {words[1]}")
        return 0
    name = words[0].replace("_", "-").removesuffix(".py")
    if name not in names:
        raise ValueError(f"train: expected one of {', '.join(names)}, got {words[0]!r}")
    path = recipes_folder() / f"{name.replace('-', '_')}.py"
    sys.argv = [f"gaia2 train {name}", *words[1:]]
    sys.path.insert(0, str(path.parent))  # as Python does for a script: recipes import one another
    runpy.run_path(str(path), run_name="__main__")
    return 0
