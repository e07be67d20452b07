"""Where a camera's pictures are: image files, a video file, or bytes in another file. Read one by one, when needed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import av
import numpy as np

from gaia2.data.codec import decode_picture

__all__ = ["EncodedImages", "FrameReader", "ImageFiles", "VideoFile", "video_times"]


class FrameReader(Protocol):
    """The pictures of one camera in a row."""

    def __len__(self) -> int:
        """Number of pictures."""

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Give pictures `(hv, wv, 3)` uint8 RGB in the order of `indices`, which increase.

        Raises:
            ValueError: One is missing or damaged; the message names its file.
        """


class ImageFiles:
    """Pictures in files that Pillow reads.

    Args:
        paths: One a picture.
    """

    def __init__(self, paths: Sequence[str | os.PathLike[str]]) -> None:
        self.paths = [Path(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader`."""
        for index in indices:
            path = self.paths[index]
            try:
                yield decode_picture(path.read_bytes())
            except FileNotFoundError as error:
                raise ValueError(f"{path}: expected a picture, got no such file") from error
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error


class EncodedImages:
    """Pictures that stand encoded (JPEG, PNG) in some other file.

    Args:
        fetch: Gives the bytes of a picture by its index.
        length: Number of pictures.
        name: Where they come from, for messages.
    """

    def __init__(self, fetch: Callable[[int], bytes], length: int, name: str) -> None:
        self._fetch, self._length, self._name = fetch, length, name

    def __len__(self) -> int:
        return self._length

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader`."""
        for index in indices:
            try:
                yield decode_picture(self._fetch(index))
            except ValueError as error:
                raise ValueError(f"{self._name}, picture {index}: {error}") from error


class VideoFile:
    """Pictures of a video file, or a stream without a container such as .hevc, counted from 0 as they are decoded.

    Reading on from where the last read ended costs nothing extra; going back decodes from the beginning.

    Args:
        path: The file.
        length: Number of its pictures, if known.

    Raises:
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: str | os.PathLike[str], length: int | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"{self.path}: expected a video file, got no such file")
        self._length = length
        self._frames: Iterator[av.VideoFrame] | None = None
        self._next = 0
        self._end: int | None = None  # where the video was found to end

    def __len__(self) -> int:
        if self._length is None:
            self._length = len(video_times(self.path))
        return self._length

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """See `FrameReader`."""
        try:
            for index in indices:
                if self._end is not None and index >= self._end:
                    raise self._too_short(index)
                if self._frames is None or index < self._next:
                    self._frames, self._next = self._decode(), 0
                for frame in self._frames:
                    self._next += 1
                    if self._next > index:
                        yield frame.to_ndarray(format="rgb24")
                        break
                else:
                    self._end = self._next
                    raise self._too_short(index)
        except av.FFmpegError as error:
            raise ValueError(
                f"{self.path}: expected a video, got a damaged one at frame {self._next} ({error})"
            ) from error
        except ValueError:
            self._frames = None
            raise

    def _too_short(self, index: int) -> ValueError:
        return ValueError(
            f"{self.path}: expected at least {index + 1} frames, the video ends after {self._end}; it was cut short, "
            "or its list of times belongs to another one"
        )

    def _decode(self) -> Iterator[av.VideoFrame]:
        with av.open(str(self.path), "r") as container:
            yield from container.decode(video=0)


def video_times(path: str | os.PathLike[str]) -> np.ndarray:
    """Return the times in seconds (k,) at which a video file shows its frames, without decoding them.

    Raises:
        ValueError: It is no video file, or one whose frames have no times.

    Example:
        >>> video_times("front.mp4")[:3]  # doctest: +SKIP
        array([0.  , 0.05, 0.1 ])
    """
    try:
        with av.open(str(path), "r") as container:
            stream = container.streams.video[0]
            base = stream.time_base  # a closed file's stream must not be asked
            stamps = [packet.pts for packet in container.demux(stream) if packet.size]
    except (av.FFmpegError, IndexError) as error:
        raise ValueError(f"{path}: expected a video file, got none or a damaged one ({error})") from error
    known = [stamp for stamp in stamps if stamp is not None]
    if base is None or not known or len(known) < len(stamps):
        raise ValueError(f"{path}: expected a video whose frames have times, got none; give their times in a file")
    return np.sort(np.array(known, dtype=np.float64)) * float(base)
