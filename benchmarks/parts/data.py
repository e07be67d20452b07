"""Reading clips from shards, against PyAV's bare decoding of the same bytes (more in benchmarks/data.py)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.data import bare, draws_of, mp4_files
from benchmarks.models import rig
from benchmarks.settings import Settings
from benchmarks.timing import Figure, interleaved, ratio
from gaia2.data import Clip, ClipLoader, ShardDataset, ShardWriter, WindowSampler, cut_windows
from gaia2.scene import Scene


def moving_clip(frames: int, cameras: int, size: tuple[int, int]) -> Clip:
    """Smooth noise that moves sideways, which compresses as a drive does."""
    height, width = size
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 16, width // 8, 3), dtype=np.uint8)
    wide = np.repeat(np.repeat(coarse, 16, axis=0), 16, axis=1)
    views = [[wide[:, 2 * t + n : 2 * t + n + width] for n in range(cameras)] for t in range(frames)]
    pixels = np.ascontiguousarray(np.array(views).transpose(0, 1, 4, 2, 3))
    cars = rig(cameras).fit(size)
    return Clip(Scene.create(cars, num_frames=frames), pixels, "benchmark")


def measure(settings: Settings) -> Iterator[Figure]:
    """Batches of the loader, and clips, against the frames that PyAV decodes and drops."""
    frames, size = (16, (64, 128)) if settings.small else (48, (224, 480))
    cameras = 1 if settings.small else 5
    with tempfile.TemporaryDirectory() as folder:
        with ShardWriter(f"{folder}/a.tar", pixels="mp4") as shard:
            shard.write(moving_clip(frames, cameras, size))
        data = ShardDataset(folder)
        loader = ClipLoader(data, WindowSampler(cut_windows(data.clips, frames), batch_size=1))
        videos = mp4_files(Path(folder) / "a.tar")
        works = {
            "bare": lambda: bare(videos, convert=False),
            "RGB arrays by PyAV": lambda: bare(videos, convert=True),
            "clips": lambda: [data[draw] for draw in draws_of(data, frames)],
            "batches of the loader": lambda: list(loader),
        }
        times = interleaved(works, settings.rounds)
    pictures = frames * cameras
    for name in list(works)[1:]:
        details = {"size": size, "pictures": pictures}
        yield Figure("data", name, "of bare decoding", ratio(times[name], times["bare"]), None, details)
