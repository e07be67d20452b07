"""Windows of clips that are encoded when a step asks for them, so that no latents lie on disk."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

import torch

from gaia2.conditioning.table import ConditionTable
from gaia2.data.clip import Clip
from gaia2.data.index import ClipEntry, Index
from gaia2.data.latent_clip import LatentClip
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.training.encoding import encode_clip
from gaia2.training.latents import LatentShards
from gaia2.training.precision import Precision, autocast


class EncodedClips(LatentShards):
    """As `LatentShards`, of clip shards with frames: the latents are those that shards of latents would have.

    Each window costs a pass of the encoder when it is drawn, unless it is still in memory. The frames of the windows
    that come next are decoded in threads meanwhile.

    Args:
        folder: Clip shards.
        tokenizer: The trained tokenizer, with its latents' statistics.
        index: Their index, or a part of it; read from the folder by default.
        window: Latent times of a sample; None is all that the shortest clip has.
        conditions: The conditions of a world model, `model.conditions`; those of the paper by default.
        precision: Of the tokenizer's products.
        threads: Decode so many clips at once.
        cache_bytes: Keep so much in memory of what was encoded.

    Raises:
        ValueError: If there are no clips with frames, or a clip is shorter than the window.
    """

    def __init__(
        self,
        folder: str | Path,
        tokenizer: VideoTokenizer,
        index: Index | None = None,
        *,
        window: int | None = None,
        conditions: ConditionTable | None = None,
        precision: Precision = "fp32",
        threads: int = 1,
        cache_bytes: int = 1 << 30,
    ) -> None:
        self.tokenizer, self.precision = tokenizer, precision
        self._pool = ThreadPoolExecutor(max(1, threads))
        self._coming: dict[tuple[int, int], Future[Clip]] = {}
        self._lock = Lock()
        super().__init__(folder, index, window=window, conditions=conditions, cache_bytes=cache_bytes)

    def ahead(self, places: Sequence[tuple[int, int]]) -> None:
        """Begin to decode windows that will be asked for next."""
        self._coming = {
            place: self._coming.get(place) or self._pool.submit(self._frames, *place)
            for place in places
            if place not in self._cache
        }

    def _choose(self, index: Index) -> list[ClipEntry]:
        entries = [entry for entry in index.clips if entry.contents != "latents"]
        if not entries:
            raise ValueError(f"{self.folder}: expected clip shards with frames, got latents; give them as --latents")
        return entries

    def _length(self, entry: ClipEntry) -> int:
        return entry.num_frames // self.tokenizer.frames_per_latent

    def _frames(self, row: int, start: int) -> Clip:
        entry, stride = self.entries[row], self.tokenizer.frames_per_latent
        with self._lock:
            reader = self._reader(entry.shard)
        clip = reader.read(entry.key, frames=range(start * stride, (start + self.window) * stride))
        assert isinstance(clip, Clip)
        return clip

    @torch.no_grad()
    def _clip(self, row: int, start: int) -> LatentClip:
        coming = self._coming.pop((row, start), None)
        clip = self._frames(row, start) if coming is None else coming.result()
        with autocast(self.precision, self.tokenizer.device):
            mean, std = encode_clip(clip, self.tokenizer)
        return LatentClip(clip.scene, {"mean": mean.bfloat16(), "std": std.bfloat16()}, clip.source)

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("EncodedClips: expected to stay in one process, whose device encodes; read with workers=0")
