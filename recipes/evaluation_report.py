"""From the readings of an evaluation to its table: JSON, Markdown and a picture."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaia2._files import replacing
from gaia2.metrics.control import Facts, control_measures, mirror_test, shuffled
from gaia2.metrics.drift import drift
from gaia2.metrics.frechet import FrechetStatistics, frechet_distance
from gaia2.metrics.fvmd import OpticalFlowTracker
from gaia2.metrics.held_out import CONTROLS, HeldOutScene
from gaia2.metrics.latent_shift import shift_row, within_clip_variance
from gaia2.metrics.measure import Measure, mean, ratio_of_sums
from gaia2.metrics.readings import Reading
from gaia2.viz.contact_sheet import contact_sheet

MOTION = f"FVMD ({OpticalFlowTracker.name})"
COLUMNS = ("genuine", "round trip", "generated", "shuffled")
_FRECHET_DRAWS = 20

Figure = dict[str, float]
"""`value`, `low` and `high` of the 95% interval, `count` of rows."""
Table = dict[str, dict[str, Figure]]
"""Figure by name and column."""


@dataclass(frozen=True)
class Column:
    """Readings and latents `(t, n, h, w, c)` of all clips from one source."""

    readings: list[Reading]
    latents: list[torch.Tensor]


def figures(
    columns: dict[str, Column],
    facts: Sequence[Facts],
    groups: Sequence[str],
    pairs: Sequence[tuple[HeldOutScene, dict[str, torch.Tensor], dict[str, torch.Tensor]]],
) -> tuple[Table, dict[str, str]]:
    """All figures, and those refused by the mirror test with the reason.

    Args:
        columns: By source; "shuffled" is made of the generated ones.
        facts: Of the clips.
        groups: Kind of rig of each clip.
        pairs: Changed scenes with their latents by source and those of the scene that they were made of.
    """
    table: Table = {}
    order = shuffled(groups)
    readings = {name: column.readings for name, column in columns.items()}
    readings["shuffled"] = [columns["generated"].readings[i] for i in order]
    for column in COLUMNS:
        for name, measure in control_measures(readings[column], facts).items():
            table.setdefault(name, {})[column] = _figure(measure)
    table |= _shift_figures(pairs)
    table |= _look_figures(columns)
    refused = mirror_test(columns["genuine"].readings, facts, groups)
    return table, refused


def _shift_figures(
    pairs: Sequence[tuple[HeldOutScene, dict[str, torch.Tensor], dict[str, torch.Tensor]]],
) -> Table:
    """Share of the true latent shift of each control."""
    table: Table = {}
    for control in CONTROLS:
        own = [pair for pair in pairs if pair[0].control == control]
        if not own:
            continue
        row: dict[str, Figure] = {}
        for column in COLUMNS if len(own) > 1 else COLUMNS[:3]:
            rows = []
            for index, (_, changed, base) in enumerate(own):
                source = "generated" if column == "shuffled" else column
                # another scene's shift where the figure shall be what one gets for nothing
                _, true_changed, true_base = own[(index + 1) % len(own)] if column == "shuffled" else own[index]
                rows.append(
                    shift_row(
                        true_base["genuine"].float(),
                        true_changed["genuine"].float(),
                        base[source].float(),
                        changed[source].float(),
                    )
                )
            row[column] = _figure(Measure(rows, ratio_of_sums))
        table[f"latent shift: {control}"] = row
    return table


def _look_figures(columns: dict[str, Column]) -> Table:
    """Variance, seams and Fréchet distances, to the genuine clips of the same scenes."""
    table: Table = {
        "within-clip latent variance ratio": {},
        "agreement of overlapping views": {},
        "seam ratio": {},
        "corners followed": {},
        "Fréchet distance": {},
        MOTION: {},
    }
    genuine = columns["genuine"]
    true = [within_clip_variance(latents) for latents in genuine.latents]
    for name, column in columns.items():
        rows = [np.array([[within_clip_variance(z), v]]) for z, v in zip(column.latents, true, strict=True)]
        table["within-clip latent variance ratio"][name] = _figure(Measure(rows, ratio_of_sums))
        for figure, key in (
            ("agreement of overlapping views", "views"),
            ("seam ratio", "seam"),
            ("corners followed", "corners"),
        ):
            values = [np.array([[float(r[key])]]) for r in column.readings]
            table[figure][name] = _figure(Measure(values, mean))
    # of motions there are fewer than a motion has features, so that their covariance is larger than they are
    makings: tuple[tuple[str, str, Callable[..., Any], Callable[..., Any]], ...] = (
        ("Fréchet distance", "features", FrechetStatistics.of, _total),
        (MOTION, "motion", torch.Tensor.double, torch.cat),
    )
    for figure, key, made, joined in makings:
        parts = {name: [made(r[key]) for r in column.readings] for name, column in columns.items()}
        own = parts.pop("genuine")
        value = frechet_distance(joined(own[::2]), joined(own[1::2]))
        counts = [len(r[key]) for r in genuine.readings]
        table[figure]["genuine"] = _row(value, math.nan, math.nan, sum(counts))
        table[figure] |= {name: _frechet(own, of, joined, sum(counts)) for name, of in parts.items()}
    generated, best = table["Fréchet distance"]["generated"], table["Fréchet distance"]["round trip"]
    table["Fréchet distance over round trip"] = {
        "generated": _row(generated["value"] - best["value"], math.nan, math.nan, int(generated["count"]))
    }
    return table


def drift_figures(seconds: float, looks: Sequence[dict[str, Any]]) -> Table:
    """What long rollouts keep of their looks.

    Args:
        seconds: Length of each.
        looks: What `window_looks` gives by source, for each.
    """
    table: Table = {}
    for source in looks[0]:
        for name, measure in drift([look[source] for look in looks]).items():
            table.setdefault(f"{name} kept over {seconds:g} s", {})[source] = _figure(measure)
    return table


def _frechet(genuine: Sequence[Any], made: Sequence[Any], joined: Callable[..., Any], count: int) -> Figure:
    """Distance of what clips have, one after the other, that `joined` makes one of, and its interval over clips."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(_FRECHET_DRAWS):
        drawn = rng.integers(len(made), size=len(made))
        values.append(frechet_distance(joined([genuine[i] for i in drawn]), joined([made[i] for i in drawn])))
    value = frechet_distance(joined(genuine), joined(made))
    # clips drawn twice make draws lie too far apart: their spread counts, not their mean
    low, high = np.quantile(values, [0.025, 0.975]) - np.mean(values) + value
    return _row(value, max(0.0, float(low)), float(high), count)


def _total(parts: Sequence[FrechetStatistics]) -> FrechetStatistics:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _figure(measure: Measure) -> Figure:
    low, high = measure.interval()
    return _row(measure.value(), low, high, measure.count)


def _row(value: float, low: float, high: float, count: int) -> Figure:
    return {"value": value, "low": low, "high": high, "count": count}


def write_report(
    out: Path, protocol: dict[str, Any], table: Table, refused: dict[str, str], pictures: np.ndarray
) -> None:
    """Write `evaluation.json`, `evaluation.md` and `evaluation.png`.

    Args:
        out: Folder.
        protocol: What was evaluated, and how.
        table: The figures.
        refused: Reason by name of the figures that are left out.
        pictures: `(clips, 3, hv, wv, 3)` uint8: a genuine, reconstructed and generated picture of some clips.
    """
    content = {"protocol": protocol, "figures": table, "refused": refused}
    with replacing(out / "evaluation.json") as unfinished:
        unfinished.write_text(json.dumps(_finite(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    with replacing(out / "evaluation.md") as unfinished:
        unfinished.write_text(markdown(protocol, table, refused))
    contact_sheet(out / "evaluation.png", pictures, COLUMNS[:3], rows=len(pictures), scale=2)
    print(markdown(protocol, table, refused))


def markdown(protocol: dict[str, Any], table: Table, refused: dict[str, str]) -> str:
    """The table as text."""
    lines = [f"| | {' | '.join(COLUMNS)} | n |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, row in table.items():
        if name in refused:
            lines.append(f"| {name} | refused: {refused[name]} | | | | |")
            continue
        cells = [_cell(row.get(column)) for column in COLUMNS]
        count = next(iter(row.values()))["count"]
        lines.append(f"| {name} | {' | '.join(cells)} | {count} |")
    said = ", ".join(f"{name}: {value}" for name, value in protocol.items() if name != "metadata")
    return "\n".join([*lines, "", said, ""])


def _cell(figure: Figure | None) -> str:
    if figure is None or not math.isfinite(figure["value"]):
        return ""
    if not math.isfinite(figure["low"]):
        return f"{figure['value']:.2f}"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _finite(value: Any) -> Any:
    """The same with None for NaN, for strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return value
