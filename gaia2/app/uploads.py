"""What visitors hand in: rig and scene files, and videos of the cameras; nothing outside the upload folder is read."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import av
import numpy as np

from gaia2.scene import CameraRig, Scene
from gaia2.video.resize import fit_frames

MAX_JSON_BYTES = 32_000_000
MAX_SIDE = 4096
MAX_DECODED = 20_000
"""Frames of a video that are looked through."""

_MAGIC = {b"ftyp": (4, "mp4"), b"\x1a\x45\xdf\xa3": (0, "matroska")}


def inside(folder: Path, path: str | os.PathLike[str]) -> Path:
    """A file of the upload folder.

    Args:
        folder: The upload folder.
        path: The file; links and dots are followed before it is looked at.

    Raises:
        ValueError: If it is somewhere else, or no file; whether there is one elsewhere is not told.

    Example:
        >>> inside(Path("/tmp"), "/etc/passwd")
        Traceback (most recent call last):
        ...
        ValueError: passwd: expected a file that was uploaded here, got another one; upload it again
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(folder)) or not real.is_file():
        raise ValueError(f"{Path(path).name}: expected a file that was uploaded here, got another one; upload it again")
    return real


def read_scene_file(path: Path) -> tuple[CameraRig, Scene | None]:
    """The rig of a file, and the scene if it is one of a scene.

    Args:
        path: JSON that `Scene.save` wrote, or a rig of `CameraRig.to_dict`.

    Raises:
        ValueError: If it is neither.
    """
    if path.stat().st_size > MAX_JSON_BYTES:
        raise ValueError(f"{path.name}: expected a scene or a rig of at most {MAX_JSON_BYTES} bytes, got more")
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        if isinstance(data, dict) and "names" in data:
            return CameraRig.from_dict(data), None
        scene = Scene.from_json(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: expected a scene or a rig as JSON; {error}") from error
    return scene.rig, scene


def match_cameras(paths: Sequence[Path], cameras: Sequence[str]) -> list[Path]:
    """The video of each camera: the file whose name ends with the camera's, or the files in their order.

    Args:
        paths: As many files as cameras.
        cameras: Names of the rig.

    Raises:
        ValueError: If there are more or fewer files than cameras.

    Example:
        >>> [p.name for p in match_cameras([Path("a_right.mp4"), Path("a_left.mp4")], ["left", "right"])]
        ['a_left.mp4', 'a_right.mp4']
    """
    if len(paths) != len(cameras):
        raise ValueError(
            f"source: expected {len(cameras)} videos, one for each of {', '.join(cameras)}, got {len(paths)}; upload "
            "one a camera, or choose the rig that they were taken with"
        )
    left, found = list(paths), {}
    for camera in sorted(cameras, key=len, reverse=True):  # front_left before left
        for path in left:
            if path.stem == camera or path.stem.endswith((f"_{camera}", f"-{camera}")):
                found[camera] = path
                left.remove(path)
                break
    return [found[camera] for camera in cameras] if not left else list(paths)


def read_source(
    paths: Sequence[Path], image_size: tuple[int, int], frame_rate: float, num_frames: int, *, at_end: bool = False
) -> np.ndarray:
    """Frames of the videos of all cameras at regular times.

    Args:
        paths: A video file a camera.
        image_size: Pixels `(hv, wv)` to cut and scale the pictures to.
        frame_rate: Frames a second that are wanted; of the file's frames the nearest are taken.
        num_frames: How many.
        at_end: The last ones rather than the first.

    Returns:
        `(tv, n, 3, hv, wv)` uint8.

    Raises:
        ValueError: If a file is no video, is too large or too short.
    """
    videos = [_read_video(path, image_size, frame_rate, num_frames, at_end) for path in paths]
    return np.stack(videos, axis=1).transpose(0, 1, 4, 2, 3)


def _read_video(
    path: Path, image_size: tuple[int, int], frame_rate: float, num_frames: int, at_end: bool
) -> np.ndarray:
    """`(tv, hv, wv, 3)` of one file."""
    with _decoded(path, image_size) as (own_rate, frames):
        steps = np.rint(np.arange(num_frames) * own_rate / frame_rate).astype(int)
        needed = int(steps[-1]) + 1
        if needed > MAX_DECODED:
            raise ValueError(f"{path.name}: expected at most {MAX_DECODED} frames to look through, got {needed}")
        shown = deque(islice(frames, MAX_DECODED), maxlen=needed) if at_end else list(islice(frames, needed))
        if at_end and next(frames, None) is not None:
            raise ValueError(f"{path.name}: expected at most {MAX_DECODED} frames, got more; cut its end out")
    if len(shown) < needed:
        raise ValueError(
            f"{path.name}: expected at least {num_frames / frame_rate:g} s of video, got {len(shown) / own_rate:g} s; "
            "give a longer one, or ask for fewer seconds"
        )
    picked = steps[-1] - steps[::-1] if at_end else steps
    return np.stack([shown[index] for index in picked.tolist()])


@contextmanager
def _decoded(path: Path, image_size: tuple[int, int]) -> Iterator[tuple[float, Iterator[np.ndarray]]]:
    """Frame rate and frames `(hv, wv, 3)` of a video file, cut and scaled one by one as they are decoded."""
    try:
        with av.open(str(path), format=_container(path)) as container:
            if not container.streams.video:
                raise ValueError(f"{path.name}: expected a video, got a file without one")
            stream = container.streams.video[0]
            if max(stream.width, stream.height) > MAX_SIDE:
                raise ValueError(
                    f"{path.name}: expected at most {MAX_SIDE} pixels a side, got {stream.width}x{stream.height}; "
                    "make it smaller"
                )
            rate = float(stream.average_rate or stream.guessed_rate or 0)
            if not rate > 0:
                raise ValueError(f"{path.name}: expected a video with a frame rate, got one without")
            decoded = (frame.to_ndarray(format="rgb24") for frame in container.decode(stream))
            yield rate, (fit_frames(frame[None], image_size)[0] for frame in decoded)
    except av.error.FFmpegError as error:
        raise ValueError(f"{path.name}: expected a video that can be decoded, got another file ({error})") from error


def _container(path: Path) -> str:
    """The format of a file by its first bytes; a list of other files, which FFmpeg would follow, is none."""
    with path.open("rb") as file:
        head = file.read(8)
    for magic, (place, name) in _MAGIC.items():
        if head[place:].startswith(magic):
            return name
    raise ValueError(f"{path.name}: expected a video as mp4, mov, mkv or webm, got another file")
