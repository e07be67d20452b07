"""A figure over clips, with the interval that the choice of clips leaves open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """Rows of each clip, and how all rows become a figure.

    Attributes:
        rows: For each clip `(rows, columns)`.
        figure: Takes the rows of all clips.

    Example:
        >>> measure = Measure([np.array([[1.0]]), np.array([[0.0]])], lambda rows: float(rows.mean()))
        >>> measure.value(), measure.interval(draws=100, seed=0)
        (0.5, (0.0, 1.0))
    """

    rows: Sequence[np.ndarray]
    figure: Callable[[np.ndarray], float]

    @property
    def count(self) -> int:
        """Rows in all."""
        return sum(len(rows) for rows in self.rows)

    def value(self) -> float:
        """The figure; NaN where there are no rows."""
        return self.figure(np.concatenate(self.rows)) if self.count else float("nan")

    def interval(self, draws: int = 200, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
        """Bootstrap interval: clips are drawn anew, with their rows; NaN where there is nothing to draw from."""
        rng = np.random.default_rng(seed)
        values = []
        for _ in range(draws):
            drawn = [self.rows[i] for i in rng.integers(len(self.rows), size=len(self.rows))]
            if sum(map(len, drawn)):
                values.append(self.figure(np.concatenate(drawn)))
        known = [value for value in values if np.isfinite(value)]
        if not known:
            return float("nan"), float("nan")
        low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def mean(rows: np.ndarray) -> float:
    """Mean of the first column, NaN left out."""
    values = rows[:, 0][np.isfinite(rows[:, 0])]
    return float(values.mean()) if len(values) else float("nan")


def correlation(rows: np.ndarray) -> float:
    """Of the first two columns, rows with NaN left out; NaN where a column does not vary."""
    x, y = _pairs(rows)
    if len(x) < 3 or any(v.std() <= 1e-6 * np.abs(v).max() for v in (x, y)):
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def slope(rows: np.ndarray) -> float:
    """Gain: slope of the second column over the first."""
    x, y = _pairs(rows)
    spread = np.square(x - x.mean()).sum() if len(x) > 2 else 0.0
    return float(((x - x.mean()) * (y - y.mean())).sum() / spread) if spread > 0 else float("nan")


def mean_error(rows: np.ndarray) -> float:
    """Mean absolute difference of the first two columns."""
    x, y = _pairs(rows)
    return float(np.abs(x - y).mean()) if len(x) else float("nan")


def median_relative_error(rows: np.ndarray) -> float:
    """Median of the absolute difference of the first two columns, as a share of the first."""
    x, y = _pairs(rows)
    return float(np.median(np.abs(y - x) / np.abs(x))) if len(x) else float("nan")


def same_sign(rows: np.ndarray) -> float:
    """Share of the rows whose first two columns have the same sign."""
    x, y = _pairs(rows)
    return float((np.sign(x) == np.sign(y)).mean()) if len(x) else float("nan")


def ratio_of_sums(rows: np.ndarray) -> float:
    """Sum of the first column over that of the second."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def _pairs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = rows[np.isfinite(rows[:, :2]).all(axis=1)]
    return known[:, 0], known[:, 1]
