"""`Source`: where a clip comes from."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gaia2.scene.validation import check_keys

__all__ = ["SOURCE_VERSION", "Source"]

SOURCE_VERSION = 1
"""Version of the JSON layout that `Source.to_json` writes and `Source.from_json` reads."""


@dataclass(frozen=True)
class Source:
    """Where and when a clip was recorded.

    Args:
        dataset: Name of the dataset.
        log: The drive within it.
        time: Seconds of the dataset's clock (since 1970 with most) at the scene's time 0; None: unknown.
        positions: Latitude and longitude in degrees along the clip, at least its first and last place; empty: unknown.
        notes: What else is worth keeping, such as the location's name or what the reader had to mend.

    Raises:
        ValueError: A position is not a latitude from -90 to 90 and a longitude from -180 to 180, or a note is not a
            string, number or bool.

    Example:
        >>> source = Source("nuscenes", "scene-0103", time=1533151603.5, positions=[(42.34, -71.05)])
        >>> str(source), Source.from_json(source.to_json()) == source
        ('nuscenes/scene-0103', True)
    """

    dataset: str = ""
    log: str = ""
    time: float | None = None
    positions: Sequence[tuple[float, float]] = ()
    notes: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("dataset", "log"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"source: {name}: expected a string, got {getattr(self, name)!r}")
        if self.time is not None and not math.isfinite(self.time):
            raise ValueError(f"source: time: expected seconds or None, got {self.time!r}")
        places = tuple((float(latitude), float(longitude)) for latitude, longitude in self.positions)
        for latitude, longitude in places:
            if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
                raise ValueError(
                    "source: positions: expected latitudes from -90 to 90 and longitudes from -180 to 180 degrees, got "
                    f"{(latitude, longitude)}; are the two in the wrong order?"
                )
        for name, note in self.notes.items():
            if not isinstance(note, (str, int, float, bool)) or (isinstance(note, float) and not math.isfinite(note)):
                raise ValueError(f"source: notes: {name}: expected a string, a finite number or a bool, got {note!r}")
        object.__setattr__(self, "positions", places)
        object.__setattr__(self, "notes", dict(self.notes))
        object.__setattr__(self, "time", None if self.time is None else float(self.time))

    def __str__(self) -> str:
        return "/".join(part for part in (self.dataset, self.log) if part)

    def __bool__(self) -> bool:
        return self != Source()

    def replace(self, **changes: Any) -> Source:
        """Return a source with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the source as JSON values. `from_dict` gives it back exactly."""
        return {
            "version": SOURCE_VERSION,
            "dataset": self.dataset,
            "log": self.log,
            "time": self.time,
            "positions": [list(place) for place in self.positions],
            "notes": dict(self.notes),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Source:
        """Return the source that `to_dict` wrote; all but `version` may be left out.

        Raises:
            ValueError: Another version, an unknown key, or a value that is not valid.
        """
        values = check_keys("source", data, ("version",), ("dataset", "log", "time", "positions", "notes"))
        version = values.pop("version")
        if version != SOURCE_VERSION:
            raise ValueError(f"source: expected version {SOURCE_VERSION}, got {version!r}")
        return cls(**values)

    def to_json(self) -> str:
        """Return the source as strict JSON text. `from_json` gives it back exactly."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Source:
        """Return the source of JSON text that `to_json` wrote.

        Raises:
            ValueError: Not JSON, or as for `from_dict`.
        """
        try:
            data = json.loads(text)
        except ValueError as error:
            raise ValueError(f"source: expected JSON, got text that is not ({error})") from error
        return cls.from_dict(data)
