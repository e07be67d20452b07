"""The documentation site builds without a warning, its links lead somewhere, and its reference is what is public."""

from __future__ import annotations

import importlib
import io
import json
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

pytest.importorskip("myst_nb", reason="needs pip install 'gaia2[docs]'")

from sphinx.application import Sphinx
from sphinx.util.inventory import InventoryFile

import gaia2

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ROOMS = ["gaia2", *(f"gaia2.{room.name}" for room in pkgutil.iter_modules(gaia2.__path__) if room.ispkg)]
WITHOUT_A_LIST = ("gaia2.training.", "gaia2.viz.", "gaia2.models.presets")
"""Rooms whose names are not gathered in an `__init__`; the reference says which of their modules are public."""
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
OBJECTS = ("py:class", "py:function", "py:data", "py:exception")


class Page(HTMLParser):
    """Places of a page that can be led to, and where it leads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if given.get("id"):
            self.ids.add(str(given["id"]))
        target = given.get("href" if tag in ("a", "link") else "src")
        if target:
            self.links.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once, its notebooks as they are; tests/docs/test_notebooks.py executes them."""
    out, told = tmp_path_factory.mktemp("site"), io.StringIO()
    app = Sphinx(
        str(DOCS), str(DOCS), str(out / "html"), str(out / "doctrees"), "html",
        confoverrides={"nb_execution_mode": "off"}, status=None, warning=told, freshenv=True,
    )  # fmt: skip
    app.build()
    assert told.getvalue() == ""
    return out / "html"


@pytest.fixture(scope="module")
def reference(site: Path) -> dict[str, str]:
    """Full name of everything that the reference has, to its page."""
    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, path: path)
    return {name: item.uri for kind in OBJECTS for name, item in inventory.get(kind, {}).items()}


def resolve(name: str) -> Any:
    """What a full name stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def test_every_page_is_reached_from_the_first(site: Path) -> None:
    first = Page((site / "index.html").read_text())
    reached = {urlsplit(link).path for link in first.links}
    api = {f"api/{path.stem}.html" for path in (DOCS / "api").glob("*.md")} - {"api/index.html"}
    pages = {str(path.relative_to(DOCS).with_suffix(".html")) for path in [*DOCS.glob("*.md"), *DOCS.glob("*/*.ipynb")]}
    assert pages - reached - {"index.html"} == set()
    assert api <= {f"api/{urlsplit(link).path}" for link in Page((site / "api" / "index.html").read_text()).links}


def test_no_link_is_dead(site: Path) -> None:
    pages = {path: Page(path.read_text()) for path in site.rglob("*.html")}
    assert len(pages) > 40
    dead = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "mailto", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchors = pages[target].ids if target in pages else set()
            if not target.exists() or (parts.fragment and target in pages and unquote(parts.fragment) not in anchors):
                dead.append(f"{path.relative_to(site)}: {link}")
    assert dead == []


def test_everything_public_is_in_the_reference(reference: dict[str, str]) -> None:
    documented = {id(resolve(name)) for name in reference}
    missing = []
    for package in ROOMS:
        module = importlib.import_module(package)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if id(value) not in documented and not isinstance(value, ModuleType):
                missing.append(f"{package}.{name}")
    assert missing == []
    index = (DOCS / "api" / "index.md").read_text()
    assert [name for name in gaia2.__all__ if f"`{name}" not in index] == []


def used_by_pages() -> set[str]:
    """Full names of what pages, notebooks and scripts of the documentation import from the library."""
    texts = [path.read_text() for path in DOCS.glob("tasks/*.py")]
    for path in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        texts += re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL)
    for path in DOCS.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        texts += ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    found = set()
    for text in texts:
        for module, names in re.findall(r"from (gaia2[\w.]*) import \(?([^)\n]+)", text):
            words = [name.strip() for name in names.split("#")[0].split(",")]
            found |= {f"{module}.{name}" for name in words if name not in ("*", "")}
    return found


def test_what_pages_import_is_in_the_reference(reference: dict[str, str]) -> None:
    documented = {id(resolve(name)) for name in reference}
    names = {
        name for name in used_by_pages() if not name.startswith(("gaia2.scene.box_features", "gaia2.models.presets"))
    }
    assert len(names) > 60
    missing = [name for name in sorted(names) if id(resolve(name)) not in documented and not is_module(name)]
    assert missing == []


def is_module(name: str) -> bool:
    return type(resolve(name)).__name__ == "module"


def test_nothing_else_is_in_the_reference(reference: dict[str, str]) -> None:
    rooms = [importlib.import_module(package) for package in ROOMS]
    public = {id(getattr(room, name)) for room in rooms for name in getattr(room, "__all__", ())}
    public |= {id(resolve(name)) for name in used_by_pages()}
    own = {"gaia2.zoo.manifest.check_manifest", "gaia2.schedulers.solvers.SOLVERS", "gaia2.data.datasets.DATASETS"}
    other = [
        name
        for name in sorted(reference)
        if id(resolve(name)) not in public and not name.startswith(WITHOUT_A_LIST) and name not in own
    ]
    assert other == []
    assert [name for name in reference if any(part.startswith("_") for part in name.split("."))] == []
