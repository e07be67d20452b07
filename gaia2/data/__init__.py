"""Clips of driving: procedural worlds, genuine datasets, and the shards that trainings read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.data.argoverse2 import load_argoverse2 as load_argoverse2
    from gaia2.data.balancing import balance as balance
    from gaia2.data.box_table import BoxTable as BoxTable
    from gaia2.data.box_table import category_ids as category_ids
    from gaia2.data.build import BuildOptions as BuildOptions
    from gaia2.data.build import build_shards as build_shards
    from gaia2.data.clip import Clip as Clip
    from gaia2.data.clip_folder import ClipFolder as ClipFolder
    from gaia2.data.clip_folder import write_chunk as write_chunk
    from gaia2.data.comma2k19 import load_comma2k19 as load_comma2k19
    from gaia2.data.cropping import crop_clip as crop_clip
    from gaia2.data.cropping import crop_rig as crop_rig
    from gaia2.data.datasets import Dataset as Dataset
    from gaia2.data.datasets import read_clips as read_clips
    from gaia2.data.ego import EgoPoses as EgoPoses
    from gaia2.data.frame_readers import ImageFiles as ImageFiles
    from gaia2.data.frame_readers import VideoFile as VideoFile
    from gaia2.data.index import ClipEntry as ClipEntry
    from gaia2.data.index import Index as Index
    from gaia2.data.latent_clip import LatentClip as LatentClip
    from gaia2.data.loader import ClipBatch as ClipBatch
    from gaia2.data.loader import ClipLoader as ClipLoader
    from gaia2.data.loader import ShardDataset as ShardDataset
    from gaia2.data.nuscenes import load_nuscenes as load_nuscenes
    from gaia2.data.procedural import ProceduralWorld as ProceduralWorld
    from gaia2.data.recording import Camera as Camera
    from gaia2.data.recording import Recording as Recording
    from gaia2.data.sampler import WindowSampler as WindowSampler
    from gaia2.data.shards import ShardReader as ShardReader
    from gaia2.data.shards import ShardWriter as ShardWriter
    from gaia2.data.source import Source as Source
    from gaia2.data.verify import verify_shards as verify_shards
    from gaia2.data.waymo import load_waymo as load_waymo
    from gaia2.data.windows import Windows as Windows
    from gaia2.data.windows import cut_windows as cut_windows
    from gaia2.data.windows import split_by_regions as split_by_regions

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "BoxTable": "gaia2.data.box_table",
        "BuildOptions": "gaia2.data.build",
        "Camera": "gaia2.data.recording",
        "Clip": "gaia2.data.clip",
        "ClipBatch": "gaia2.data.loader",
        "ClipEntry": "gaia2.data.index",
        "ClipFolder": "gaia2.data.clip_folder",
        "ClipLoader": "gaia2.data.loader",
        "Dataset": "gaia2.data.datasets",
        "EgoPoses": "gaia2.data.ego",
        "ImageFiles": "gaia2.data.frame_readers",
        "Index": "gaia2.data.index",
        "LatentClip": "gaia2.data.latent_clip",
        "ProceduralWorld": "gaia2.data.procedural",
        "Recording": "gaia2.data.recording",
        "ShardDataset": "gaia2.data.loader",
        "ShardReader": "gaia2.data.shards",
        "ShardWriter": "gaia2.data.shards",
        "Source": "gaia2.data.source",
        "VideoFile": "gaia2.data.frame_readers",
        "WindowSampler": "gaia2.data.sampler",
        "Windows": "gaia2.data.windows",
        "balance": "gaia2.data.balancing",
        "build_shards": "gaia2.data.build",
        "category_ids": "gaia2.data.box_table",
        "crop_clip": "gaia2.data.cropping",
        "crop_rig": "gaia2.data.cropping",
        "cut_windows": "gaia2.data.windows",
        "load_argoverse2": "gaia2.data.argoverse2",
        "load_comma2k19": "gaia2.data.comma2k19",
        "load_nuscenes": "gaia2.data.nuscenes",
        "load_waymo": "gaia2.data.waymo",
        "read_clips": "gaia2.data.datasets",
        "split_by_regions": "gaia2.data.windows",
        "verify_shards": "gaia2.data.verify",
        "write_chunk": "gaia2.data.clip_folder",
    },
)
