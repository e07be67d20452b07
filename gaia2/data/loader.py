"""Loading: windows of clip shards as batches, split over processes, and resumed exactly where they stopped."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

from gaia2.data.buffers import PixelBuffers
from gaia2.data.clip import Clip
from gaia2.data.index import ClipEntry, Index
from gaia2.data.latent_clip import LatentClip
from gaia2.data.sampler import Draw, WindowSampler
from gaia2.data.shards import ShardReader
from gaia2.data.source import Source
from gaia2.data.urls import fetch, join
from gaia2.scene import Scene

__all__ = ["ClipBatch", "ClipLoader", "ShardDataset", "collate_clips"]

_OPEN_SHARDS = 32


@dataclass
class ClipBatch:
    """Some clips of one shape.

    Attributes:
        frames: uint8 `(b, tv, n, 3, hv, wv)`, the colours last in memory; or None for latents.
        latents: Name to tensor `(b, t, ...)`; empty for pixels.
        scenes: What they show.
        sources: Where they come from.
    """

    frames: torch.Tensor | None
    latents: dict[str, torch.Tensor]
    scenes: list[Scene]
    sources: list[Source]

    def __len__(self) -> int:
        return len(self.scenes)

    def pin_memory(self) -> ClipBatch:
        """The same with tensors in pinned memory; a data loader calls it."""
        frames = None if self.frames is None else self.frames.pin_memory()
        return ClipBatch(frames, {k: v.pin_memory() for k, v in self.latents.items()}, self.scenes, self.sources)


def collate_clips(clips: ClipBatch | Sequence[Clip | LatentClip]) -> ClipBatch:
    """Put clips of one shape together; a batch stays what it is.

    Raises:
        ValueError: They differ in shape.
    """
    if isinstance(clips, ClipBatch):
        return clips
    scenes, sources = [clip.scene for clip in clips], [clip.source for clip in clips]
    try:
        latents = [clip.latents for clip in clips if isinstance(clip, LatentClip)]
        if latents:
            stacked = {name: default_collate([row[name] for row in latents]) for name in latents[0]}
            return ClipBatch(None, stacked, scenes, sources)
        frames = default_collate([torch.as_tensor(clip.frames) for clip in clips if isinstance(clip, Clip)])
        return ClipBatch(frames, {}, scenes, sources)
    except (RuntimeError, KeyError) as error:
        raise ValueError(f"batch: expected clips of one shape, got others ({error}); cut them to one size") from error


class ShardDataset(Dataset):
    """The clips of folders of shards, read by `Draw`: of each only the frames, cameras and pixels that are asked for.

    Remote shards are fetched whole, once a machine, and kept in `cache_dir`.

    Args:
        folders: A folder of shards or a URL, or several.
        cameras: Names of the cameras to give, "one" for a random one of each clip (paper §4.1), None for all.
        crop: (height, width) in pixels of a random part of the pictures, the same for all cameras of a sample; rig and
            boxes stay true to it. None: whole pictures.
        cache_dir: Folder for fetched shards.
        cache_bytes: How many bytes may lie there.

    Raises:
        FileNotFoundError: A folder has no shards.
        ValueError: Two folders have a clip of the same key.

    Example:
        >>> import tempfile
        >>> from gaia2.data.shards import ShardWriter
        >>> from gaia2.data.windows import cut_windows
        >>> folder = tempfile.mkdtemp()
        >>> scene = Scene.create("front", num_frames=16)
        >>> scene = scene.replace(rig=scene.rig.fit(image_size=(32, 64)))
        >>> with ShardWriter(f"{folder}/a.tar") as shard:
        ...     _ = shard.write(Clip(scene, np.zeros((16, 1, 3, 32, 64), np.uint8)))
        >>> data = ShardDataset(folder, crop=(16, 32))
        >>> loader = ClipLoader(data, WindowSampler(cut_windows(data.clips, 8), batch_size=2))
        >>> next(iter(loader)).frames.shape
        torch.Size([2, 8, 1, 3, 16, 32])
    """

    def __init__(
        self,
        folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        cameras: Sequence[str] | Literal["one"] | None = None,
        crop: tuple[int, int] | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        cache_bytes: float | None = None,
    ) -> None:
        listed = [folders] if isinstance(folders, (str, os.PathLike)) else list(folders)
        self.indices = [Index.load(folder) for folder in listed]
        self.clips: tuple[ClipEntry, ...] = tuple(clip for index in self.indices for clip in index.clips)
        self._folder = [folder for folder, index in zip(listed, self.indices, strict=True) for _ in index.clips]
        self._rows = {clip.key: row for row, clip in enumerate(self.clips)}
        if len(self._rows) < len(self.clips):
            twice = next(clip for row, clip in enumerate(self.clips) if self._rows[clip.key] != row)
            raise ValueError(
                f"folders: expected clips of different keys, got {twice.key} more than once, in "
                f"{[str(folder) for folder in listed]}; they hold the same drives, train on one of them"
            )
        self._bytes = {
            join(folder, shard.name): shard.bytes
            for folder, index in zip(listed, self.indices, strict=True)
            for shard in index.shards
        }
        self.cameras, self.crop = cameras, crop
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self.cache_bytes = cache_bytes
        self._open: OrderedDict[str, ShardReader] = OrderedDict()
        self._buffers = PixelBuffers()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, draw: Draw) -> Clip | LatentClip:
        """Read one window.

        Raises:
            ValueError: The shard is damaged; the message names it and the sample.
        """
        pixels = self._memory([draw])
        return self._read(draw, None if pixels is None else pixels[0])

    def __getitems__(self, draws: Sequence[Draw]) -> ClipBatch:
        """Read windows of one shape straight into the memory of a batch.

        Raises:
            ValueError: A shard is damaged, or the windows differ in shape.
        """
        pixels = self._memory(draws)
        if pixels is None:
            return collate_clips([self._read(draw, None) for draw in draws])
        clips = [self._read(draw, out) for draw, out in zip(draws, pixels, strict=True)]
        frames = torch.from_numpy(pixels).permute(0, 2, 1, 5, 3, 4)
        return ClipBatch(frames, {}, [clip.scene for clip in clips], [clip.source for clip in clips])

    def _memory(self, draws: Sequence[Draw]) -> np.ndarray | None:
        """Where the pixels of windows of one shape go, `(b, n, tv, hv, wv, 3)`; None for latents."""
        first = self.clips[self._row(draws[0].key)]
        if first.contents == "latents":
            return None
        number = 1 if self.cameras == "one" else len(self.cameras or first.cameras)
        return self._buffers.take((len(draws), number, len(draws[0].frames), *(self.crop or first.image_size), 3))

    def _read(self, draw: Draw, out: np.ndarray | None) -> Clip | LatentClip:
        key, frames, seed = draw
        index = self._row(key)
        entry = self.clips[index]
        rng = np.random.default_rng(seed)
        cameras = self.cameras
        if cameras == "one":
            cameras = [entry.cameras[int(rng.integers(len(entry.cameras)))]]
        crop = None
        if self.crop is not None and entry.contents != "latents":
            room = np.array(entry.image_size) - self.crop
            if (room < 0).any():
                raise ValueError(
                    f"{entry.key}: expected pictures of at least {self.crop} to cut, got {entry.image_size}"
                )
            top, left = (int(rng.integers(size + 1)) for size in room)
            crop = (top, left, *self.crop)
        return self._reader(index).read(entry.key, frames=frames, cameras=cameras, crop=crop, out=out)

    def _row(self, key: str) -> int:
        if key not in self._rows:
            raise ValueError(
                f"draw: expected the key of one of the {len(self.clips)} clips, got {key!r}; cut other windows"
            )
        return self._rows[key]

    def _reader(self, index: int) -> ShardReader:
        path = join(self._folder[index], self.clips[index].shard)
        if path not in self._open:
            self._open[path] = ShardReader(fetch(path, self.cache_dir, size=self._bytes[path], limit=self.cache_bytes))
            if len(self._open) > _OPEN_SHARDS:
                self._open.popitem(last=False)
        self._open.move_to_end(path)
        return self._open[path]

    def __getstate__(self) -> dict[str, Any]:
        # a process opens its own files and has its own memory
        return {**self.__dict__, "_open": OrderedDict(), "_buffers": PixelBuffers()}


class ClipLoader(StatefulDataLoader):
    """torchdata's `StatefulDataLoader` of a `ShardDataset`, whose state does not depend on the number of workers.

    `state_dict` says how many batches of which epoch were given; loaded into a loader of the same windows, seed, batch
    size and ranks, with any number of workers, exactly the rest of the epoch follows. Call `set_epoch` before each.

    Args:
        dataset: The clips.
        sampler: Their order.
        num_workers: Processes that read and decode; 0: this one.
        **options: Of `StatefulDataLoader`, such as `pin_memory`, `prefetch_factor`, `persistent_workers`.

    Example:
        >>> loader.load_state_dict(checkpoint["loader"])  # doctest: +SKIP
        >>> for epoch in range(loader.epoch, epochs):  # doctest: +SKIP
        ...     loader.set_epoch(epoch)
        ...     for batch in loader: ...
    """

    def __init__(self, dataset: Dataset, sampler: WindowSampler, *, num_workers: int = 0, **options: Any) -> None:
        options = {"collate_fn": collate_clips, **options}
        super().__init__(dataset, batch_sampler=sampler, num_workers=num_workers, **options)
        self._order, self._given = sampler, 0

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self._order.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next; a new one begins with its first batch."""
        if epoch != self._order.epoch:
            self._given = 0
        self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[ClipBatch]:
        first = self._order.first_batch
        self._given = first
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return epoch, batches given, and what they belong to."""
        return {"epoch": self._order.epoch, "batches": self._given, **self._order.identity()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the state was taken.

        Raises:
            ValueError: It belongs to other windows, another seed, batch size or number of ranks.
        """
        own = self._order.identity()
        other = {name: state_dict.get(name) for name in own if state_dict.get(name) != own[name]}
        if other:
            mine = {name: own[name] for name in other}
            raise ValueError(f"state of a loader: expected one of {mine}, got {other}; use the same data and settings")
        self._order.set_epoch(int(state_dict["epoch"]))
        self._order.first_batch = self._given = int(state_dict["batches"])
