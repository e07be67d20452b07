"""What the page does with the values of its controls: forms, orders and results; knows no gradio."""

from __future__ import annotations

import base64
import io
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gaia2._checks import one_of, real_number
from gaia2.app.form import Form, choices, frames_of, read_drawing
from gaia2.app.results import Result, remove_old, write_result
from gaia2.app.tasks import Continue, Edit, Inpaint, Scratch, Settings, Task, grid_of, prepare
from gaia2.app.uploads import inside, match_cameras, read_scene_file, read_source
from gaia2.app.worker import Job, Worker
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import RIG_NAMES, CameraRig, Scene, named_rig

FILE_RIG = "from the file"
"""The choice of the rig that takes the one of the uploaded file."""
ABSENT = ""
"""The choice of a metadata drop-down that leaves it to the model."""
TASKS = ("generate", "continue", "inpaint", "edit")
POLL_SECONDS = 0.2
BEAT_SECONDS = 1.0
"""How often a job says how far it is, even if it is no further: only then can it be told that nobody listens."""


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for.

    Attributes:
        seconds: Longest video.
        steps: Most denoising steps of a window.
        cameras: Most cameras of a rig.
        keep_hours: How long uploads and results are kept.
    """

    seconds: float = 9.6
    steps: int = 100
    cameras: int = 12
    keep_hours: float = 24.0


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        ahead: Jobs of others that come first.
        done: Steps done.
        steps: Steps in all.
        result: What came out, once it is there.
        notes: What the model may not obey.
    """

    ahead: int = 0
    done: int = 0
    steps: int = 0
    result: Result | None = None
    notes: tuple[str, ...] = ()


class Studio:
    """One model, its queue and its upload folder, for all visitors.

    Args:
        pipe: The model.
        folder: The upload folder; nothing outside of it is read.
        limits: What a visitor may ask for.
    """

    def __init__(self, pipe: Gaia2Pipeline, folder: Path, limits: Limits | None = None) -> None:
        self.pipe = pipe
        self.folder = folder
        self.limits = limits or Limits()
        self.worker = Worker()
        self._jobs: dict[str, set[Job]] = {}
        self._lock = threading.Lock()

    @property
    def frame_rate(self) -> float:
        """Frames a second that the model was trained at; 10 where it does not say."""
        known = (self.pipe.transformer.config.trained_range or {}).get("seconds")
        return round(self.pipe.vae.frames_per_latent / known[0], 3) if known else 10.0

    @property
    def latent_seconds(self) -> float:
        """Seconds of one latent."""
        return self.pipe.vae.frames_per_latent / self.frame_rate

    @property
    def metadata(self) -> dict[str, list[Any]]:
        """Metadata names and values of the model's own vocabulary."""
        return choices(dict(self.pipe.transformer.config.metadata))

    def rig_of(self, rig: str, rig_file: str | None) -> CameraRig:
        """The rig that is chosen.

        Raises:
            ValueError: If there is none of that name, or the file is none of a rig.
        """
        one_of("rig", rig, (*RIG_NAMES, FILE_RIG))
        if rig != FILE_RIG:
            return named_rig(rig)
        if not rig_file:
            raise ValueError("rig: expected a rig or scene file, got none; upload one, or choose a named rig")
        return self._read(rig_file)[0]

    def _read(self, rig_file: str) -> tuple[CameraRig, Scene | None]:
        """Rig and scene of an uploaded file, of no more cameras than a visitor may ask for."""
        rig, scene = read_scene_file(inside(self.folder, rig_file))
        if rig.num_cameras > self.limits.cameras:
            raise ValueError(
                f"rig: expected at most {self.limits.cameras} cameras, got {rig.num_cameras}; take some out"
            )
        return rig, scene

    def form_of(self, values: Mapping[str, Any]) -> Form:
        """The form that the controls make.

        Args:
            values: "drawing", "rig", "rig_file", "seconds", "prompt", and "metadata" by name.

        Raises:
            ValueError: If a value cannot be meant.
        """
        seconds = real_number("seconds", values["seconds"], above=0, what="seconds")
        if seconds > self.limits.seconds + 1e-6:
            raise ValueError(f"seconds: expected at most {self.limits.seconds:g}, got {seconds:g}; ask for fewer")
        metadata = {name: value for name, value in values["metadata"].items() if value not in (None, ABSENT)}
        return Form(
            rig=self.rig_of(values["rig"], values["rig_file"]),
            num_frames=frames_of(seconds, self.frame_rate, self.pipe.vae.frames_per_latent),
            frame_rate=self.frame_rate,
            metadata=metadata,
            prompt=values["prompt"] or "",
            **read_drawing(values["drawing"]),
        )

    def form_of_file(self, rig_file: str) -> tuple[CameraRig, Form | None]:
        """The rig of an uploaded file, and the form that asks for the beginning of its scene if it has one.

        Raises:
            ValueError: If it is no rig and no scene.
        """
        rig, scene = self._read(rig_file)
        if scene is None:
            return rig, None
        return rig, Form.from_scene(self._cut(scene))

    def _cut(self, scene: Scene) -> Scene:
        """The beginning of a scene at the model's frame rate: whole latents, of which a visitor may ask for so many."""
        rate = self.pipe.vae.frames_per_latent
        regular = scene.resample(frame_rate=self.frame_rate)
        frames = min(regular.num_frames, frames_of(self.limits.seconds, self.frame_rate, rate))
        return regular.window(0, frames // rate * rate or frames)

    def task_of(self, name: str, values: Mapping[str, Any]) -> Task:
        """The task of a tab.

        Args:
            name: One of `TASKS`.
            values: "source", and what the tab asks for: "context", "strength", "mask" and "agents".

        Raises:
            ValueError: If a file was not uploaded.
        """
        one_of("task", name, TASKS)
        if name == "generate":
            return Scratch()
        source = tuple(inside(self.folder, path) for path in values["source"] or ())
        if name == "continue":
            return Continue(source, values["context"])
        if name == "edit":
            return Edit(source, values["strength"])
        return Inpaint(source, values["mask"] or {}, values["agents"])

    def pictures_of(self, source: Sequence[str] | None, values: Mapping[str, Any]) -> list[dict[str, str]]:
        """The first picture of each camera of a source, to paint on: "name", and "picture" as a data address.

        Raises:
            ValueError: If the source is not a video of each camera of the rig.
        """
        if not source:
            return []
        names = self.rig_of(values["rig"], values["rig_file"]).names
        paths = match_cameras([inside(self.folder, path) for path in source], names)
        frames = read_source(paths, tuple(self.pipe.vae.config.sample_size), self.frame_rate, 1)[0]
        return [{"name": name, "picture": _address(frame)} for name, frame in zip(names, frames, strict=True)]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the cells that a mask is painted with."""
        return grid_of(self.pipe)

    def run(self, visitor: str, name: str, values: Mapping[str, Any]) -> Iterator[Progress]:
        """Check a task at once, wait for its turn, and do it; closing the iterator cancels it.

        Args:
            visitor: Who asks; `cancel` takes the same.
            name: One of `TASKS`.
            values: Of the controls: those of `form_of` and `task_of`, and "steps", "guidance" and "seed".

        Yields:
            How far it is, when that changes and once a second; the last one has the result.

        Raises:
            ValueError: If a value cannot be meant; before anything is computed.
            Cancelled: If it was cancelled.
        """
        settings = Settings(values["steps"], values["guidance"], values["seed"], self.limits.steps)
        order = prepare(self.pipe, self.form_of(values), settings, self.task_of(name, values))
        remove_old(self.folder, 3600 * self.limits.keep_hours)
        job = self.worker.submit(lambda job: write_result(order.run(job), self.folder), order.steps)
        with self._lock:
            self._jobs.setdefault(visitor, set()).add(job)
        try:
            told: tuple[int, int] | None = None
            since = 0.0
            while not job.wait(POLL_SECONDS if told else 0.0):
                now = (self.worker.ahead(job), job.done)
                if now != told or time.monotonic() - since > BEAT_SECONDS:
                    yield Progress(*now, job.steps)
                    told, since = now, time.monotonic()
            yield Progress(0, job.done, job.steps, job.outcome(), order.notes)
        finally:
            job.cancel()
            with self._lock:
                self._jobs[visitor].discard(job)
                if not self._jobs[visitor]:
                    del self._jobs[visitor]

    def cancel(self, visitor: str) -> int:
        """Cancel all that a visitor has under way; gives how many."""
        with self._lock:
            jobs = list(self._jobs.get(visitor, ()))
        for job in jobs:
            job.cancel()
        return len(jobs)

    def close(self) -> None:
        """Cancel everything and end the queue."""
        self.worker.close()


def sight(rig: CameraRig, reach: float = 40.0) -> list[dict[str, Any]]:
    """What each camera sees at the height of its axis, from above: "name", and "corners" x and y in metres.

    Args:
        rig: The cameras.
        reach: Metres that are shown of it.

    Example:
        >>> [round(corner[1]) for corner in sight(named_rig("front"))[0]["corners"]]
        [0, 23, -23]
    """
    found = []
    for name, size, lens, pose in zip(rig.names, rig.image_size, rig.intrinsics, rig.extrinsics, strict=True):
        edges = np.array([[(0 - lens[0, 2]) / lens[0, 0], 0, 1], [(size[1] - lens[0, 2]) / lens[0, 0], 0, 1]])
        rays = edges / np.linalg.norm(edges, axis=1, keepdims=True) @ pose[:3, :3].T
        corners = np.concatenate([np.zeros((1, 2)), reach * rays[:, :2]]) + pose[:2, 3]
        found.append({"name": name, "corners": corners.round(2).tolist()})
    return found


def _address(frame: np.ndarray) -> str:
    """A picture `(3, hv, wv)` uint8 as an address that holds it."""
    file = io.BytesIO()
    Image.fromarray(frame.transpose(1, 2, 0)).save(file, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
