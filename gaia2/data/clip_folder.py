"""Clips on disk as plain arrays: what the small trainings read.

A folder holds chunks: `clips-00000.npy`, uint8 `(clips, tv, n, 3, hv, wv)`, and `clips-00000.json`, their scenes. The
JSON file is written last, so a chunk with one is whole. `clips-00000.importance.npy`, uint8 `(clips, tm, n, hv, wv)`,
may say how important pixels are, each map for `tv / tm` frames.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from gaia2._files import replacing
from gaia2.data.clip import Clip
from gaia2.scene import Scene


class ClipFolder:
    """Reads clips by index; frames stay on disk until they are asked for.

    Args:
        path: A folder that `write_chunk` has filled.

    Raises:
        FileNotFoundError: If the folder holds no finished chunk.

    Attributes:
        num_frames: Video frames tv of each clip.
        num_cameras: Cameras n of each clip.
        image_size: Pixels `(hv, wv)`.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.chunks = finished_chunks(self.path)
        if not self.chunks:
            raise FileNotFoundError(
                f"{path}: expected a folder of clips, got no finished chunk in it; fill it with write_chunk"
            )
        counts, shapes = zip(*(_count_and_shape(chunk) for chunk in self.chunks), strict=True)
        if len(set(shapes)) > 1:
            raise ValueError(f"{path}: expected clips of one shape (tv, n, 3, hv, wv), got {sorted(set(shapes))}")
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.num_frames, self.num_cameras, _, *image_size = shapes[0]
        self.image_size = tuple(image_size)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def frames(self, index: int, camera: int | None = None) -> torch.Tensor:
        """Frames of one clip, uint8: `(tv, n, 3, hv, wv)`, or `(tv, 3, hv, wv)` of one camera."""
        chunk, row = self._locate(index)
        clip = _open_frames(self.chunks[chunk])[row]
        return torch.from_numpy(np.array(clip if camera is None else clip[:, camera]))

    def importance(self, index: int, camera: int) -> torch.Tensor:
        """How important the pixels of one camera of a clip are, uint8 `(tv, hv, wv)`; 255 is the most.

        Raises:
            ValueError: If the clip's chunk does not say.
        """
        chunk, row = self._locate(index)
        path = _importance_file(self.chunks[chunk])
        if not path.is_file():
            raise ValueError(
                f"{self.path}: expected clips with the importance of their pixels, got none beside "
                f"{self.chunks[chunk].name}; render them with --importance, or leave the option out that asks for it"
            )
        maps = np.load(path, mmap_mode="r", allow_pickle=False)[row, :, camera]
        return torch.from_numpy(np.array(maps)).repeat_interleave(self.num_frames // len(maps), dim=0)

    def scene(self, index: int) -> Scene:
        """The scene of one clip."""
        chunk, row = self._locate(index)
        return Scene.from_dict(_read_scenes(self.chunks[chunk])[row])

    def __getitem__(self, index: int) -> Clip:
        return Clip(scene=self.scene(index), frames=self.frames(index), source=f"{self.path}#{index}")

    def _locate(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"clip {index}: expected 0 to {len(self) - 1}")
        chunk = int(np.searchsorted(self.starts, index, side="right")) - 1
        return chunk, index - int(self.starts[chunk])


def write_chunk(path: str | Path, number: int, clips: Sequence[Clip], *, importance: np.ndarray | None = None) -> None:
    """Write one chunk of clips of equal shape; it counts as finished once its scenes are there.

    Args:
        path: The folder.
        number: Of the chunk.
        clips: Its clips.
        importance: uint8 `(clips, tm, n, hv, wv)`, how important pixels are, each map for `tv / tm` frames; None does
            not say.

    Raises:
        ValueError: If `importance` does not fit the clips.
    """
    stem = Path(path) / f"clips-{number:05d}"
    if importance is not None:
        _check_importance(importance, clips)
        with replacing(_importance_file(stem)) as unfinished, open(unfinished, "wb") as file:
            np.save(file, importance)
    with replacing(stem.with_suffix(".npy")) as unfinished, open(unfinished, "wb") as file:
        np.save(file, np.stack([np.asarray(clip.frames) for clip in clips]))
    with replacing(stem.with_suffix(".json")) as unfinished:
        unfinished.write_text(json.dumps([clip.scene.to_dict() for clip in clips], allow_nan=False))


def finished_chunks(path: str | Path) -> list[Path]:
    """The chunks of a folder that are whole, in order, without file ending."""
    return [scenes.with_suffix("") for scenes in sorted(Path(path).glob("clips-*.json"))]


def _importance_file(chunk: Path) -> Path:
    return chunk.with_suffix(".importance.npy")


def _check_importance(importance: np.ndarray, clips: Sequence[Clip]) -> None:
    tv, n, _, hv, wv = clips[0].frames.shape
    shape, dtype = np.shape(importance), getattr(importance, "dtype", None)
    fits = shape[:1] + shape[2:] == (len(clips), n, hv, wv) and shape[1] > 0 and tv % shape[1] == 0
    if dtype != np.uint8 or not fits:
        raise ValueError(
            f"importance: expected uint8 (clips, tm, n, hv, wv) = ({len(clips)}, a divisor of {tv}, {n}, {hv}, {wv}), "
            f"got {dtype} {shape}"
        )


def _open_frames(chunk: Path) -> np.ndarray:
    return np.load(chunk.with_suffix(".npy"), mmap_mode="r", allow_pickle=False)


def _count_and_shape(chunk: Path) -> tuple[int, tuple[int, ...]]:
    count, *shape = _open_frames(chunk).shape
    return count, tuple(shape)


@lru_cache(maxsize=4)
def _read_scenes(chunk: Path) -> list[dict]:
    return json.loads(chunk.with_suffix(".json").read_text())
