"""The index of a folder of shards: what every clip is, without opening one."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gaia2._files import replacing
from gaia2.data.source import Source
from gaia2.data.urls import is_url, join, read_text
from gaia2.scene import Scene
from gaia2.scene.validation import check_keys

__all__ = ["INDEX_VERSION", "ClipEntry", "Index", "ShardEntry"]

INDEX_VERSION = 1
"""Version of the layout of `index.json` and of the file beside each shard."""

INDEX_NAME = "index.json"


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a shard.

    Args:
        key: Name of the sample in its shard, unique in its folder.
        shard: File name of the shard.
        contents: "mp4", "jpg" or "png" for pixels, "latents" for latents.
        num_frames: Video frames tv.
        cameras: Names of the n cameras.
        image_size: (height, width) in pixels.
        duration: Seconds from the first frame to the last.
        frames_per_latent: Video frames of a latent; 1 for pixels.
        source: Where it comes from.
        features: What clips can be balanced by: metadata, "speed" (mean of its size, m/s), "curvature" (the largest in
            size, 1/m), "agents" (mean number); what is absent is left out.
    """

    key: str
    shard: str
    contents: str
    num_frames: int
    cameras: tuple[str, ...]
    image_size: tuple[int, int]
    duration: float
    frames_per_latent: int = 1
    source: Source = field(default_factory=Source)
    features: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def interval(self) -> tuple[float, float]:
        """First and last moment in seconds of the log's clock."""
        start = self.source.time or 0.0
        return start, start + self.duration

    @property
    def frame_rate(self) -> float:
        """Mean frames a second; NaN for a single frame."""
        return (self.num_frames - 1) / self.duration if self.duration > 0 else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        lists = {"cameras": list(self.cameras), "image_size": list(self.image_size)}
        return {**values, **lists, "source": self.source.to_dict(), "features": dict(self.features)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ClipEntry:
        """Return the entry that `to_dict` wrote."""
        names = [f.name for f in dataclasses.fields(cls)]
        values = check_keys("clip entry", data, names)
        values["source"] = Source.from_dict(values["source"])
        values["cameras"], values["image_size"] = tuple(values["cameras"]), tuple(values["image_size"])
        return cls(**values)


@dataclass(frozen=True)
class ShardEntry:
    """One shard.

    Args:
        name: File name.
        num_clips: Samples in it.
        bytes: Size of the file.
        sha256: Hash of the file.
    """

    name: str
    num_clips: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """The shards and clips of a folder, and what could not be read when it was built.

    Args:
        shards: The shards.
        clips: Their clips.
        failed: For each log or clip that was left out its "log", "start" (frame, or -1) and "error".

    Example:
        >>> Index.load("shards").hours  # doctest: +SKIP
        5.5
    """

    shards: tuple[ShardEntry, ...] = ()
    clips: tuple[ClipEntry, ...] = ()
    failed: tuple[Mapping[str, Any], ...] = ()

    @property
    def hours(self) -> float:
        """Hours of driving, each moment of a clip counted once whatever its number of cameras."""
        return sum(clip.duration for clip in self.clips) / 3600

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Index:
        """Return the index of a folder of shards, or of a URL that has an `index.json` below it.

        Without an `index.json` the files beside the finished shards are read.

        Raises:
            FileNotFoundError: There is neither.
            ValueError: A file is not an index of this version.
        """
        if is_url(folder) or (Path(folder) / INDEX_NAME).is_file():
            return cls.from_json(read_text(join(folder, INDEX_NAME)), str(join(folder, INDEX_NAME)))
        return cls.collect(folder)

    @classmethod
    def collect(cls, folder: str | os.PathLike[str]) -> Index:
        """Return the index of the finished shards of a folder, from the file beside each.

        Raises:
            FileNotFoundError: There are none.
        """
        files = sorted(path for path in Path(folder).glob("*.json") if path.name != INDEX_NAME and path.name[0] != ".")
        if not files:
            raise FileNotFoundError(
                f"{folder}: expected a folder of clip shards, got no index and no finished shard in it; fill it with "
                "`gaia2 data build` or gaia2.data.ShardWriter"
            )
        return cls.merge(cls.from_json(path.read_text(encoding="utf-8"), str(path)) for path in files)

    @classmethod
    def merge(cls, parts: Iterable[Index]) -> Index:
        """Return one index of several."""
        listed = list(parts)
        return cls(
            shards=tuple(shard for part in listed for shard in part.shards),
            clips=tuple(clip for part in listed for clip in part.clips),
            failed=tuple(failure for part in listed for failure in part.failed),
        )

    def save(self, folder: str | os.PathLike[str], name: str = INDEX_NAME) -> Path:
        """Write the index into a folder; an existing one is replaced at once."""
        path = Path(folder) / name
        with replacing(path) as unfinished:
            unfinished.write_text(self.to_json() + "\n", encoding="utf-8")
        return path

    def to_json(self) -> str:
        """Return the index as strict JSON text, one clip a line."""
        rows = ",\n".join(json.dumps(clip.to_dict(), allow_nan=False) for clip in self.clips)
        return (
            f'{{"version": {INDEX_VERSION},\n'
            f'"shards": {json.dumps([dataclasses.asdict(shard) for shard in self.shards])},\n'
            f'"failed": {json.dumps([dict(failure) for failure in self.failed], allow_nan=False)},\n'
            f'"clips": [\n{rows}\n]}}'
        )

    @classmethod
    def from_json(cls, text: str, name: str = "index") -> Index:
        """Return the index of JSON text that `to_json` wrote.

        Args:
            text: The text.
            name: Where it comes from, for messages.
        """
        try:
            data = check_keys("index", json.loads(text), ("version", "shards", "failed", "clips"))
            if data["version"] != INDEX_VERSION:
                raise ValueError(f"expected version {INDEX_VERSION}, got {data['version']!r}; build the shards again")
            return cls(
                shards=tuple(ShardEntry(**shard) for shard in data["shards"]),
                clips=tuple(ClipEntry.from_dict(clip) for clip in data["clips"]),
                failed=tuple(data["failed"]),
            )
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name}: expected an index of clip shards, got another or a damaged file: {error}"
            ) from error


def scene_features(scene: Scene) -> dict[str, str | int | float | bool]:
    """Return what a clip of this scene can be balanced by; see `ClipEntry`.

    Example:
        >>> scene_features(Scene.create("front", speed=12.0, curvature=-0.01, weather="rain"))
        {'weather': 'rain', 'agents': 0.0, 'speed': 12.0, 'curvature': -0.01}
    """
    features: dict[str, str | int | float | bool] = dict(scene.metadata)
    features["agents"] = float((scene.agents.category >= 0).sum(axis=1).mean())
    speed = np.abs(scene.speed[~np.isnan(scene.speed)])
    curvature = scene.curvature[~np.isnan(scene.curvature)]
    if speed.size:
        features["speed"] = float(speed.mean())
    if curvature.size:
        features["curvature"] = float(curvature[np.abs(curvature).argmax()])
    return features
