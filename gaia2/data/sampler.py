"""`WindowSampler`: the order in which windows are trained on, the same whatever reads them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from gaia2.data.windows import Windows

__all__ = ["Draw", "WindowSampler"]


class Draw(NamedTuple):
    """One sample to read.

    Args:
        key: Of the clip.
        frames: Of the clip.
        seed: Of what is random about it, such as the place of a crop.
    """

    key: str
    frames: range
    seed: int


class WindowSampler(Sampler[list[Draw]]):
    """Gives batches of draws, in an order that seed and epoch decide alone.

    Shards are put in a random order; windows of `shuffle_shards` shards at a time are mixed and batched, so that few
    shards are in use at once; the row of batches is cut into one stretch for each rank. A batch holds clips of one
    number of cameras, and of one picture size unless they are cut to one.

    Without probabilities each window is given once an epoch; with them `num_samples` windows are drawn, with
    replacement.

    Args:
        windows: What to draw from.
        batch_size: Windows of a batch.
        seed: Of the order.
        probability: (k,) of each window, as `balance` gives it; None: each once.
        num_samples: Draws of an epoch over all ranks; None: as many as there are windows.
        rank: Of this process.
        world_size: Number of processes.
        shuffle: Whether to mix; else the order of the windows is kept.
        shuffle_shards: Shards to mix at a time.
        drop_last: Leave out batches that are not full, and those that not all ranks would have.
        same_size: Whether clips of a batch must be of one picture size.
        same_cameras: Whether they must have one number of cameras.

    Raises:
        ValueError: A probability for another number of windows, or a rank out of range.

    Example:
        >>> from gaia2.data.index import ClipEntry
        >>> from gaia2.data.windows import cut_windows
        >>> clips = [ClipEntry(f"a-{i}", "a.tar", "mp4", 8, ("front",), (8, 8), 0.7) for i in range(5)]
        >>> sampler = WindowSampler(cut_windows(clips, 8), 2, drop_last=False)
        >>> sorted(draw.key for batch in sampler for draw in batch), len(sampler)
        (['a-0', 'a-1', 'a-2', 'a-3', 'a-4'], 3)
    """

    def __init__(
        self,
        windows: Windows,
        batch_size: int,
        *,
        seed: int = 0,
        probability: np.ndarray | None = None,
        num_samples: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        shuffle: bool = True,
        shuffle_shards: int = 16,
        drop_last: bool = True,
        same_size: bool = True,
        same_cameras: bool = True,
    ) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank: expected 0 to {world_size - 1}, got {rank}")
        if batch_size < 1 or shuffle_shards < 1:
            raise ValueError(
                f"expected a batch_size and shuffle_shards of at least 1, got {batch_size}, {shuffle_shards}"
            )
        if probability is not None and (
            probability.shape != windows.clip.shape or not np.isclose(probability.sum(), 1) or probability.min() < 0
        ):
            raise ValueError(
                f"probability: expected one for each of {len(windows)} windows, summing to 1, got {probability.shape}; "
                "balance(..., clip=windows.clip) gives it"
            )
        self.windows, self.batch_size, self.seed = windows, batch_size, seed
        self.probability, self.num_samples = probability, num_samples or len(windows)
        self.rank, self.world_size = rank, world_size
        self.shuffle, self.shuffle_shards, self.drop_last = shuffle, shuffle_shards, drop_last
        self.epoch, self.first_batch = 0, 0
        self._bucket = _buckets(windows, same_size, same_cameras)
        shards = {name: number for number, name in enumerate(dict.fromkeys(clip.shard for clip in windows.clips))}
        self._shard = np.array([shards[clip.shard] for clip in windows.clips])[windows.clip]
        self._planned: tuple[int, list[np.ndarray], np.ndarray] | None = None

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; another one than the present begins with its first batch."""
        if epoch != self.epoch:
            self.epoch, self.first_batch = epoch, 0

    def identity(self) -> dict[str, Any]:
        """What a position in the order belongs to."""
        rows = np.stack([self.windows.clip, self.windows.start], axis=1).astype("<i8")
        keys = "\n".join(clip.key for clip in self.windows.clips).encode()
        drawn = b"" if self.probability is None else self.probability.astype("<f8").tobytes()
        order = repr((self.num_samples, self.shuffle, self.shuffle_shards, self.drop_last)).encode()
        return {
            "seed": self.seed,
            "batch_size": self.batch_size,
            "world_size": self.world_size,
            "windows": hashlib.sha256(keys + rows.tobytes() + drawn + order).hexdigest()[:16],
        }

    def __len__(self) -> int:
        return len(self._plan()[0])

    def __iter__(self) -> Iterator[list[Draw]]:
        batches, seeds = self._plan()
        first, self.first_batch = self.first_batch, 0
        for batch in batches[first:]:
            yield [self._draw_of(int(row), int(seed)) for row, seed in seeds[batch]]

    def _draw_of(self, row: int, seed: int) -> Draw:
        windows = self.windows
        return Draw(windows.clips[windows.clip[row]].key, windows.frames(int(windows.start[row])), seed)

    def _plan(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Batches of this rank as places in the list of draws, and the draws: window and seed."""
        if self._planned is None or self._planned[0] != self.epoch:
            rng = np.random.default_rng([self.seed, self.epoch])
            drawn = self._draw(rng)
            seeds = rng.integers(0, 2**62, len(drawn)) if self.shuffle else np.arange(len(drawn))
            batches = self._batches(drawn, rng)
            parts = self.world_size
            if self.drop_last:
                if len(batches) < parts:
                    raise ValueError(
                        f"batches: expected at least one full batch of {self.batch_size} for each of {parts} ranks, "
                        f"got {len(batches)} from {len(drawn)} windows; take smaller batches or drop_last=False"
                    )
                batches = batches[: len(batches) // parts * parts]
            edges = [len(batches) * part // parts for part in range(parts + 1)]
            own = batches[edges[self.rank] : edges[self.rank + 1]]
            self._planned = (self.epoch, own, np.stack([drawn, seeds], axis=1))
        return self._planned[1], self._planned[2]

    def _draw(self, rng: np.random.Generator) -> np.ndarray:
        if self.probability is not None:
            bounds = np.cumsum(self.probability)
            return np.searchsorted(bounds / bounds[-1], rng.random(self.num_samples), side="right")
        return np.arange(len(self.windows)) if not self.shuffle else rng.permutation(len(self.windows))

    def _batches(self, drawn: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
        shard = self._shard[drawn]
        if self.shuffle:
            shard = rng.permutation(shard.max(initial=0) + 1)[shard]
        places = np.argsort(shard, kind="stable") if self.shuffle else np.arange(len(drawn))
        pool = shard[places] // self.shuffle_shards if self.shuffle else np.zeros(len(drawn), dtype=int)
        left: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(0, dtype=int))
        batches: list[np.ndarray] = []
        for mixed in np.split(places, np.flatnonzero(np.diff(pool)) + 1):
            found = []
            if self.shuffle:
                mixed = rng.permutation(mixed)
            for bucket in np.unique(self._bucket[drawn[mixed]]):
                rows = np.r_[left[bucket], mixed[self._bucket[drawn[mixed]] == bucket]]
                full = len(rows) // self.batch_size * self.batch_size
                found.extend(rows[:full].reshape(-1, self.batch_size))
                left[bucket] = rows[full:]
            batches.extend(found[i] for i in (rng.permutation(len(found)) if self.shuffle else range(len(found))))
        if not self.drop_last:
            batches.extend(rows for rows in left.values() if len(rows))
        return batches


def _buckets(windows: Windows, same_size: bool, same_cameras: bool) -> np.ndarray:
    """A number (k,) for each window, one for those that may stand in one batch."""

    def kind(index: int) -> Hashable:
        clip = windows.clips[index]
        size = clip.image_size if same_size or clip.contents == "latents" else None
        return clip.contents == "latents", size, len(clip.cameras) if same_cameras else None

    kinds = [kind(index) for index in range(len(windows.clips))]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(kinds))}
    return np.array([numbers[key] for key in kinds])[windows.clip]
