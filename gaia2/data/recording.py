"""`Recording`: one drive of a dataset, its scene in memory and its pictures where they are; clips are cut from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2.data.box_table import BoxTable
from gaia2.data.clip import Clip
from gaia2.data.ego import EgoPoses
from gaia2.data.frame_readers import FrameReader
from gaia2.data.source import Source
from gaia2.data.synchronise import synchronise
from gaia2.scene import CameraRig, Scene
from gaia2.video import fit_frames

__all__ = ["Camera", "Recording"]


@dataclass(frozen=True)
class Camera:
    """The pictures of one camera of a drive.

    Args:
        times: (k,) seconds, at which they were taken (the middle of the exposure), on the clock of the poses.
        frames: Where they are, k of them.
    """

    times: npt.ArrayLike
    frames: FrameReader


@dataclass(frozen=True, eq=False)
class Recording:
    """One drive. What is not a camera's (motion, agents) holds at `scene.frame_times`, the mean of its cameras' times.

    Args:
        scene: All frames, its timestamps in seconds of the log's own clock, its rig as the cameras are.
        frames: For each camera the pictures of all frames.
        source: Where it comes from; its time is that of the scene's time 0.
        positions: (tv, 2) latitude and longitude at each frame, or None.
        notes: What the reader left out or mended, in words.

    Example:
        >>> for clip in recording.clips(num_frames=48, image_size=(448, 960)):  # doctest: +SKIP
        ...     key = shard.write(clip)
    """

    scene: Scene
    frames: tuple[FrameReader, ...]
    source: Source = Source()  # noqa: RUF009
    positions: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @classmethod
    def assemble(
        cls,
        rig: CameraRig,
        cameras: Sequence[Camera],
        *,
        poses: EgoPoses | None = None,
        motion: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
        boxes: BoxTable | None = None,
        metadata: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        source: Source | str = "",
        places: tuple[npt.ArrayLike, npt.ArrayLike] | None = None,
        reference: str | None = None,
        tolerance: float | None = None,
        frame_step: int = 1,
        notes: Sequence[str] = (),
    ) -> Recording:
        """Bring what was recorded at its own times to frames: synchronise cameras, derive motion, move boxes.

        Args:
            rig: The n cameras.
            cameras: Their pictures, in the rig's order.
            poses: Of the ego vehicle; give speed and curvature, and move the boxes.
            motion: Times (k,), speed (k,) and curvature (k,) as measured, instead of those of the poses.
            boxes: Labels of other road users; need poses.
            metadata: As in `Scene`.
            prompt: As in `Scene`.
            source: Where it comes from; its time is that of second 0 of the times given here.
            places: Times (k,) and latitude and longitude (k, 2).
            reference: The camera whose pictures are the frames; None: the first one.
            tolerance: Seconds between pictures of one frame; None: half a frame period.
            frame_step: Take every so manieth frame.
            notes: What the reader has to say.

        Raises:
            ValueError: The parts do not fit together; the message says which.

        Example:
            >>> from gaia2.data.frame_readers import ImageFiles
            >>> from gaia2.scene import named_rig
            >>> times = np.arange(3) / 10
            >>> poses = EgoPoses(times, np.outer(times, [8.0, 0, 0]), np.tile(np.eye(3), (3, 1, 1)))
            >>> pictures = ImageFiles(["0.jpg", "1.jpg", "2.jpg"])
            >>> Recording.assemble(named_rig("front"), [Camera(times, pictures)], poses=poses).scene.num_frames
            3
        """
        for name, camera in zip(rig.names, cameras, strict=True):
            if np.shape(camera.times) != (len(camera.frames),):
                raise ValueError(
                    f"camera {name!r}: expected a time for each of {len(camera.frames)} pictures, got "
                    f"{np.shape(camera.times)}"
                )
        first = rig.names.index(rig.select([reference]).names[0]) if reference is not None else 0
        stamps = [np.asarray(camera.times, dtype=np.float64) for camera in cameras]
        found = synchronise(stamps, names=rig.names, reference=first, tolerance=tolerance)
        index = found.index[::frame_step]
        times = np.stack([stamp[index[:, camera]] for camera, stamp in enumerate(stamps)], axis=1)
        scene = _scene(rig, times, poses, motion, boxes, metadata, prompt)
        origin = source if isinstance(source, Source) else Source(source)
        kept = {"largest_camera_offset": round(found.largest_offset, 6)} if rig.num_cameras > 1 else {}
        return cls(
            scene=scene,
            frames=tuple(_Picked(camera.frames, index[:, c]) for c, camera in enumerate(cameras)),
            source=origin.replace(notes={**origin.notes, **kept}),
            positions=None if places is None else _interpolated(scene.frame_times, *places),
            notes=(*notes, *found.notes),
        )

    def starts(self, num_frames: int, stride: int | None = None) -> list[int]:
        """First frames of the clips of `num_frames` frames that lie `stride` frames apart and span no gap.

        Args:
            num_frames: Frames of a clip.
            stride: Frames from one clip to the next; None: `num_frames`, so that clips do not overlap.
        """
        times = self.scene.frame_times
        steps = np.diff(times)
        breaks = np.flatnonzero(steps > 1.5 * np.median(steps)) + 1 if len(steps) else np.array([], dtype=int)
        edges = [0, *breaks.tolist(), len(times)]
        return [
            start
            for begin, end in pairwise(edges)
            for start in range(begin, end - num_frames + 1, stride or num_frames)
        ]

    def clip(self, start: int, stop: int, *, image_size: tuple[int, int] | None = None) -> Clip:
        """Return frames `start` to `stop`, the last one left out, as a clip whose time begins at 0.

        Args:
            start: First frame.
            stop: The one after the last.
            image_size: (height, width) in pixels that pictures and rig are cut and scaled to, as `CameraRig.fit` does;
                None: As they are.

        Raises:
            ValueError: A picture is missing, damaged, or of another size than the rig says; the message names it.
        """
        part = self.scene.window(start, stop)
        begin = float(part.timestamps.min())
        rig = part.rig if image_size is None else part.rig.fit(image_size=image_size)
        height, width = rig.image_size[0].tolist()
        if (rig.image_size != rig.image_size[0]).any():
            sizes = dict(zip(rig.names, rig.image_size.tolist(), strict=True))
            raise ValueError(
                f"image_size: expected a (height, width) to bring cameras of several sizes to, {sizes}, got None"
            )
        pixels = np.empty((rig.num_cameras, stop - start, height, width, 3), dtype=np.uint8)
        for camera, name in enumerate(rig.names):
            own = tuple(part.rig.image_size[camera].tolist())
            for frame, picture in enumerate(self.frames[camera].read(range(start, stop))):
                if picture.shape[:2] != own:
                    raise ValueError(
                        f"camera {name!r}, frame {start + frame}: expected a picture of {own}, as the calibration "
                        f"says, got {picture.shape[:2]}"
                    )
                pixels[camera, frame] = (
                    picture if own == (height, width) else fit_frames(picture[None], (height, width))[0]
                )
        source = self.source.replace(
            time=None if self.source.time is None else self.source.time + begin,
            positions=() if self.positions is None else _every_second(part.frame_times, self.positions[start:stop]),
        )
        scene = part.replace(rig=rig, timestamps=part.timestamps - begin)
        return Clip(scene, pixels.transpose(1, 0, 4, 2, 3), source)

    def clips(
        self, num_frames: int, *, stride: int | None = None, image_size: tuple[int, int] | None = None
    ) -> Iterator[Clip]:
        """Cut the drive into clips; see `starts` and `clip`."""
        for start in self.starts(num_frames, stride):
            yield self.clip(start, start + num_frames, image_size=image_size)


class _Picked:
    """Some pictures of a reader, under indices of their own."""

    def __init__(self, frames: FrameReader, index: np.ndarray) -> None:
        self._frames, self._index = frames, index

    def __len__(self) -> int:
        return len(self._index)

    def read(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return self._frames.read(self._index[list(indices)].tolist())


def _scene(
    rig: CameraRig,
    times: np.ndarray,
    poses: EgoPoses | None,
    motion: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None,
    boxes: BoxTable | None,
    metadata: Mapping[str, Any] | None,
    prompt: str | None,
) -> Scene:
    when = times.mean(axis=1)
    speed = curvature = None
    if motion is not None:
        stamps, *series = (np.asarray(values, dtype=np.float64) for values in motion)
        speed, curvature = (_interpolated(when, stamps, values) for values in series)
    elif poses is not None:
        speed, curvature = poses.motion(when)
    if boxes is not None and poses is None:
        raise ValueError("boxes: expected poses of the ego vehicle beside them, got none")
    agents = None if boxes is None or poses is None else boxes.agents(poses, when)
    return Scene(rig, times, speed, curvature, agents, metadata, prompt)


def _interpolated(when: np.ndarray, times: npt.ArrayLike, values: npt.ArrayLike) -> np.ndarray:
    stamps, series = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    order = np.unique(stamps, return_index=True)[1]
    columns = [np.interp(when, stamps[order], column[order]) for column in series.reshape(len(stamps), -1).T]
    return np.stack(columns, axis=1).reshape(len(when), *series.shape[1:])


def _every_second(times: np.ndarray, places: np.ndarray) -> tuple[tuple[float, float], ...]:
    """The first place, one about every second, and the last."""
    seconds = np.floor(times - times[0] + 1e-6)
    rows = np.unique(np.r_[0, np.flatnonzero(np.diff(seconds)) + 1, len(times) - 1])
    return tuple((float(latitude), float(longitude)) for latitude, longitude in places[rows])
