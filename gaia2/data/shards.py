"""Clip shards: tar files in webdataset's layout, one sample a clip, written and read by key.

A sample has `KEY.scene.json` (`Scene`), `KEY.source.json` (`Source`) and either, for each camera i of the rig,
`KEY.cameraII.mp4` or the pictures `KEY.cameraII.FFFF.jpg` (or `.png`), or `KEY.latents.safetensors`. Beside a finished
shard `NAME.tar` lies `NAME.json`, its part of the index.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from gaia2._files import replacing
from gaia2.data.clip import Clip
from gaia2.data.codec import PICTURE_FORMATS, decode_picture, decode_video, encode_picture, encode_video
from gaia2.data.cropping import crop_rig, select_cameras, take_frames
from gaia2.data.index import ClipEntry, Index, ShardEntry, scene_features
from gaia2.data.latent_clip import LatentClip
from gaia2.data.source import Source
from gaia2.scene import Scene

__all__ = ["PixelFormat", "ShardReader", "ShardWriter"]

PixelFormat = Literal["mp4", "jpg", "png"]
"""How pixels are stored: H.264 video, JPEG pictures, or PNG pictures without loss."""

_QUALITY = {"mp4": 18, "jpg": 95, "png": 0}


class ShardWriter:
    """Writes one shard; it appears under its name, and beside it its part of the index, when the block ends.

    An error, or being killed, leaves nothing that counts as a shard. Everything but the pixels comes back exactly;
    pixels come back exactly from "png". The same clips give the same bytes, but not of "mp4", whose encoder varies.

    Args:
        path: The tar file; its name without the ending begins the keys of its samples, and has no dot.
        pixels: How to store pixels.
        quality: Constant rate factor of "mp4", 0 (best) to 51, default 18; or JPEG's quality of "jpg", default 95.
        keyframe_interval: Of "mp4": frames from one that decoding can begin at to the next.

    Raises:
        ValueError: A name that does not end in .tar, or an unknown way to store pixels.

    Example:
        >>> import tempfile
        >>> scene = Scene.create("front", num_frames=8)
        >>> scene = scene.replace(rig=scene.rig.fit(image_size=(32, 64)))
        >>> grey = Clip(scene, np.full((8, 1, 3, 32, 64), 128, np.uint8), Source("grey"))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with ShardWriter(f"{folder}/grey-00000.tar") as shard:
        ...         key = shard.write(grey)
        ...     back = ShardReader(f"{folder}/grey-00000.tar").read(key)
        >>> key, back.scene == scene, back.frames.shape
        ('grey-00000-0000', True, (8, 1, 3, 32, 64))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        pixels: PixelFormat = "mp4",
        quality: int | None = None,
        keyframe_interval: int = 12,
    ) -> None:
        self.path = Path(path)
        if self.path.suffix != ".tar" or "." in self.path.stem:
            raise ValueError(f"path: expected a file name that ends in .tar and has no other dot, got {self.path.name}")
        if pixels not in _QUALITY:
            raise ValueError(f"pixels: expected one of {', '.join(_QUALITY)}, got {pixels!r}")
        self.pixels = pixels
        self.quality = _QUALITY[pixels] if quality is None else quality
        self.keyframe_interval = keyframe_interval
        self.clips: list[ClipEntry] = []
        self.failed: list[dict[str, Any]] = []

    def __enter__(self) -> ShardWriter:
        with ExitStack() as opened:
            self._unfinished = opened.enter_context(replacing(self.path))
            self._tar = opened.enter_context(tarfile.open(self._unfinished, "w", format=tarfile.USTAR_FORMAT))
            self._opened = opened.pop_all()
        return self

    def write(self, clip: Clip) -> str:
        """Append a clip; gives its key.

        Raises:
            ValueError: An encoder refused the frames.
        """
        rate = _frame_rate(clip.scene)
        members: dict[str, bytes] = {}
        for camera in range(clip.scene.rig.num_cameras):
            frames = np.moveaxis(np.asarray(clip.frames[:, camera]), 1, -1)
            if self.pixels == "mp4":
                members[f"camera{camera:02d}.mp4"] = encode_video(
                    frames, rate, quality=self.quality, keyframe_interval=self.keyframe_interval
                )
            else:
                for index, picture in enumerate(frames):
                    data = encode_picture(np.ascontiguousarray(picture), self.pixels, quality=self.quality)
                    members[f"camera{camera:02d}.{index:04d}.{self.pixels}"] = data
        height, width = clip.frames.shape[-2:]
        return self._append(clip.scene, clip.source, members, self.pixels, (int(height), int(width)), 1)

    def write_latents(self, clip: LatentClip) -> str:
        """Append a clip of latents; gives its key."""
        from safetensors.torch import save

        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in clip.latents.items()}
        members = {"latents.safetensors": save(tensors)}
        height, width = clip.scene.rig.image_size[0].tolist()
        return self._append(clip.scene, clip.source, members, "latents", (height, width), clip.frames_per_latent)

    def _append(
        self,
        scene: Scene,
        source: Source,
        members: dict[str, bytes],
        contents: str,
        image_size: tuple[int, int],
        frames_per_latent: int,
    ) -> str:
        key = f"{self.path.stem}-{len(self.clips):04d}"
        texts = {"scene.json": scene.to_json().encode(), "source.json": source.to_json().encode()}
        for name, data in {**texts, **members}.items():
            header = tarfile.TarInfo(f"{key}.{name}")
            header.size = len(data)
            self._tar.addfile(header, io.BytesIO(data))
        entry = ClipEntry(
            key=key,
            shard=self.path.name,
            contents=contents,
            num_frames=scene.num_frames,
            cameras=scene.rig.names,
            image_size=image_size,
            duration=scene.duration,
            frames_per_latent=frames_per_latent,
            source=source,
            features=scene_features(scene),
        )
        self.clips.append(entry)
        return key

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened.__exit__(kind, error, traceback)
        if kind is None:
            size, digest = self.path.stat().st_size, file_hash(self.path)
            shards = (ShardEntry(self.path.name, len(self.clips), size, digest),) if self.clips else ()
            if not shards:
                self.path.unlink()
            Index(shards, tuple(self.clips), tuple(self.failed)).save(self.path.parent, f"{self.path.stem}.json")


class ShardReader:
    """Reads the clips of a shard by key, and of each only the cameras and frames asked for.

    Args:
        path: A local tar file.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file is not a whole tar file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: no such shard")
        self._members: dict[str, dict[str, tuple[int, int]]] = {}
        try:
            with tarfile.open(self.path, "r:") as tar:
                for member in tar:
                    key, _, name = member.name.partition(".")
                    self._members.setdefault(key, {})[name] = (member.offset_data, member.size)
        except tarfile.TarError as error:
            raise ValueError(
                f"{self.path}: expected a whole tar file, got one cut short or damaged ({error})"
            ) from error
        self._file = os.open(self.path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def keys(self) -> list[str]:
        """Keys of the samples, in order."""
        return list(self._members)

    def members(self, key: str) -> list[str]:
        """Names of the members of a sample."""
        return list(self._sample(key))

    def scene(self, key: str) -> Scene:
        """The scene of a sample, whole."""
        return Scene.from_json(self._bytes(key, "scene.json").decode("utf-8"))

    def source(self, key: str) -> Source:
        """The source of a sample."""
        return Source.from_json(self._bytes(key, "source.json").decode("utf-8"))

    def read(
        self,
        key: str,
        *,
        frames: Sequence[int] | np.ndarray | None = None,
        cameras: Sequence[str] | None = None,
        crop: tuple[int, int, int, int] | None = None,
        out: np.ndarray | None = None,
    ) -> Clip | LatentClip:
        """Return a clip, or a part of it.

        Args:
            key: Of the sample.
            frames: Indices in increasing order; None: all. Of latents: a whole run of them.
            cameras: Names; None: all.
            crop: Top, left, height, width in pixels; None: whole pictures. The rig is cropped likewise. Not of latents.
            out: `(n, tv, height, width, 3)` uint8 to put the pixels into, which the clip then is; None: a new array.

        Raises:
            ValueError: The sample is damaged, or does not have what was asked for; the message names shard and key.
        """
        try:
            scene, source = self.scene(key), self.source(key)
            if "latents.safetensors" in self._sample(key):
                return self._read_latents(key, scene, source, frames, cameras)
            return self._read_pixels(key, scene, source, frames, cameras, crop, out)
        except ValueError as error:
            raise ValueError(f"{self.path}: {key}: {error}") from error

    def _read_pixels(
        self,
        key: str,
        scene: Scene,
        source: Source,
        frames: Sequence[int] | np.ndarray | None,
        cameras: Sequence[str] | None,
        crop: tuple[int, int, int, int] | None,
        out: np.ndarray | None,
    ) -> Clip:
        stored = scene.rig.names
        part = scene if frames is None else take_frames(scene, frames)
        if cameras is not None:
            part = select_cameras(part, cameras)
        height, width = part.rig.image_size[0].tolist()
        box = crop or (0, 0, height, width)
        if crop is not None:
            part = part.replace(rig=crop_rig(part.rig, *crop))
        indices = np.arange(scene.num_frames) if frames is None else np.asarray(frames)
        shape = (len(part.rig.names), len(indices), box[2], box[3], 3)
        pixels = np.empty(shape, dtype=np.uint8) if out is None else out
        if pixels.shape != shape:
            raise ValueError(f"out: expected (n, tv, height, width, 3) = {shape}, got {pixels.shape}")
        for row, name in enumerate(part.rig.names):
            self._read_camera(key, stored.index(name), indices, box, pixels[row])
        return Clip(part, pixels.transpose(1, 0, 4, 2, 3), source)

    def _read_camera(
        self, key: str, camera: int, indices: np.ndarray, box: tuple[int, int, int, int], out: np.ndarray
    ) -> None:
        stem = f"camera{camera:02d}"
        if f"{stem}.mp4" in self._sample(key):
            decode_video(self._bytes(key, f"{stem}.mp4"), indices, crop=box, out=out)
            return
        top, left, height, width = box
        kind = next((kind for kind in PICTURE_FORMATS if f"{stem}.0000.{kind}" in self._sample(key)), "mp4")
        for row, index in enumerate(indices):
            picture = decode_picture(self._bytes(key, f"{stem}.{index:04d}.{kind}"))
            out[row] = picture[top : top + height, left : left + width]

    def _read_latents(
        self,
        key: str,
        scene: Scene,
        source: Source,
        frames: Sequence[int] | np.ndarray | None,
        cameras: Sequence[str] | None,
    ) -> LatentClip:
        from safetensors.torch import load

        clip = LatentClip(scene, load(self._bytes(key, "latents.safetensors")), source)
        if cameras is not None:
            index = [scene.rig.names.index(name) for name in scene.rig.select(cameras).names]
            latents = {name: tensor[:, index] for name, tensor in clip.latents.items()}
            clip = LatentClip(select_cameras(scene, cameras), latents, source)
        if frames is None:
            return clip
        first, last = int(frames[0]), int(frames[-1])
        if list(frames) != list(range(first, last + 1)):
            raise ValueError(f"frames: expected a run of frames without gaps of latents, got {list(frames)}")
        return clip.window(first, last + 1)

    def _sample(self, key: str) -> dict[str, tuple[int, int]]:
        if key not in self._members:
            raise ValueError(f"no such sample; the shard has {len(self._members)}, was it cut short?")
        return self._members[key]

    def _bytes(self, key: str, name: str) -> bytes:
        sample = self._sample(key)
        if name not in sample:
            raise ValueError(f"expected {name} in it, got {', '.join(sample)}")
        offset, size = sample[name]
        data = os.pread(self._file, size, offset)
        if len(data) != size:
            raise ValueError(f"{name}: expected {size} bytes, got {len(data)}; the shard was cut short")
        return data


def file_hash(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _frame_rate(scene: Scene) -> float:
    return max(1.0, min(120.0, (scene.num_frames - 1) / scene.duration)) if scene.num_frames > 1 else 10.0
