"""Pixels as bytes: H.264 videos and JPEG or PNG pictures in memory, as they stand in shards.

Axes: tv video frames, hv wv pixels; pictures are `(hv, wv, 3)` uint8 RGB.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

__all__ = ["PICTURE_FORMATS", "decode_picture", "decode_video", "encode_picture", "encode_video"]

PICTURE_FORMATS = {"jpg": "JPEG", "png": "PNG"}
"""File ending of a picture to Pillow's name of the format."""


def encode_video(
    frames: np.ndarray, frame_rate: float, *, quality: int = 18, keyframe_interval: int = 12, preset: str = "medium"
) -> bytes:
    """Return an mp4 file (H.264, yuv420p, BT.709).

    Frame i stands at exactly i frame periods, so that a frame is found by its time. An odd height or width is made even
    by repeating the last row or column.

    Args:
        frames: `(tv, hv, wv, 3)` uint8 RGB, at least one frame.
        frame_rate: Frames a second that a player shows; the exact times belong in the scene.
        quality: The encoder's constant rate factor, 0 (best) to 51.
        keyframe_interval: Frames from one that stands alone to the next; decoding can begin at each of these.
        preset: The encoder's speed, "ultrafast" to "veryslow".

    Example:
        >>> grey = np.full((4, 32, 64, 3), 128, np.uint8)
        >>> int(np.abs(decode_video(encode_video(grey, 10.0)).astype(int) - 128).max()) <= 2
        True
    """
    rate = Fraction(frame_rate).limit_denominator(1000)
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        options = {"crf": str(quality), "g": str(keyframe_interval), "preset": preset}
        stream = container.add_stream("libx264", rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = Colorspace.ITU709, ColorRange.MPEG
        stream.codec_context.thread_count = 1  # processes share the work clip by clip
        for index, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                interpolation=Interpolation.AREA,
            )
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def decode_video(
    data: bytes,
    frames: Sequence[int] | np.ndarray | None = None,
    *,
    crop: tuple[int, int, int, int] | None = None,
    out: np.ndarray | None = None,
    threads: int = 1,
) -> np.ndarray:
    """Return frames of an mp4 file that `encode_video` wrote.

    Decoding begins at the last keyframe before the first frame asked for and ends with the last one.

    Args:
        data: The file.
        frames: Indices in increasing order; None: all.
        crop: Top, left, height, width of the part of the pictures to give; None: whole pictures.
        out: `(k, height, width, 3)` uint8, where to put them; None: a new array.
        threads: Of the decoder.

    Returns:
        `(k, height, width, 3)` uint8 RGB, `out` if it was given.

    Raises:
        ValueError: The file cannot be decoded or ends before the last frame asked for.
    """
    wanted = None if frames is None else [int(index) for index in frames]
    top, left, height, width = crop or (0, 0, None, None)
    rows, columns = slice(top, height and top + height), slice(left, width and left + width)
    collected: list[np.ndarray] = []
    found = 0
    try:
        for index, frame in _decoded(data, wanted[0] if wanted else 0, threads):
            if wanted is not None and found == len(wanted):
                break
            if wanted is not None and index != wanted[found]:
                continue
            pixels = frame[rows, columns]
            if out is None:
                collected.append(pixels.copy())
            else:
                out[found] = pixels
            found += 1
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"expected an mp4 file that can be decoded, got a damaged one ({error})") from error
    if found == 0 or (wanted is not None and found < len(wanted)):
        raise ValueError(
            f"expected {'frames' if wanted is None else f'the frames {wanted}'}, the video ends after {found} of them"
        )
    return np.stack(collected) if out is None else out


def _decoded(data: bytes, first: int, threads: int) -> Iterator[tuple[int, np.ndarray]]:
    """Index and pixels `(hv, wv, 3)` of the frames from the last keyframe before `first` on; a view of each in turn."""
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = threads
        rate, base = stream.average_rate, stream.time_base
        if rate is None or base is None:
            raise ValueError("expected an mp4 file with a frame rate, got one without")
        if first:
            container.seek(int(first / rate / base), stream=stream, backward=True)
        to_rgb = VideoReformatter()  # one for all: a frame's own would be set up anew each time
        for frame in container.decode(stream):
            rgb = to_rgb.reformat(frame, format="rgb24")
            plane = rgb.planes[0]
            lines = np.frombuffer(plane, np.uint8).reshape(rgb.height, plane.line_size)  # type: ignore[call-overload]
            yield round((frame.pts or 0) * base * rate), lines[:, : 3 * rgb.width].reshape(rgb.height, rgb.width, 3)


def encode_picture(pixels: np.ndarray, kind: str, *, quality: int = 95) -> bytes:
    """Return a picture `(hv, wv, 3)` as a file, "jpg" (with full colour resolution) or "png" (without loss)."""
    file = io.BytesIO()
    options = {"quality": quality, "subsampling": 0} if kind == "jpg" else {"compress_level": 1}
    Image.fromarray(pixels).save(file, PICTURE_FORMATS[kind], **options)
    return file.getvalue()


def decode_picture(data: bytes) -> np.ndarray:
    """Return the picture of a file that Pillow reads, `(hv, wv, 3)` uint8 RGB.

    Raises:
        ValueError: It is not a whole picture.
    """
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"expected a picture, got a damaged one ({error})") from error
