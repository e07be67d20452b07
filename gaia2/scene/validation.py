"""Checks shared by the scene classes: turn what a user wrote into read-only arrays, or say clearly what is wrong."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gaia2._checks import missed_axes, shown

__all__ = [
    "FrozenRecord",
    "as_floats",
    "as_integers",
    "check_keys",
    "check_shape",
    "check_within",
    "first_index",
    "nearest",
    "to_json_value",
]


def nearest(value: object, valid: Iterable[object]) -> Any:
    """Return the entry of `valid` closest to `value`: by distance for numbers, by spelling for everything else.

    Example:
        >>> nearest("rian", ["clear", "rain"])
        'rain'
        >>> nearest(45, [30, 50, 80])
        50
    """
    options: list[Any] = list(valid)
    if isinstance(value, (int, float)) and not any(isinstance(option, (str, bool)) for option in options):
        return min(options, key=lambda option: abs(option - value))
    wanted = str(value).strip().lower().replace("-", "_").replace(" ", "_")
    by_text = {str(option).lower(): option for option in options}
    return by_text[difflib.get_close_matches(wanted, list(by_text), n=1, cutoff=0.0)[0]]


def check_keys(what: str, data: object, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Any]:
    """Check that `data` is a mapping with all `required` keys and none but `required` and `optional`.

    Args:
        what: Name of the mapping, for the message.
        data: What was read.
        required: Keys that must be there.
        optional: Keys that may be there.

    Returns:
        `data` as a dict.

    Raises:
        ValueError: Not a mapping, a key is missing, or a key is not known.
    """
    required, optional = list(required), list(optional)
    if not isinstance(data, Mapping):
        raise ValueError(f"{what}: expected an object with the keys {', '.join(required)}, got {type(data).__name__}")
    for key in required:
        if key not in data:
            raise ValueError(f"{what}: expected the key {key!r}, got only {sorted(map(str, data))}; add it")
    known = required + optional
    for key in data:
        if key not in known:
            raise ValueError(
                f"{what}: unknown key {key!r}; did you mean {nearest(key, known)!r}? Expected only: {', '.join(known)}"
            )
    return dict(data)


def first_index(mask: np.ndarray) -> tuple[int, ...]:
    """Return the index of the first true entry of `mask` as plain ints."""
    return tuple(int(i) for i in np.argwhere(mask)[0])


def check_shape(name: str, array: np.ndarray, axes: Sequence[str], sizes: Sequence[int | None]) -> None:
    """Check the shape of `array`.

    Args:
        name: The argument's name, for the message.
        array: The array.
        axes: A name for each axis.
        sizes: The expected size of each axis; None for any size.

    Raises:
        ValueError: The number of axes or a size differs.
    """
    expected = missed_axes(array.shape, axes, sizes)
    if expected is not None:
        trailing = "," if len(axes) == 1 else ""
        raise ValueError(
            f"{name}: expected shape ({expected}{trailing}), got {array.shape}; reshape it or fix its source"
        )


def as_floats(name: str, value: object, *, allow_nan: bool = False) -> np.ndarray:
    """Return a float64 copy of `value`; None inside it becomes NaN.

    Args:
        name: The argument's name, for messages.
        value: Numbers as an array, a CPU tensor or (nested) sequences.
        allow_nan: Whether NaN (or None) may occur, as "absent".

    Returns:
        float64 array of the same shape, a copy.

    Raises:
        ValueError: Not numbers, ragged, infinite, or NaN where it is not allowed.
    """
    try:
        raw = np.asarray(value)
        numeric = raw.dtype.kind in "iuf" or raw.size == 0
        if raw.dtype.kind == "O":
            numeric = {type(item) for item in raw.ravel()} <= {int, float, type(None)}
        if not numeric or _holds_bool(value):
            raise ValueError(f"values of type {'bool' if numeric else raw.dtype}")
        array = np.array(raw, dtype=np.float64)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array of numbers, got {shown(value)} ({error})") from error
    if np.isinf(array).any():
        raise ValueError(
            f"{name}: expected finite numbers, got an infinite value at index {list(first_index(np.isinf(array)))}; "
            f"remove it{' or use NaN for absent' if allow_nan else ''}"
        )
    if not allow_nan and np.isnan(array).any():
        raise ValueError(
            f"{name}: expected a number everywhere, got NaN at index {list(first_index(np.isnan(array)))}; "
            "this quantity cannot be absent, fill it in"
        )
    return array


def as_integers(name: str, value: object) -> np.ndarray:
    """Return an int64 copy of `value`.

    Args:
        name: The argument's name, for messages.
        value: Whole numbers as an array, a CPU tensor or (nested) sequences.

    Returns:
        int64 array of the same shape, a copy.

    Raises:
        ValueError: Not whole numbers, or ragged.
    """
    try:
        raw = np.asarray(value)
        whole = raw.dtype.kind in "iu" or not raw.size
        if not whole or _holds_bool(value):
            raise ValueError(f"values of type {'bool' if whole else raw.dtype}")
        return np.array(raw, dtype=np.int64)
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{name}: expected an array of integers, got {shown(value)} ({error})") from error


def check_within(name: str, array: np.ndarray, limit: float, unit: str, hint: str) -> None:
    """Check that no magnitude is beyond what can be meant; NaN passes.

    Args:
        name: The argument's name, for the message.
        array: Numbers.
        limit: The largest magnitude.
        unit: What they are counted in.
        hint: What the larger ones may be instead.

    Raises:
        ValueError: One is larger.
    """
    beyond = np.abs(array) > limit
    if beyond.any():
        index = first_index(beyond)
        place = f" at index {list(index)}" if index else ""
        raise ValueError(f"{name}: expected {unit} within ±{limit:g}, got {array[index]:g}{place}; {hint}")


def to_json_value(array: np.ndarray) -> Any:
    """Return nested lists of plain numbers, with None where the array has NaN."""
    if array.dtype.kind == "f" and np.isnan(array).any():
        values = array.astype(object)
        values[np.isnan(array)] = None
        return values.tolist()
    return array.tolist()


def _holds_bool(value: object) -> bool:
    """Whether nested lists hold True or False, which numpy takes for 1 and 0 beside numbers."""
    if isinstance(value, (list, tuple)):
        return any(_holds_bool(item) for item in value)
    return isinstance(value, (bool, np.bool_))


class FrozenRecord:
    """Base of the frozen scene dataclasses: exact equality (NaN equals NaN), read-only arrays, pickling, `replace`.

    Subclasses are `@dataclass(frozen=True, eq=False)`; their `__init__` turns what it is given into checked fields.
    """

    __hash__ = None  # type: ignore[assignment]

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    def _values(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        theirs = other._values()  # type: ignore[attr-defined]
        return all(_equal(value, theirs[name]) for name, value in self._values().items())

    def __reduce__(self) -> tuple[Any, ...]:
        values = [dict(value) if isinstance(value, Mapping) else value for value in self._values().values()]
        return type(self), tuple(values)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
    return type(a) is type(b) and bool(a == b)
