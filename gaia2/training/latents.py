"""Latents on disk as the world model reads them: any clip at any time, whatever the number of clips.

Axes: b batch, t latent time, n cameras, h w latent grid, c channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.data.index import ClipEntry, Index
from gaia2.data.latent_clip import LatentClip
from gaia2.data.shards import ShardReader
from gaia2.scene import Scene

OPEN_SHARDS = 64


class LatentSample(NamedTuple):
    """A window of a clip.

    Attributes:
        mean: Mean of the normalised latents, `(t, n, h, w, c)`.
        std: Standard deviation, likewise.
        conditioning: The world model's conditions by name, `(1, ...)`; what is absent is NaN or -1.
    """

    mean: torch.Tensor
    std: torch.Tensor
    conditioning: dict[str, torch.Tensor]


class LatentShards:
    """Reads windows of latents from shards that `encode_clips_to_shards` has written.

    The same keys of conditioning are there in every sample, so that batches, and ranks, are alike.

    Args:
        folder: The shards.
        index: Their index, or a part of it; read from the folder by default.
        window: Latent times of a sample; None is all that the shortest clip has.
        conditions: The conditions of a world model, `model.conditions`; those of the paper by default.
        cache_bytes: Keep so much in memory of what was read.

    Raises:
        ValueError: If there are no latents, or a clip is shorter than the window.
    """

    def __init__(
        self,
        folder: str | Path,
        index: Index | None = None,
        *,
        window: int | None = None,
        conditions: ConditionTable | None = None,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.folder = Path(folder)
        index = Index.load(folder) if index is None else index
        self.entries = self._choose(index)
        lengths = [self._length(entry) for entry in self.entries]
        self.window = min(lengths) if window is None else window
        if min(lengths) < self.window:
            short = self.entries[lengths.index(min(lengths))]
            raise ValueError(
                f"{folder}: expected clips of at least {self.window} latents, the window of the model, got "
                f"{min(lengths)} in {short.key}; encode longer clips"
            )
        self.places = [length - self.window + 1 for length in lengths]
        self.conditions = standard_conditions() if conditions is None else conditions
        self.room = cache_bytes
        self._cache: dict[tuple[int, int], LatentSample] = {}
        self._readers: dict[str, ShardReader] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def ahead(self, places: Sequence[tuple[int, int]]) -> None:
        """Say which windows will be asked for next; here they are quick to read."""

    def alike(self, first: int = 0, end: int | None = None) -> list[list[int]]:
        """Clips from `first` to `end`, in groups whose samples have the same axes."""
        groups: dict[object, list[int]] = {}
        for row in range(first, len(self) if end is None else end):
            entry = self.entries[row]
            groups.setdefault((len(entry.cameras), entry.image_size), []).append(row)
        return list(groups.values())

    def scene(self, row: int) -> Scene:
        """The scene of a clip's first window."""
        return self._clip(row, 0).scene

    def read(self, row: int, start: int = 0) -> LatentSample:
        """The window of clip `row` from latent `start` on."""
        if (row, start) in self._cache:
            return self._cache[row, start]
        clip = self._clip(row, start)
        conditioning = scene_conditioning(
            clip.scene, frames_per_latent=clip.frames_per_latent, conditions=self.conditions
        )
        self._fill(conditioning)
        sample = LatentSample(clip.latents["mean"], clip.latents["std"], conditioning)
        size = sum(tensor.nbytes for tensor in (sample.mean, sample.std, *conditioning.values()))
        if size <= self.room:
            self.room -= size
            self._cache[row, start] = sample
        return sample

    def batch(self, places: Sequence[tuple[int, int]]) -> LatentSample:
        """Windows `(row, start)` as a batch: mean, std and conditions with b in front."""
        samples = [self.read(row, start) for row, start in places]
        conditioning = {
            key: torch.cat([sample.conditioning[key] for sample in samples]) for key in samples[0].conditioning
        }
        mean, std = (torch.stack([getattr(sample, name) for sample in samples]) for name in ("mean", "std"))
        return LatentSample(mean, std, conditioning)

    def mean_latents(self, first: int, count: int = 256) -> torch.Tensor:
        """Mean `(1, t, 1, h, w, c)` over cameras and clips, at most `count` of them, evenly spread from `first` on."""
        rows = range(first, len(self), max(1, (len(self) - first) // count))
        total = sum(self.read(row).mean.double().mean(dim=1, keepdim=True) for row in rows[:count])
        assert isinstance(total, torch.Tensor)
        return (total / len(rows[:count])).float()[None]

    def _choose(self, index: Index) -> list[ClipEntry]:
        """The clips of an index that can be read."""
        entries = [entry for entry in index.clips if entry.contents == "latents"]
        if not entries:
            raise ValueError(
                f"{self.folder}: expected shards of latents, got {len(index.clips)} clips without; encode them with "
                "recipes/encode_latents.py"
            )
        return entries

    def _length(self, entry: ClipEntry) -> int:
        """Latent times of a clip."""
        return entry.num_frames // entry.frames_per_latent

    def _clip(self, row: int, start: int) -> LatentClip:
        entry = self.entries[row]
        frames = range(start * entry.frames_per_latent, (start + self.window) * entry.frames_per_latent)
        clip = self._reader(entry.shard).read(entry.key, frames=frames)
        assert isinstance(clip, LatentClip)
        return clip

    def _fill(self, conditioning: Conditioning) -> None:
        """Add, as absent, what can be absent and is not there."""
        sizes = dict(zip("btn", conditioning["timestamps"].shape, strict=True))
        for key, spec in self.conditions.keys.items():
            shape = spec.shape(sizes)
            if key not in conditioning and spec.droppable and shape is not None:
                like = torch.zeros(shape, dtype=torch.int64 if spec.integer else torch.float32)
                conditioning[key] = self.conditions.owner[key].absent_like(key, like)

    def _reader(self, shard: str) -> ShardReader:
        """An open shard; the one that was opened first is closed where there are many."""
        if shard not in self._readers:
            if len(self._readers) == OPEN_SHARDS:
                del self._readers[next(iter(self._readers))]
            self._readers[shard] = ShardReader(self.folder / shard)
        return self._readers[shard]

    def __getstate__(self) -> dict[str, Any]:
        """For processes that load data: open files and what is in memory stay where they are."""
        return {**self.__dict__, "_readers": {}, "_cache": {}}
