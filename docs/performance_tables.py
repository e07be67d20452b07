"""Write the tables of docs/performance.md from the figures of the benchmarks.

    python -m benchmarks --json docs/performance.json
    python docs/performance_tables.py

A table stands between the marks `<!-- figures: PART -->` and `<!-- end -->`; everything else of the page stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gaia2._files import replacing

PAGE = Path(__file__).parent / "performance.md"
FIGURES = Path(__file__).parent / "performance.json"
MARKS = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_MEASURED = "*Not measured yet.*\n"


def number(value: float) -> str:
    """Three digits.

    >>> number(1.23456), number(0.01234), number(123.4)
    ('1.23', '0.0123', '123')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(value: Mapping[str, float]) -> str:
    """A median, and its quartiles where they differ."""
    if value["low"] == value["high"]:
        return number(value["median"])
    return f"{number(value['median'])} ({number(value['low'])} to {number(value['high'])})"


def judged(figure: Mapping[str, Any]) -> str:
    """What was wanted, and whether it was reached."""
    target = figure["target"]
    if target is None:
        return ""
    return f"{target:g}, {'reached' if figure['value']['median'] <= target else 'missed'}"


def table(part: Mapping[str, Any]) -> str:
    """A part's figures, and a line that says what they were measured on."""
    lines = ["| Measured | | | At most |", "|---|---|---|---|"]
    for figure in part["figures"]:
        cells = (figure["name"], spread(figure["value"]), figure["against"], judged(figure))
        lines.append(f"| {' | '.join(cells)} |")
    machine = part["machine"]
    clock = "the process's own seconds" if machine["clock"] == "processor" else "seconds of the wall"
    threads = f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}"
    said = f"{machine['date']}, {machine['device']}, {threads}, {clock}, {machine['rounds']} rounds"
    return "\n".join([*lines, "", f"*{said}; torch {machine['torch']}, diffusers {machine['diffusers']}.*", ""])


def filled(page: str, parts: Mapping[str, Any]) -> str:
    """The page with its tables."""

    def fill(mark: re.Match[str]) -> str:
        part = parts.get(mark[2])
        return f"{mark[1]}{NOT_MEASURED if part is None else table(part)}{mark[3]}"

    return MARKS.sub(fill, page)


def parts_named(page: str) -> Sequence[str]:
    """The parts that the page has tables of, in its order."""
    return [mark[2] for mark in MARKS.finditer(page)]


if __name__ == "__main__":
    written = filled(PAGE.read_text(), json.loads(FIGURES.read_text())["parts"])
    with replacing(PAGE) as unfinished:
        unfinished.write_text(written)
