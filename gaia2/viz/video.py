"""Video files: H.264 in mp4, written and read with PyAV."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from os import PathLike
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation


def write_video(path: str | PathLike[str], frames: np.ndarray, frame_rate: float, *, quality: int = 18) -> None:
    """Write frames as an mp4 file that any browser plays (H.264, yuv420p, BT.709).

    The file appears under its name only when it is complete. Missing folders are made. An odd height or width is
    made even by repeating the last row or column, which the pixel format asks for.

    Args:
        path: the file to write; an existing one is replaced.
        frames: ``(tv, h, w, 3)`` uint8 RGB, at least one frame.
        frame_rate: frames per second.
        quality: the encoder's constant rate factor, 0 (best) to 51; 18 is hard to tell from the original.

    Raises:
        ValueError: if ``frames`` has another shape or type, or ``frame_rate`` is not a positive number.

    Example:
        >>> import tempfile
        >>> frames = np.full((8, 64, 96, 3), 128, dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(f"{folder}/grey.mp4", frames, frame_rate=10.0)
        ...     back, frame_rate = read_video(f"{folder}/grey.mp4")
        >>> back.shape, frame_rate
        ((8, 64, 96, 3), 10.0)
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise ValueError(
            f"frames: expected (tv, h, w, 3) uint8 with at least one frame, got {frames.shape} {frames.dtype}; "
            "put the cameras of a clip side by side with gaia2.viz.mosaic first"
        )
    if not (math.isfinite(frame_rate) and frame_rate > 0):
        raise ValueError(f"frame_rate: expected a positive number of frames per second, got {frame_rate}")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    partial = path.with_name(f".{path.name}.partial")
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            rate = Fraction(frame_rate).limit_denominator(10_000)
            stream = container.add_stream("libx264", rate=rate, options={"crf": str(quality)})
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.colorspace = Colorspace.ITU709
            stream.codec_context.color_range = ColorRange.MPEG
            for pixels in frames:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                frame = frame.reformat(
                    format="yuv420p",
                    dst_colorspace=Colorspace.ITU709,
                    dst_color_range=ColorRange.MPEG,
                    interpolation=Interpolation.AREA,
                )
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_video(path: str | PathLike[str], *, num_frames: int | None = None, start: int = 0) -> tuple[np.ndarray, float]:
    """Read frames of a video file.

    Args:
        path: any file that FFmpeg can decode; its first video stream is read.
        num_frames: how many frames to read; all from ``start`` on if None.
        start: the first frame to read, counted from 0.

    Returns:
        The frames, ``(tv, h, w, 3)`` uint8 RGB, and the stream's average frame rate in frames per second.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a video that can be decoded, or has fewer frames than asked for.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no video file at {path}")
    if start < 0 or (num_frames is not None and num_frames < 1):
        raise ValueError(f"expected start >= 0 and num_frames >= 1, got start={start} and num_frames={num_frames}")
    stop = None if num_frames is None else start + num_frames
    with _decoding(path), av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video stream; give a file such as an mp4 with H.264 video")
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
    """Say FFmpeg's errors as one ``ValueError`` that names the file."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} is not a video that can be read: {error}; check the file with a player") from error
