"""Clips of driving: procedural worlds, genuine datasets, and the shards that trainings read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.data.argoverse2 import load_argoverse2 as load_argoverse2
    from gaia2.data.clip import Clip as Clip
    from gaia2.data.clip_folder import ClipFolder as ClipFolder
    from gaia2.data.clip_folder import write_chunk as write_chunk
    from gaia2.data.comma2k19 import load_comma2k19 as load_comma2k19
    from gaia2.data.cropping import crop_clip as crop_clip
    from gaia2.data.cropping import crop_rig as crop_rig
    from gaia2.data.index import ClipEntry as ClipEntry
    from gaia2.data.index import Index as Index
    from gaia2.data.latent_clip import LatentClip as LatentClip
    from gaia2.data.procedural import ProceduralWorld as ProceduralWorld
    from gaia2.data.shards import ShardReader as ShardReader
    from gaia2.data.shards import ShardWriter as ShardWriter
    from gaia2.data.source import Source as Source

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Clip": "gaia2.data.clip",
        "ClipEntry": "gaia2.data.index",
        "ClipFolder": "gaia2.data.clip_folder",
        "Index": "gaia2.data.index",
        "LatentClip": "gaia2.data.latent_clip",
        "ProceduralWorld": "gaia2.data.procedural",
        "ShardReader": "gaia2.data.shards",
        "ShardWriter": "gaia2.data.shards",
        "Source": "gaia2.data.source",
        "crop_clip": "gaia2.data.cropping",
        "crop_rig": "gaia2.data.cropping",
        "load_argoverse2": "gaia2.data.argoverse2",
        "load_comma2k19": "gaia2.data.comma2k19",
        "write_chunk": "gaia2.data.clip_folder",
    },
)
