"""Clips of driving: procedural worlds and genuine logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.data.argoverse2 import load_argoverse2 as load_argoverse2
    from gaia2.data.clip import Clip as Clip
    from gaia2.data.comma2k19 import load_comma2k19 as load_comma2k19
    from gaia2.data.procedural import ProceduralWorld as ProceduralWorld

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Clip": "gaia2.data.clip",
        "ProceduralWorld": "gaia2.data.procedural",
        "load_argoverse2": "gaia2.data.argoverse2",
        "load_comma2k19": "gaia2.data.comma2k19",
    },
)
