"""Kinds of arguments, and for each what is bad beyond doubt.

A kind is a function of a random number generator and the good value; it gives a bad one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Rng = random.Random
Kind = Callable[[Rng, Any], Any]


class Thing:
    """Something that no argument is."""

    def __repr__(self) -> str:
        return "Thing()"


def _choose(rng: Rng, values: Sequence[Any], optional: bool) -> Any:
    return rng.choice([value for value in values if not (optional and value is None)])


def count(low: int = 1, high: int | None = None, *, optional: bool = False) -> Kind:
    """A whole number from `low` on."""

    def bad(rng: Rng, good: Any) -> Any:
        values = [None, low - 1, low - rng.randint(2, 10**6), rng.uniform(low, low + 9), math.nan, math.inf, -math.inf]
        values += ["3", "many", "", [4], (), {}, 1j, True, Thing(), np.array([1, 2]), torch.ones(2), b"3"]
        values += [10**12, 10**30] if high is None else [high + 1, high + rng.randint(2, 10**6), 10**25]
        return _choose(rng, values, optional)

    return bad


def number(
    low: float | None = None, high: float | None = None, *, optional: bool = False, open_low: bool = False
) -> Kind:
    """A real number from `low` to `high`."""

    def bad(rng: Rng, good: Any) -> Any:
        values = [None, math.nan, math.inf, -math.inf, "fast", "", "1.0", [1.0], (), {}, 1j, Thing(), b"1"]
        values += [np.array([1.0, 2.0]), torch.ones(2)]
        if low is not None:
            values += [low - abs(low) * rng.random() - 10.0 ** rng.uniform(-3, 30)] + ([low] if open_low else [])
        if high is not None:
            values += [high + abs(high) * rng.random() + 10.0 ** rng.uniform(-2, 300), high * 1.01 + 1]
        return _choose(rng, values, optional)

    return bad


def choice(*, optional: bool = False) -> Kind:
    """One of a few names."""

    def bad(rng: Rng, good: Any) -> Any:
        typo = str(good)[:-1] + rng.choice("xyzq") if good else "nothing"
        values = [None, typo, str(good).upper() + "!", "", 5, 1.5, [], {}, Thing(), b"x", np.zeros(2)]
        return _choose(rng, values, optional)

    return bad


def flag(rng: Rng, good: Any) -> Any:
    """True or False."""
    return rng.choice(["yes", "False", None, 2, 0.5, [], Thing()])


def instance(*, optional: bool = False) -> Kind:
    """An object of one class."""

    def bad(rng: Rng, good: Any) -> Any:
        return _choose(rng, [None, "this", 5, 1.5, Thing(), {"a": 1}, np.zeros(2), type(good), b"x"], optional)

    return bad


def image_size(*, optional: bool = False, multiple: int = 1) -> Kind:
    """`(height, width)` in pixels."""

    def bad(rng: Rng, good: Any) -> Any:
        height, width = good if isinstance(good, tuple) else (32, 64)
        values = [None, (0, 0), (0, width), (height, -width), (height,), (height, width, 3), height, "32x64", ()]
        values += [(height + 0.5, width), (math.nan, width), (None, width), (str(height), width), Thing(), {}]
        values += [(10**9, 10**9), (True, width)]
        values += [(height + 1, width), (height, width - 1)] if multiple > 1 else []
        return _choose(rng, values, optional)

    return bad


def array(
    *, nan: bool = False, whole: bool = False, optional: bool = False, free: Sequence[int] = (), low: bool = True
) -> Kind:
    """Numbers as an array or as nested lists.

    Args:
        nan: Whether NaN is fine.
        whole: Whether they are ids.
        optional: Whether None is fine.
        free: Axes whose size is free.
        low: Whether a number is no array.
    """

    def bad(rng: Rng, good: Any) -> Any:
        numbers = np.array(good)
        values = [None, "now", "", Thing(), {"a": 1}, [[0, 1], [2]], b"x", numbers.astype(complex) + 1j]
        values += [numbers.astype(bool), numbers.astype(str), numbers[None, None], [[Thing()]]]
        values += [_with(rng, numbers, math.inf), _with(rng, numbers, -math.inf), _with(rng, numbers, 10**400)]
        values += [] if nan and not whole else [_with(rng, numbers, math.nan), _with(rng, numbers, None)]
        values += [_with(rng, numbers, "1"), _with(rng, numbers, True)]
        values += [_with(rng, numbers, 1.5)] if whole else []
        for axis in range(numbers.ndim):
            if axis not in free:
                values += [np.repeat(numbers, 2, axis=axis), np.take(numbers, [], axis=axis)]
        values += [numbers.reshape(-1)] if numbers.ndim > 2 else []
        return _choose(rng, values, optional)

    return bad


def _with(rng: Rng, numbers: np.ndarray, value: Any) -> Any:
    """The numbers as nested lists, one of them replaced."""
    changed = numbers.astype(object)
    changed[tuple(rng.randrange(size) for size in changed.shape)] = value
    return changed.tolist()


def tensor(
    dtype: str = "float", *, optional: bool = False, free: Sequence[int] = (), rank: bool = True, arrays: bool = False
) -> Kind:
    """A tensor like the good one.

    Args:
        dtype: "float", "int" or "bool".
        optional: Whether None is fine.
        free: Axes whose size is free.
        rank: Whether the number of axes is fixed.
        arrays: Whether NumPy arrays are fine.
    """

    def bad(rng: Rng, good: torch.Tensor) -> Any:
        values = [
            None,
            "noise",
            Thing(),
            {"a": 1},
            b"x",
            good.tolist() if not arrays else "list",
            good.to(torch.complex64),
        ]
        values += [] if arrays else [good.numpy(), 0.5]
        values += [good > 0, good.to(torch.int64)] if dtype == "float" else [good.float()]
        values += [good[None], good[0]] if rank else []
        for axis in range(good.dim()):
            if axis not in free:
                values += [torch.cat([good, good], dim=axis), good.narrow(axis, 0, 0)]
        return _choose(rng, values, optional)

    return bad


def of(*values: Any) -> Kind:
    """One of the bad values given."""

    def bad(rng: Rng, good: Any) -> Any:
        return rng.choice(values)

    return bad


def either(*kinds: Kind) -> Kind:
    """Bad in one way or another."""

    def bad(rng: Rng, good: Any) -> Any:
        return rng.choice(kinds)(rng, good)

    return bad
