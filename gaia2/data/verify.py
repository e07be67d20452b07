"""Whether shards are whole: their hashes, and whether every sample can be read."""

from __future__ import annotations

import os
from pathlib import Path

from tqdm import tqdm

from gaia2.data.index import ClipEntry, Index, ShardEntry
from gaia2.data.latent_clip import LatentClip
from gaia2.data.shards import ShardReader, file_hash

__all__ = ["verify_shards"]


def verify_shards(folder: str | os.PathLike[str], *, decode: bool = True, progress: bool = True) -> list[str]:
    """Return what is wrong with the shards of a folder, in words; nothing if all is well.

    Args:
        folder: Of shards.
        decode: Whether to decode every sample; else only sizes and hashes are checked.
        progress: Whether to show a bar.

    Raises:
        FileNotFoundError: There are no shards.

    Example:
        >>> verify_shards("shards")  # doctest: +SKIP
        []
    """
    index = Index.load(folder)
    wrong: list[str] = []
    clips: dict[str, list[ClipEntry]] = {}
    for clip in index.clips:
        clips.setdefault(clip.shard, []).append(clip)
    for shard in tqdm(index.shards, unit="shard", disable=not progress):
        path = Path(folder) / shard.name
        problem = _file_problem(path, shard)
        if problem:
            wrong.append(f"{path}: {problem}")
        if decode and path.is_file():
            wrong.extend(_sample_problems(path, clips.get(shard.name, [])))
    listed = {shard.name for shard in index.shards}
    wrong.extend(
        f"{path}: not in the index; the build was stopped before it was finished, run it again"
        for path in sorted(Path(folder).glob("*.tar"))
        if path.name not in listed
    )
    return wrong


def _file_problem(path: Path, shard: ShardEntry) -> str:
    if not path.is_file():
        return "missing; build it again"
    size = path.stat().st_size
    if size != shard.bytes:
        return f"expected {shard.bytes} bytes, got {size}; it was cut short or written anew, build it again"
    if file_hash(path) != shard.sha256:
        return "its hash is another one than the index has; it is damaged, build it again"
    return ""


def _sample_problems(path: Path, clips: list[ClipEntry]) -> list[str]:
    try:
        reader = ShardReader(path)
    except ValueError as error:
        return [str(error)]
    wrong = []
    for entry in clips:
        try:
            clip = reader.read(entry.key)
            kind = "latents" if isinstance(clip, LatentClip) else "pixels"
            shape = (clip.num_frames, clip.scene.rig.names)
            if shape != (entry.num_frames, entry.cameras):
                wrong.append(f"{path}: {entry.key}: {kind} of another shape than the index has")
        except ValueError as error:
            wrong.append(str(error))
    return wrong
