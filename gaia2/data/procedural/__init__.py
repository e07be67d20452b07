"""A ray-cast driving world in batched torch: scenes from seeds, frames from scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia2.data.procedural.world import ProceduralWorld

__all__ = ["ProceduralWorld"]


def __getattr__(name: str) -> Any:
    if name == "ProceduralWorld":
        from gaia2.data.procedural.world import ProceduralWorld

        return ProceduralWorld
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
