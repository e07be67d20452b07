"""Draw curves of a training's scalars.jsonl as an SVG picture.

    python docs/plot_scalars.py --scalars runs/tokenizer/scalars.jsonl --names validation_psnr validation_psnr_videos \
        --title "Held-out PSNR in dB" --out docs/images/tokenizer_curve.svg
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import tyro

from gaia2._files import replacing

WIDTH, HEIGHT, MARGIN = 640, 320, 48
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


@dataclass(frozen=True)
class Plot:
    """What to draw."""

    scalars: Path
    """File that a recipe wrote."""
    names: tuple[str, ...]
    """Scalars to draw, one curve each."""
    out: Path
    """SVG file to write."""
    title: str = ""
    """Text above the curves."""


def read(path: Path, name: str) -> list[tuple[int, float]]:
    """Step and value of one scalar; where a resumed training wrote a step twice, the later value."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    points = sorted({row["step"]: row[name] for row in rows if name in row}.items())
    if not points:
        known = sorted({key for row in rows for key in row} - {"step"})
        raise ValueError(f"names: expected scalars of {path} ({', '.join(known)}), got {name!r}")
    return points


def svg(curves: dict[str, list[tuple[int, float]]], title: str) -> str:
    """The picture."""
    values = [value for points in curves.values() for _, value in points]
    low, high = math.floor(min(values)), math.ceil(max(values))
    last = max(step for points in curves.values() for step, _ in points)

    def place(step: float, value: float) -> tuple[float, float]:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / last
        return x, HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
        f'<text x="{WIDTH / 2}" y="22" text-anchor="middle" font-size="15">{escape(title)}</text>'
    ]
    for value in range(low, high + 1, max(1, (high - low) // 8)):
        x, y = place(0, value)
        parts.append(f'<path d="M{x} {y:.1f}H{WIDTH - MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>')
    for quarter in range(5):
        x, y = place(last * quarter / 4, low)
        parts.append(f'<text x="{x:.1f}" y="{y + 18}" text-anchor="middle">{round(last * quarter / 4)}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT - 10}" text-anchor="middle">step</text>')
    for row, (name, points) in enumerate(curves.items()):
        colour = COLOURS[row % len(COLOURS)]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in points))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = HEIGHT - MARGIN - 18 * (len(curves) - row) + 8
        parts.append(f'<text x="{WIDTH - MARGIN - 8}" y="{y}" text-anchor="end" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    plot = tyro.cli(Plot, description=__doc__)
    picture = svg({name: read(plot.scalars, name) for name in plot.names}, plot.title)
    with replacing(plot.out) as unfinished:
        unfinished.write_text(picture)
