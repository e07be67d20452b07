"""Times of several works taken in turn in one run, and their ratios round by round.

A ratio of two works of one round holds on a busy machine, too: what slows the one slows the other.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

Work = Callable[[], Any]
Clock = Literal["wall", "processor"]
_clock = time.perf_counter


def use_clock(name: Clock) -> None:
    """Count seconds of the wall, or of this process on all processors: what others do there does not count then."""
    global _clock
    _clock = time.process_time if name == "processor" else time.perf_counter


def now() -> float:
    """Seconds of the chosen clock."""
    return _clock()


@dataclass(frozen=True)
class Spread:
    """A measured number: the median of the rounds, and the quartiles.

    Attributes:
        median: Half of the rounds gave less.
        low: A quarter of the rounds gave less.
        high: A quarter of the rounds gave more.
        rounds: How many there were.
    """

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of the values of all rounds."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0], 1)
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@dataclass(frozen=True)
class Figure:
    """One line of the result.

    Attributes:
        part: The part that measured it.
        name: What was measured.
        against: What it is divided by; the unit where it is no ratio.
        value: The number, with its spread.
        target: What it should not exceed; None where nothing is asked.
        details: Sizes and absolute numbers that tell how it came about.
    """

    part: str
    name: str
    against: str
    value: Spread
    target: float | None = None
    details: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        wanted = "" if self.target is None else f", at most {self.target:g} wanted"
        return f"{self.part}: {self.name}: {self.value} {self.against}{wanted}"


def interleaved(works: Mapping[str, Work], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Seconds of each work in each round.

    Args:
        works: What to time, by name. Each round runs all of them, beginning with another one.
        rounds: Timed rounds.
        warm_up: Rounds before, which are not counted.
    """
    names = list(works)
    times: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            seconds = timed(works[name])
            if number >= 0:
                times[name].append(seconds)
    return times


def timed(work: Work) -> float:
    """Seconds of one call, until the device has finished."""
    synchronise()
    began = now()
    work()
    synchronise()
    return now() - began


def synchronise() -> None:
    """Wait for the device, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def ratio(numerator: Sequence[float], denominator: Sequence[float], factor: float = 1.0) -> Spread:
    """The spread of `factor * numerator / denominator`, round by round.

    Example:
        >>> ratio([2.0, 4.0, 9.0], [1.0, 2.0, 3.0]).median
        2.0
    """
    return Spread.of([factor * a / b for a, b in zip(numerator, denominator, strict=True)])


def exponent(sizes: Sequence[float], costs: Sequence[Sequence[float]]) -> Spread:
    """Fit `cost = a * size ** x` in each round; the spread of x.

    Args:
        sizes: What grows.
        costs: Costs of each size, round by round.

    Example:
        >>> exponent([1, 2, 4], [[3.0], [6.0], [12.0]]).median
        1.0
    """
    x = torch.tensor(sizes, dtype=torch.float64).log()
    x = x - x.mean()
    y = torch.tensor(costs, dtype=torch.float64).log()
    slopes = (x[:, None] * (y - y.mean(dim=0))).sum(dim=0) / x.square().sum()
    return Spread.of([round(float(slope), 12) for slope in slopes])


def collect() -> None:
    """Free what nothing holds any more, before the next models are made."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
