"""Clips that a tokenizer is trained on: a folder of plain arrays, or clip shards, read alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from gaia2.data.clip import Clip
from gaia2.data.clip_folder import ClipFolder, finished_chunks
from gaia2.data.index import Index
from gaia2.data.shards import ShardReader

OPEN_SHARDS = 64


class ShardFolder:
    """Reads the cameras of clips in shards by number, as `ClipFolder` does; clips may differ in size.

    Args:
        path: A folder of clip shards.

    Raises:
        FileNotFoundError: If there are none.
        ValueError: If they hold latents.

    Attributes:
        num_frames: Video frames of the shortest clip.
        num_cameras: Cameras that every clip has.
        image_size: Pixels `(hv, wv)` that every clip has.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.entries = Index.load(path).clips
        if any(entry.contents == "latents" for entry in self.entries):
            raise ValueError(f"{path}: expected clips with frames, got latents; give the folder that they were made of")
        self.num_frames = min(entry.num_frames for entry in self.entries)
        self.num_cameras = min(len(entry.cameras) for entry in self.entries)
        self.image_size = tuple(min(sizes) for sizes in zip(*(e.image_size for e in self.entries), strict=True))
        self._readers: dict[str, ShardReader] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def frames(self, index: int, camera: int) -> torch.Tensor:
        """Frames of one camera of a clip, uint8 `(tv, 3, hv, wv)`."""
        entry = self.entries[index]
        if entry.shard not in self._readers:
            if len(self._readers) == OPEN_SHARDS:
                del self._readers[next(iter(self._readers))]
            self._readers[entry.shard] = ShardReader(self.path / entry.shard)
        clip = self._readers[entry.shard].read(entry.key, cameras=[entry.cameras[camera]])
        assert isinstance(clip, Clip)
        return torch.from_numpy(np.array(clip.frames[:, 0]))

    def __getstate__(self) -> dict[str, object]:
        """For processes that load data: each opens the shards itself."""
        return {**self.__dict__, "_readers": {}}


def open_clip_source(path: str | Path) -> ClipFolder | ShardFolder:
    """A folder of clips, or of clip shards.

    Raises:
        FileNotFoundError: If it is neither.
    """
    return ClipFolder(path) if finished_chunks(path) else ShardFolder(path)
