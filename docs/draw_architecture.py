"""Draw the rooms of the package and who imports whom: `python docs/draw_architecture.py`.

The picture is made of the code: rooms are the packages and modules under `gaia2`, their words the first sentences of
their docstrings, arrows their import statements. Imports for type checkers only are left out, and so are the modules
whose names begin with an underscore, which every room may use. A room stands above all that it imports.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from gaia2._files import replacing

PACKAGE = Path(__file__).parents[1] / "gaia2"
PICTURE = Path(__file__).parent / "images" / "architecture.svg"
WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT, MARGIN = 1180, 158, 208, 84, 24
WORDS_WIDTH = 33  # letters of a line in a box


@dataclass
class Room:
    """A package or module under `gaia2`.

    Attributes:
        name: Its name.
        about: What it says of itself.
        imports: Rooms that are imported with it.
        later: Rooms that only functions of it import, when they are called.
    """

    name: str
    about: str
    imports: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)

    @property
    def needs(self) -> set[str]:
        """All rooms that it imports."""
        return self.imports | self.later


def rooms(package: Path = PACKAGE) -> dict[str, Room]:
    """The rooms of the package by name."""
    found: dict[str, Room] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).parts[0].removesuffix(".py")
        if name.startswith("_"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        room = found.setdefault(name, Room(name, ""))
        if path in (package / name / "__init__.py", package / f"{name}.py"):
            sentence = (ast.get_docstring(tree) or "").split("\n\n")[0].split(". ")[0]
            room.about = sentence.replace("\n", " ").replace("`", "").rstrip(".")
        for module, is_later in imports(tree):
            other = module.split(".")[1]
            if other != name and not other.startswith("_"):
                (room.later if is_later else room.imports).add(other)
    for room in found.values():
        room.later -= room.imports
    return found


def imports(node: ast.AST, is_later: bool = False) -> Iterator[tuple[str, bool]]:
    """Modules `gaia2.x...` that code imports, and whether a function does so when it is called."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.ImportFrom) and child.module and child.module.partition(".")[0] == "gaia2":
            names = [child.module] if "." in child.module else [f"gaia2.{alias.name}" for alias in child.names]
            yield from ((name, is_later) for name in names)
        if isinstance(child, ast.Import):
            yield from ((alias.name, is_later) for alias in child.names if alias.name.startswith("gaia2."))
        yield from imports(child, is_later or isinstance(child, ast.FunctionDef))


def levels(found: dict[str, Room]) -> dict[str, int]:
    """Storey of each room: 0 for those that import none, else one above the highest that it imports.

    Raises:
        ValueError: If rooms import each other in a circle.
    """
    storeys: dict[str, int] = {}

    def visit(name: str, below: tuple[str, ...]) -> int:
        if name in below:
            raise ValueError(f"rooms import each other in a circle: {' -> '.join([*below, name])}")
        if name not in storeys:
            storeys[name] = 1 + max((visit(other, (*below, name)) for other in sorted(found[name].needs)), default=-1)
        return storeys[name]

    for name in found:
        visit(name, ())
    return storeys


def direct(found: dict[str, Room]) -> set[tuple[str, str]]:
    """The arrows that no longer way makes superfluous; the rest are drawn pale."""

    def reached(name: str) -> set[str]:
        return found[name].needs.union(*(reached(other) for other in found[name].needs))

    pairs = {(room.name, other) for room in found.values() for other in room.needs}
    return {(a, b) for a, b in pairs if not any(b in reached(other) for other in found[a].needs - {b})}


def places(found: dict[str, Room]) -> dict[str, tuple[float, float]]:
    """Centre of each room's box; in a storey, rooms stand near the middle of those that they import."""
    storeys = levels(found)
    top = max(storeys.values())
    centre: dict[str, tuple[float, float]] = {}
    for storey in range(top + 1):
        names = sorted(name for name in found if storeys[name] == storey)

        def middle(name: str) -> float:
            below = sorted(found[name].needs)
            return sum(centre[other][0] for other in below) / len(below) if below else 0.0

        names.sort(key=lambda name: (round(middle(name), 3), name))
        for index, name in enumerate(names):
            centre[name] = (WIDTH * (index + 0.5) / len(names), MARGIN + BOX_HEIGHT / 2 + ROW * (top - storey))
    return centre


def svg(found: dict[str, Room]) -> str:
    """The picture."""
    centre, near = places(found), direct(found)
    height = max(y for _, y in centre.values()) + BOX_HEIGHT / 2 + MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#345"/></marker></defs>',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    arrows = [(room.name, other) for room in found.values() for other in sorted(room.needs)]
    for a, b in sorted(arrows, key=lambda pair: (pair in near, pair)):  # pale ones lie below
        (x0, y0), (x1, y1) = centre[a], centre[b]
        y0, y1 = y0 + BOX_HEIGHT / 2, y1 - BOX_HEIGHT / 2 - 1
        lean = max(-0.4 * BOX_WIDTH, min(0.4 * BOX_WIDTH, (x1 - x0) / 6))  # arrows leave and arrive side by side
        x0, x1, bend = x0 + lean, x1 - lean, (y1 - y0) / 2
        style = 'stroke="#345" stroke-width="1.6" marker-end="url(#tip)"' if (a, b) in near else 'stroke="#d5dbe2"'
        dashes = ' stroke-dasharray="5 4"' if b in found[a].later else ""
        parts.append(
            f'<path class="arrow" data-from="{a}" data-to="{b}" fill="none" {style}{dashes} '
            f'd="M{x0:.1f} {y0:.1f}C{x0:.1f} {y0 + bend:.1f} {x1:.1f} {y1 - bend:.1f} {x1:.1f} {y1:.1f}"/>'
        )
    for name, (x, y) in sorted(centre.items()):
        left, upper = x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2
        parts.append(
            f'<rect class="room" data-name="{name}" x="{left:.1f}" y="{upper:.1f}" width="{BOX_WIDTH}" '
            f'height="{BOX_HEIGHT}" rx="8" fill="#eef4fb" stroke="#345"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{upper + 20:.1f}" text-anchor="middle" font-size="15" '
            f'font-weight="bold">{name}</text>'
        )
        for row, line in enumerate(textwrap.wrap(found[name].about, WORDS_WIDTH, max_lines=4, placeholder=" ...")):
            parts.append(
                f'<text x="{x:.1f}" y="{upper + 35 + 13 * row:.1f}" text-anchor="middle" font-size="11" '
                f'fill="#333">{escape(line)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    with replacing(PICTURE) as unfinished:
        unfinished.write_text(svg(rooms()), encoding="utf-8")
