"""`AxisArray`: data of a user's own that a scene carries, an array whose axes have names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2.scene.validation import FrozenRecord, as_floats, as_integers, check_keys, to_json_value

__all__ = ["AxisArray", "check_extra"]

TIME, CAMERA = "tv", "n"
"""Axes that mean something to a scene: its frames, which `Scene.window` cuts, and the cameras of its rig."""


@dataclass(frozen=True, eq=False)
class AxisArray(FrozenRecord):
    """An array with a name for each axis. Frozen, its values read-only.

    Args:
        axes: Names of the axes, as a string such as `"tv k p c"` or a sequence. `tv` are the scene's frames, `n` the
            cameras of its rig; the others are your own.
        values: Numbers of that shape; whole numbers stay whole, others become float64. NaN: absent.

    Raises:
        ValueError: A name is not a word or occurs twice, their number is not that of the axes, or a value is infinite.

    Example:
        >>> lanes = AxisArray("tv k c", [[[2.0, 1.5]], [[2.5, 1.0]]])
        >>> lanes.axes, lanes.take("tv", [1]).values.tolist()
        (('tv', 'k', 'c'), [[[2.5, 1.0]]])
    """

    axes: tuple[str, ...]
    values: np.ndarray

    def __init__(self, axes: str | Sequence[str], values: npt.ArrayLike) -> None:
        if not isinstance(axes, str | Sequence):
            raise ValueError(f"axes: expected their names, such as 'tv k p c', got {axes!r}")
        names = tuple(axes.split()) if isinstance(axes, str) else tuple(axes)
        if len(set(names)) != len(names) or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise ValueError(f"axes: expected different words, such as 'tv k p c', got {axes!r}")
        whole = np.asarray(values).dtype.kind in "iu"
        array = as_integers("values", values) if whole else as_floats("values", values, allow_nan=True)
        if array.ndim != len(names):
            raise ValueError(
                f"values: expected the axes ({', '.join(names)}), got the shape {array.shape}; name each axis"
            )
        self._set(axes=names, values=array)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis}={size}" for axis, size in zip(self.axes, self.values.shape, strict=True))
        return f"AxisArray({sizes})"

    def size(self, axis: str) -> int | None:
        """Size of an axis; None if there is none of that name."""
        return self.values.shape[self.axes.index(axis)] if axis in self.axes else None

    def take(self, axis: str, index: npt.ArrayLike) -> AxisArray:
        """The array at some places of an axis; itself if it has no axis of that name."""
        if axis not in self.axes:
            return self
        return AxisArray(self.axes, self.values.take(np.asarray(index), axis=self.axes.index(axis)))

    def to_dict(self) -> dict[str, Any]:
        """Return the array as JSON values, None for NaN. `from_dict` gives it back exactly."""
        whole = self.values.dtype.kind == "i"
        return {
            "axes": list(self.axes),
            "shape": list(self.values.shape),
            "type": "integer" if whole else "number",
            "values": to_json_value(self.values),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AxisArray:
        """Return the array that `to_dict` wrote; `shape` and `type` may be left out.

        Raises:
            ValueError: A key is missing or unknown, or a value is not valid.

        Example:
            >>> array = AxisArray("tv k", np.zeros((3, 0)))
            >>> AxisArray.from_dict(array.to_dict()) == array
            True
        """
        given = check_keys("extra", data, ("axes", "values"), ("shape", "type"))
        kind = given.get("type")
        if kind not in (None, "integer", "number"):
            raise ValueError(f"extra: type: expected 'integer' or 'number', got {kind!r}")
        values: Any = given["values"]
        if kind is not None:
            values = as_integers("values", values) if kind == "integer" else as_floats("values", values, allow_nan=True)
        if "shape" in given:
            values, shape = np.asarray(values), tuple(given["shape"])
            if values.size == 0 and 0 in shape:  # JSON lists have lost the axes after an empty one
                values = values.reshape(shape)
            if values.shape != shape:
                raise ValueError(f"extra: expected values of the shape {shape}, as the file says, got {values.shape}")
        return cls(given["axes"], values)


def check_extra(extra: Mapping[str, Any], num_frames: int, num_cameras: int) -> dict[str, AxisArray]:
    """Check what a user put into `Scene.extra`.

    Args:
        extra: Name to `AxisArray`, or to its axes and values as a pair; None: absent.
        num_frames: Frames of the scene.
        num_cameras: Cameras of its rig.

    Raises:
        ValueError: A name is not a word, an entry is not an array with axes, or its frames or cameras are not the
            scene's.
    """
    if not isinstance(extra, Mapping):
        raise ValueError(f"extra: expected names and arrays as a dict, got {type(extra).__name__}")
    checked = {}
    for name, value in extra.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"extra: expected names that are words, such as 'lanes', got {name!r}")
        if value is None:
            continue
        if isinstance(value, tuple) and len(value) == 2:
            try:
                value = AxisArray(*value)
            except ValueError as error:
                raise ValueError(f"extra: {name}: {error}") from error
        if not isinstance(value, AxisArray):
            raise ValueError(
                f"extra: {name}: expected an AxisArray, or a pair such as ('tv k c', array), got {type(value).__name__}"
            )
        for axis, size, what in ((TIME, num_frames, "frames"), (CAMERA, num_cameras, "cameras")):
            if value.size(axis) not in (None, size):
                raise ValueError(
                    f"extra: {name}: expected {size} {what} along the axis {axis}, as the scene has, got "
                    f"{value.size(axis)}; give one entry for each"
                )
        checked[name] = value
    return checked
