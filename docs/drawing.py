"""A sheet to draw boxes, arrows and words on, written as SVG: what the pictures of the documentation are made with."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from gaia2._files import replacing

INK, GREY = "#24303c", "#6b7785"
BLUE, GREEN, AMBER, ROSE, VIOLET, PALE = "#dbe9f8", "#dcf1e2", "#fbecc9", "#f8dde0", "#e6e0f5", "#f3f5f7"
EDGES = {BLUE: "#4a7fb5", GREEN: "#4d9a63", AMBER: "#c29329", ROSE: "#bf5b67", VIOLET: "#7a68b3", PALE: "#9aa5b1"}


class Sheet:
    """A white sheet; places are in pixels from its upper left corner.

    Args:
        width: Of the sheet.
        height: Of the sheet.
        about: What the picture shows, for those who cannot see it.
    """

    def __init__(self, width: int, height: int, about: str) -> None:
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
            f'font-family="Helvetica, Arial, sans-serif" role="img" aria-label="{escape(about, quote=True)}">',
            f'<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{INK}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="6" fill="white"/>',
        ]

    def words(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 13,
        colour: str = INK,
        bold: bool = False,
        anchor: str = "middle",
        mono: bool = False,
    ) -> None:
        """One line of text; `y` is its base line."""
        style = (' font-weight="bold"' if bold else "") + (' font-family="monospace"' if mono else "")
        self._parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{colour}" text-anchor="{anchor}"{style}>'
            f"{escape(text)}</text>"
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        title: str = "",
        lines: Sequence[str] = (),
        *,
        fill: str = BLUE,
        size: float = 14,
        small: float = 11.5,
    ) -> None:
        """A box with a title and lines below it, in its middle."""
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7" fill="{fill}" '
            f'stroke="{EDGES.get(fill, INK)}"/>'
        )
        step = small + 4
        top = y + height / 2 - (len(lines) * step + (size if title else 0)) / 2
        if title:
            self.words(x + width / 2, top + size * 0.85, title, size=size, bold=True)
            top += size + 3
        for row, line in enumerate(lines):
            self.words(x + width / 2, top + small * 0.9 + row * step, line, size=small, colour=GREY)

    def arrow(self, *points: tuple[float, float], dashed: bool = False, tip: bool = True) -> None:
        """A line through points, with a tip at its end."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        style = (' stroke-dasharray="5 4"' if dashed else "") + (' marker-end="url(#tip)"' if tip else "")
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.4"{style}/>')

    def shape(self, points: Sequence[tuple[float, float]], *, fill: str, edge: str, opacity: float = 1.0) -> None:
        """A polygon."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(
            f'<polygon points="{path}" fill="{fill}" fill-opacity="{opacity:g}" stroke="{edge}" stroke-width="1"/>'
        )

    def circle(self, x: float, y: float, radius: float, *, edge: str = PALE, fill: str = "none") -> None:
        """A circle."""
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="{fill}" stroke="{edge}"/>')

    def svg(self) -> str:
        """The picture as the text of an SVG file."""
        return "\n".join([*self._parts, "</svg>"]) + "\n"


def save(path: Path, picture: str) -> None:
    """Write an SVG file, which appears when it is whole."""
    with replacing(path) as unfinished:
        unfinished.write_text(picture, encoding="utf-8")
