"""The metadata a scene can have: names, allowed values, and their check."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gaia2.scene.validation import nearest

__all__ = ["METADATA", "METADATA_MEANINGS", "check_metadata", "value_id"]

METADATA: dict[str, tuple[str, ...] | tuple[int, ...]] = {
    "country": ("uk", "us", "germany"),
    "weather": ("clear", "cloudy", "rain", "fog", "snow"),
    "time_of_day": ("dawn", "day", "dusk", "night"),
    "speed_limit": (20, 30, 50, 60, 80, 100, 120, 130),
    "number_of_lanes": (1, 2, 3, 4, 5, 6),
    "bus_lane": (False, True),
    "cycle_lane": (False, True),
    "pedestrian_crossing": (False, True),
    "traffic_light": ("none", "red", "red_amber", "amber", "green"),
    "one_way": (False, True),
    "intersection": ("none", "t_junction", "crossroads", "roundabout", "merge"),
}
"""Metadata names and their allowed values. id = index, absent = -1.

`speed_limit` is in km/h; `number_of_lanes` counts both directions together.
"""

METADATA_MEANINGS = {
    "country": "Country.",
    "weather": "Weather.",
    "time_of_day": "Time of day.",
    "speed_limit": "Speed limit in km/h.",
    "number_of_lanes": "Lanes of both directions together.",
    "bus_lane": "Whether there is a bus lane.",
    "cycle_lane": "Whether there is a cycle lane.",
    "pedestrian_crossing": "Whether there is a pedestrian crossing.",
    "traffic_light": "State of the traffic light.",
    "one_way": "Whether the road is one-way.",
    "intersection": "Kind of intersection.",
}
"""What each metadata name means, in words."""

OWN_PREFIX = "x_"
"""Beginning of metadata names of a user's own, which a world model with them in its config's vocabulary takes."""


def is_metadata_name(name: str) -> bool:
    """Whether a scene can have metadata of this name: one of `METADATA`, or one of the user's own.

    Example:
        >>> is_metadata_name("weather"), is_metadata_name("x_road_surface"), is_metadata_name("road_surface")
        (True, True, False)
    """
    return isinstance(name, str) and (name in METADATA or name.startswith(OWN_PREFIX))


def check_metadata(entries: Mapping[str, Any]) -> dict[str, str | int | bool]:
    """Check metadata against `METADATA`; the values of names of the user's own are for the model's vocabulary to check.

    Args:
        entries: Name to value; None: absent.

    Returns:
        The entries that are not absent, in the order of `METADATA`, with values as they stand there, then those of the
        user's own.

    Raises:
        ValueError: A name or a value is unknown; the message has the nearest valid one and all valid ones.

    Example:
        >>> check_metadata({"weather": "fog", "country": "uk", "one_way": None})
        {'country': 'uk', 'weather': 'fog'}
    """
    if not isinstance(entries, Mapping):
        raise ValueError(f"metadata: expected names and values as a dict, got {type(entries).__name__}")
    for name in entries:
        if not is_metadata_name(name):
            raise ValueError(
                f"metadata: unknown name {name!r}; did you mean {nearest(name, METADATA)!r}? "
                f"Expected one of: {', '.join(METADATA)}; or a name of your own, which begins with {OWN_PREFIX}"
            )
    own = [name for name in entries if name not in METADATA]
    return {name: _check_value(name, entries[name]) for name in [*METADATA, *own] if entries.get(name) is not None}


def _check_value(name: str, value: object) -> str | int | bool:
    plain = value.item() if isinstance(value, np.generic) else value
    if name in METADATA:
        return METADATA[name][value_id(name, plain, METADATA[name])]
    if isinstance(plain, (str, int)):
        return plain
    raise ValueError(f"metadata: {name}: expected a string, a whole number or a bool, got {plain!r}")


def value_id(name: str, value: object, values: int | Sequence[Any]) -> int:
    """The id of a metadata value: its place among the values there are. True is not 1.

    Args:
        name: Of the metadata, for the message.
        value: The value.
        values: All that there are, or how many; where they are only counted, a value is its id.

    Raises:
        ValueError: It is none of them; the message has the nearest one and all of them.

    Example:
        >>> value_id("weather", "rain", ("clear", "rain")), value_id("district", 3, 12)
        (1, 3)
    """
    options = range(values) if isinstance(values, int) else values
    for index, option in enumerate(options):
        if isinstance(value, str | int) and isinstance(value, bool) == isinstance(option, bool) and value == option:
            return index
    listed = f"0 to {values - 1}" if isinstance(values, int) else f"one of: {', '.join(map(repr, values))}"
    raise ValueError(
        f"metadata: {name}: unknown value {value!r}; did you mean {nearest(value, options)!r}? Expected {listed}"
    )
