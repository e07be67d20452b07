"""Video files: H.264 in mp4, written and read with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import islice
from os import PathLike
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from gaia2._checks import real_number, refuse, whole_number
from gaia2._files import replacing

MAX_FRAMES = 10_000_000


def write_video(path: str | PathLike[str], frames: np.ndarray, frame_rate: float, *, quality: int = 18) -> None:
    """Write frames as an mp4 file that any browser plays (H.264, yuv420p, BT.709).

    The file appears under its name only when it is complete. Missing folders are made. An odd height or width is
    made even by repeating the last row or column, which the pixel format asks for.

    Args:
        path: The file to write; an existing one is replaced.
        frames: `(tv, h, w, 3)` uint8 RGB, at least one frame.
        frame_rate: Frames per second.
        quality: The encoder's constant rate factor, 0 (best) to 51; 18 is hard to tell from the original.

    Raises:
        ValueError: If `frames` has another shape or type, or `frame_rate` is not a positive number.

    Example:
        >>> import tempfile
        >>> frames = np.full((8, 64, 96, 3), 128, dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/grey.mp4", frames, frame_rate=10.0)
        ...     back, frame_rate = read_video(f"{folder}/grey.mp4")
        >>> back.shape, frame_rate
        ((8, 64, 96, 3), 10.0)
    """
    _check_frames(frames)
    if frames.size == 0:
        raise ValueError(
            f"frames: expected (tv, h, w, 3) uint8 with at least one frame, got {frames.shape} {frames.dtype}; "
            "put the cameras of a clip side by side with gaia2.viz.mosaic first"
        )
    with VideoWriter(path, frame_rate, quality=quality) as video:
        video.write(frames)


class VideoWriter:
    """Writes an mp4 file piece by piece, so that a long video need not be in memory; see `write_video`.

    The file appears under its name when the `with` block ends without an error. Missing folders are made.

    Args:
        path: The file to write; an existing one is replaced.
        frame_rate: Frames per second.
        quality: The encoder's constant rate factor, 0 (best) to 51.

    Raises:
        ValueError: If `frame_rate` is not a positive number.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with VideoWriter(f"{folder}/grey.mp4", 10.0) as video:
        ...         for _ in range(3):
        ...             video.write(np.full((8, 64, 96, 3), 128, dtype=np.uint8))
        ...     len(read_video(f"{folder}/grey.mp4")[0])
        24
    """

    def __init__(self, path: str | PathLike[str], frame_rate: float, *, quality: int = 18) -> None:
        real_number("frame_rate", frame_rate, 1e-3, 1e4, what="a positive number of frames per second")
        whole_number("quality", quality, 0, 51, hint="the encoder's constant rate factor, 0 is best")
        self.path = _as_path(path)
        self._rate = Fraction(frame_rate).limit_denominator(10_000)
        self._quality = quality
        self._shape: tuple[int, ...] | None = None

    def __enter__(self) -> VideoWriter:
        with ExitStack() as opened:
            unfinished = opened.enter_context(replacing(self.path))
            self._container = opened.enter_context(
                av.open(str(unfinished), "w", format="mp4", options={"movflags": "+faststart"})
            )
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": str(self._quality)})
            self._opened = opened.pop_all()
        return self

    def write(self, frames: np.ndarray) -> None:
        """Append frames `(tv, h, w, 3)` uint8 RGB, all of one size.

        Raises:
            ValueError: If `frames` has another shape or type, or another size than those before.
        """
        _check_frames(frames)
        if not len(frames):
            return
        if self._shape is None:
            self._begin(frames.shape[1:])
        if frames.shape[1:] != self._shape:
            raise ValueError(f"frames: expected the size of those before, {self._shape}, got {frames.shape[1:]}")
        frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame = frame.reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA,
            )
            self._container.mux(self._stream.encode(frame))

    def _begin(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._stream.height, self._stream.width = (size + size % 2 for size in shape[:2])
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.colorspace = Colorspace.ITU709
        self._stream.codec_context.color_range = ColorRange.MPEG

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._opened.__exit__(kind, error, traceback)
            return
        with self._opened:
            if self._shape is None:
                raise ValueError(f"{self.path}: expected at least one frame, got none; write some")
            self._container.mux(self._stream.encode(None))


def read_video(path: str | PathLike[str], *, num_frames: int | None = None, start: int = 0) -> tuple[np.ndarray, float]:
    """Read frames of a video file.

    Args:
        path: Any file that FFmpeg can decode; its first video stream is read.
        num_frames: How many frames to read; all from `start` on if None.
        start: The first frame to read, counted from 0.

    Returns:
        The frames, `(tv, h, w, 3)` uint8 RGB, and the stream's average frame rate in frames per second.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not a video that can be decoded, or has fewer frames than asked for.
    """
    path = _as_path(path)
    whole_number("start", start, 0, MAX_FRAMES)
    if num_frames is not None:
        whole_number("num_frames", num_frames, 1, MAX_FRAMES)
    if not path.is_file():
        raise FileNotFoundError(f"path: expected a video file, found none at {path}")
    stop = None if num_frames is None else start + num_frames
    with _decoding(path), av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path}: expected a video, got a file without one; give an mp4 with H.264 video")
        stream = container.streams.video[0]
        frame_rate = float(stream.average_rate or stream.guessed_rate or 0)
        frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(stream), start, stop)]
    if len(frames) < (num_frames or 1):
        raise ValueError(
            f"{path}: expected at least {start + (num_frames or 1)} frames, got {start + len(frames)} or fewer; "
            "ask for fewer frames or an earlier start"
        )
    return np.stack(frames), frame_rate


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Say FFmpeg's errors as one `ValueError` that names the file."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(
            f"{path}: expected a video, got a file that cannot be read as one ({error}); check it with a player"
        ) from error


def _as_path(path: str | PathLike[str]) -> Path:
    if not isinstance(path, str | PathLike) or not str(path):
        raise refuse("path", "a file name", path)
    return Path(path)


def _check_frames(frames: np.ndarray) -> None:
    if not isinstance(frames, np.ndarray):
        raise refuse("frames", "a NumPy array (tv, h, w, 3) uint8", frames)
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(
            f"frames: expected (tv, h, w, 3) uint8, got {frames.shape} {frames.dtype}; put the cameras of a clip "
            "side by side with gaia2.viz.mosaic first"
        )
