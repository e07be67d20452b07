"""Calls of the library with good arguments, and of which kind each argument is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gaia2._checks import shown
from tests.edges.bad_values import Kind
from tests.edges.clear import Case


@dataclass(frozen=True)
class Target:
    """A call of the library.

    Attributes:
        name: As people write it.
        function: Is called with the good arguments, one of them replaced by a bad one.
        good: Makes the good arguments by name.
        kinds: Of the arguments that are made bad.
        names: Other words for an argument that a message may use.
    """

    name: str
    function: Callable[..., Any]
    good: Callable[[], dict[str, Any]]
    kinds: dict[str, Kind]
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def case(self, rng: random.Random) -> Case:
        """The call with one bad argument."""
        argument = rng.choice(sorted(self.kinds))
        arguments = self.good()
        bad = self.kinds[argument](rng, arguments.get(argument))
        return Case(
            title=f"{self.name}({argument}={shown(bad)})",
            call=lambda: self.function(**{**arguments, argument: bad}),
            names=(argument, *self.names.get(argument, ())),
        )
