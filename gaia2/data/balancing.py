"""How often each clip is drawn: the joint distribution of chosen features, evened out (paper §3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2.data.index import ClipEntry

__all__ = ["Balance", "Cell", "balance", "parse_features"]


@dataclass(frozen=True)
class Cell:
    """Clips that share the values of all chosen features.

    Attributes:
        dataset: Their dataset, or "" where datasets are not told apart.
        values: Of the features, in their order; numbers as the interval (low, high) they lie in; None where absent.
        count: Number of clips (or windows).
        share: Of all, as they are.
        target: Of the draws.
        weight: How much more often one of them is drawn than without balancing.
    """

    dataset: str
    values: tuple[Any, ...]
    count: int
    share: float
    target: float
    weight: float


@dataclass(frozen=True, eq=False)
class Balance:
    """What to draw.

    Attributes:
        features: The chosen features.
        probability: (k,) of each clip (or window), summing to 1.
        cell: (k,) index into `cells`.
        cells: The joint distribution, the most frequent first.
    """

    features: tuple[str, ...]
    probability: np.ndarray
    cell: np.ndarray
    cells: tuple[Cell, ...]

    def table(self) -> str:
        """The cells as lines of text: count, share, target and weight."""
        lines = [f"{'count':>8}  {'share':>7}  {'target':>7}  {'weight':>7}  {', '.join(self.features)}"]
        for cell in self.cells:
            values = ", ".join(_shown(value) for value in cell.values)
            head = f"{cell.dataset}: " if cell.dataset else ""
            lines.append(
                f"{cell.count:>8}  {cell.share:>7.2%}  {cell.target:>7.2%}  {cell.weight:>7.3f}  {head}{values}"
            )
        return "\n".join(lines)


def balance(
    clips: Sequence[ClipEntry],
    features: Mapping[str, Sequence[float] | None],
    *,
    temper: float = 0.5,
    floor: float = 0.01,
    shares: Mapping[str, float] | None = None,
    clip: npt.ArrayLike | None = None,
) -> Balance:
    """Weight clips by the inverse frequency of the cell that they are in, tempered and with a floor.

    A clip of a cell of share p is drawn with a probability proportional to max(p, floor) ** -temper. With temper 1 all
    cells of at least the floor's share are drawn equally often, with 0 as they come; the floor keeps rare cells from
    being repeated over and over.

    Args:
        clips: Of an index, of several datasets perhaps.
        features: Names of `ClipEntry.features`, or "dataset", "num_cameras", "frame_rate"; with the edges of intervals
            for numbers, or None to take values as they are.
        temper: From 0 to 1.
        floor: A share from 0 to 1.
        shares: How much of the draws each dataset gets; each is then balanced on its own. None: all together.
        clip: (k,) index of the clip of each window, to weight windows; None: weight the clips.

    Raises:
        ValueError: No clip has a feature of some name, a number is out of range, or a dataset has no clip or no share.

    Example:
        >>> def clip(weather):
        ...     return ClipEntry("k", "a.tar", "mp4", 8, ("front",), (8, 8), 0.7, features={"weather": weather})
        >>> found = balance([clip("clear")] * 3 + [clip("fog")], {"weather": None}, temper=1.0)
        >>> found.probability.round(3).tolist()
        [0.167, 0.167, 0.167, 0.5]
    """
    if not 0 <= temper <= 1 or not 0 <= floor <= 1:
        raise ValueError(f"balance: expected temper and floor from 0 to 1, got {temper} and {floor}")
    rows = np.arange(len(clips)) if clip is None else np.asarray(clip)
    if not len(rows):
        raise ValueError("balance: expected at least one clip, got none")
    groups = np.array([entry.source.dataset if shares is not None else "" for entry in clips], dtype=object)[rows]
    wanted = _wanted(groups, shares)
    keys = _keys(clips, features)
    joint = [(groups[row], keys[index]) for row, index in enumerate(rows)]
    names = {key: number for number, key in enumerate(sorted(set(joint), key=repr))}
    cell = np.array([names[key] for key in joint])
    counts = np.bincount(cell)
    of_group = np.array([list(wanted).index(group) for group, _ in names])
    totals = np.bincount(of_group, weights=counts)
    share = counts / totals[of_group]
    raw = share * np.maximum(share, floor) ** -temper
    target = raw / np.bincount(of_group, weights=raw)[of_group] * np.array(list(wanted.values()))[of_group]
    order = np.argsort(-counts, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    listed = list(names)
    cells = tuple(
        Cell(
            listed[i][0], listed[i][1], int(counts[i]), float(counts[i] / len(rows)), float(target[i]),
            float(target[i] * len(rows) / counts[i]),
        )
        for i in order
    )  # fmt: skip
    return Balance(tuple(features), (target / counts)[cell], rank[cell], cells)


def parse_features(words: Sequence[str]) -> dict[str, list[float] | None]:
    """Features as `balance` takes them, from words of a command line: a name, or a name with edges of intervals.

    Raises:
        ValueError: If edges are no numbers.

    Example:
        >>> parse_features(["weather", "speed:0,5,15"])
        {'weather': None, 'speed': [0.0, 5.0, 15.0]}
    """
    features: dict[str, list[float] | None] = {}
    for word in words:
        name, given, edges = word.partition(":")
        try:
            features[name] = [float(edge) for edge in edges.split(",")] if given else None
        except ValueError:
            raise ValueError(
                f"balanced: expected a feature, or one with borders such as speed:0,5,15, got {word!r}"
            ) from None
    return features


def _wanted(groups: np.ndarray, shares: Mapping[str, float] | None) -> dict[str, float]:
    """Share of the draws of each group, summing to 1."""
    present = sorted(set(groups.tolist()))
    if shares is None:
        return {"": 1.0}
    missing = [name for name in shares if name not in present and shares[name] > 0]
    extra = [name for name in present if name not in shares]
    if missing or extra or min(shares.values()) < 0:
        raise ValueError(
            f"shares: expected a share of at least 0 of each dataset, {', '.join(present)}, got {dict(shares)}; a "
            "dataset that shall not be drawn has the share 0"
        )
    total = sum(shares.values())
    return {name: shares[name] / total for name in present}


def _keys(clips: Sequence[ClipEntry], features: Mapping[str, Sequence[float] | None]) -> list[tuple[Any, ...]]:
    columns = []
    for name, edges in features.items():
        values = [_value(entry, name) for entry in clips]
        if all(value is None for value in values):
            known = sorted({key for entry in clips for key in entry.features})
            raise ValueError(f"balance: expected features of {', '.join(known)}, got {name!r}, which no clip has")
        columns.append(values if edges is None else [_interval(value, edges) for value in values])
    return list(zip(*columns, strict=True)) if columns else [()] * len(clips)


def _value(entry: ClipEntry, name: str) -> Any:
    if name == "dataset":
        return entry.source.dataset
    if name == "num_cameras":
        return len(entry.cameras)
    if name == "frame_rate":
        return round(entry.frame_rate, 1)
    return entry.features.get(name)


def _interval(value: Any, edges: Sequence[float]) -> tuple[float, float] | None:
    if value is None:
        return None
    bounds = [-np.inf, *edges, np.inf]
    place = int(np.searchsorted(edges, float(value), side="right"))
    return float(bounds[place]), float(bounds[place + 1])


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        low, high = value
        return f"{low:g} to {high:g}"
    return "-" if value is None else str(value)
