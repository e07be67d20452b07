"""Checks of plain arguments, all in one form: the argument's name, what was expected, what came, what to do."""

from __future__ import annotations

import difflib
import math
import operator
import reprlib
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

_SHORT = reprlib.Repr()
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 4
_SHORT.maxstring = _SHORT.maxother = 60


def shown(value: object) -> str:
    """What came, in a few words: an array or tensor by its shape, everything else by its beginning.

    Example:
        >>> shown([1, 2, 3, 4, 5, 6]), shown("fog"), shown(2.5)
        ('[1, 2, 3, 4, ...]', "'fog'", '2.5')
    """
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and (shape or not isinstance(value, Real)):
        kind = str(getattr(value, "dtype", "")).removeprefix("torch.")
        return f"a {kind} {type(value).__name__} of shape {tuple(shape)}".replace("  ", " ")
    if isinstance(value, type) or callable(value):
        return f"the {type(value).__name__} {getattr(value, '__name__', type(value).__name__)}"
    if isinstance(value, Real) and not isinstance(value, bool | int):
        return f"{float(value):g}" if len(repr(float(value))) > 12 else repr(float(value))
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no numbers of thousands of digits
        return f"a {type(value).__name__} of very many digits"


def refuse(name: str, expected: str, got: object, hint: str = "") -> ValueError:
    """The error that says what was expected and what came; raise it.

    Example:
        >>> raise refuse("steps", "at least 1", -3, "50 is usual")
        Traceback (most recent call last):
        ...
        ValueError: steps: expected at least 1, got -3; 50 is usual
    """
    return ValueError(f"{name}: expected {expected}, got {shown(got)}" + (f"; {hint}" if hint else ""))


def whole_number(name: str, value: Any, low: int | None = 1, high: int | None = None, hint: str = "") -> int:
    """Return `value` as an int.

    Args:
        name: The argument's name.
        value: An int, also one of numpy's; a bool or a float is none.
        low: The smallest allowed; None is any.
        high: The largest allowed; None is any.
        hint: What to do.

    Raises:
        ValueError: If it is no whole number, or out of range.

    Example:
        >>> whole_number("steps", 1.5)
        Traceback (most recent call last):
        ...
        ValueError: steps: expected a whole number of at least 1, got 1.5
    """
    expected = "a whole number" + _range(low, high)
    if isinstance(value, bool) or type(value).__name__ == "bool_" or getattr(value, "shape", ()) != ():
        raise refuse(name, expected, value, hint)
    try:
        number = operator.index(value)
    except (TypeError, RuntimeError):
        raise refuse(name, expected, value, hint) from None
    if (low is not None and number < low) or (high is not None and number > high):
        raise refuse(name, expected, number, hint)
    return number


def real_number(
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    what: str = "a number",
    hint: str = "",
) -> float:
    """Return `value` as a finite float.

    Args:
        name: The argument's name.
        value: An int or a float, also one of numpy's; a bool is none.
        low: The smallest allowed; None is any.
        high: The largest allowed; None is any.
        above: The largest that is too small; None is none.
        below: The smallest that is too large; None is none.
        what: What the number is.
        hint: What to do.

    Raises:
        ValueError: If it is no number, not finite, or out of range.

    Example:
        >>> real_number("frame_rate", float("inf"), above=0, what="frames a second")
        Traceback (most recent call last):
        ...
        ValueError: frame_rate: expected frames a second above 0, got inf
    """
    expected = what + (f" above {above:g}" if above is not None else "")
    if below is None:
        expected += _range(low, high)
    else:
        joined = " and" if above is not None else "" if low is None else f" from {low:g} to"
        expected += f"{joined} below {below:g}"
    if isinstance(value, bool) or not isinstance(value, Real):
        raise refuse(name, expected, value, hint)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    outside = (low is not None and number < low) or (high is not None and number > high)
    outside = outside or (above is not None and number <= above) or (below is not None and number >= below)
    if outside or not math.isfinite(number):
        raise refuse(name, expected, value, hint)
    return number


def missed_axes(shape: Sequence[int], axes: Sequence[str], sizes: Sequence[int | None]) -> str | None:
    """The axes that a shape should have, in words, where it has not; None where it has.

    Args:
        shape: Of an array or a tensor.
        axes: A name for each axis; one that is named by its size, such as "3", speaks for itself.
        sizes: The size of each; None is any.

    Example:
        >>> missed_axes((2, 5), ("b", "t"), (2, None)), missed_axes((2, 5), ("b", "t", "c"), (2, None, 64))
        (None, 'b=2, t, c=64')
    """
    if len(shape) == len(sizes) and all(size in (None, got) for size, got in zip(sizes, shape, strict=True)):
        return None
    named = zip(axes, sizes, strict=True)
    return ", ".join(axis if size is None or axis == str(size) else f"{axis}={size}" for axis, size in named)


def one_of(name: str, value: Any, options: Iterable[str | None]) -> None:
    """Check that `value` is one of the options.

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> one_of("solver", "eular", ["euler", "heun"])
        Traceback (most recent call last):
        ...
        ValueError: solver: expected one of euler, heun, got 'eular'; did you mean 'euler'?
    """
    known = list(options)
    if any(value is option or (isinstance(value, str) and value == option) for option in known):
        return
    near = difflib.get_close_matches(value, [o for o in known if o], n=1) if isinstance(value, str) else []
    raise refuse(name, f"one of {', '.join(map(str, known))}", value, f"did you mean {near[0]!r}?" if near else "")


def true_or_false(name: str, value: Any) -> bool:
    """Return `value` if it is a bool.

    Raises:
        ValueError: If it is none.

    Example:
        >>> true_or_false("reanchor", True)
        True
    """
    if not isinstance(value, bool):
        raise refuse(name, "True or False", value)
    return value


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {_written(low)} to {_written(high)}"
    if low is not None:
        return f" of at least {_written(low)}"
    return f" of at most {_written(high)}" if high is not None else ""


def _written(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:g}"
