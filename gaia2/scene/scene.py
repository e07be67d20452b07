"""`Scene`: all that a user says about what to generate. Numpy only."""

from __future__ import annotations

import json
import os
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gaia2._checks import real_number, whole_number
from gaia2._files import replacing
from gaia2.scene.agents import Agents
from gaia2.scene.camera_rig import CameraRig
from gaia2.scene.extra import AxisArray, check_extra
from gaia2.scene.named_rigs import named_rig
from gaia2.scene.scene_fields import (
    MAX_FRAMES,
    check_embedding,
    check_frame_rate,
    check_per_frame,
    check_timestamps,
    regular_times,
)
from gaia2.scene.validation import FrozenRecord, check_keys, nearest, to_json_value
from gaia2.scene.vocabulary import METADATA, check_metadata, is_metadata_name

__all__ = ["SCENE_VERSION", "Scene"]

CREATE_ARGUMENTS = ("rig", "num_frames", "frame_rate", "speed", "curvature", "agents", "prompt")
"""Arguments of `Scene.create` besides metadata."""

SCENE_VERSION = 1
"""Version of the JSON layout that `Scene.to_json` writes and `Scene.from_json` reads."""


@dataclass(frozen=True, eq=False)
class Scene(FrozenRecord):
    """A multi-camera driving scene: who looks, when, how the ego vehicle moves, who else is there, and what it is like.

    Frozen, its arrays read-only; `replace`, `window` and `resample` give new ones.

    Args:
        rig: The n cameras.
        timestamps: (tv, n) seconds, strictly increasing for each camera; (tv,) holds for all cameras.
        speed: (tv,) m/s along the ego x axis, negative in reverse, NaN where absent. A number holds for every frame;
            None, the default: Absent.
        curvature: (tv,) of the driven path in 1/m, positive to the left, NaN where absent; as `speed`.
        agents: Boxes of the other road users; None, the default: there are none.
        metadata: Name to value for names of `METADATA`, and for names of your own, which begin with `x_` and stand in
            the vocabulary of the world model's config; a name left out, or None, is absent.
        prompt: What the scene shows, in words.
        clip_embedding: (d,) CLIP embedding of an image or a text; used instead of `prompt` where both are given.
        scenario_embedding: (d,) embedding of the scenario.
        extra: Data of conditions of your own by name, each an `AxisArray` or a pair of its axes and values, such as
            `{"lanes": ("tv k p c", array)}`; `tv` are the frames and `n` the cameras of the scene.

    Raises:
        ValueError: A shape does not fit, a value is infinite, or NaN where it cannot be absent, timestamps go back, or
            a metadata name or value is unknown.

    Example:
        >>> scene = Scene.create("surround3", num_frames=24, speed=12.0, weather="rain", time_of_day="night")
        >>> scene.replace(weather="snow").metadata["weather"], scene.window(0, 8).num_frames
        ('snow', 8)
        >>> Scene.from_json(scene.to_json()) == scene
        True
    """

    rig: CameraRig
    timestamps: np.ndarray
    speed: np.ndarray
    curvature: np.ndarray
    agents: Agents
    metadata: Mapping[str, str | int | bool]
    prompt: str | None
    clip_embedding: np.ndarray | None
    scenario_embedding: np.ndarray | None
    extra: Mapping[str, AxisArray]

    def __init__(
        self,
        rig: CameraRig,
        timestamps: npt.ArrayLike,
        speed: npt.ArrayLike | None = None,
        curvature: npt.ArrayLike | None = None,
        agents: Agents | None = None,
        metadata: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        clip_embedding: npt.ArrayLike | None = None,
        scenario_embedding: npt.ArrayLike | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(rig, CameraRig):
            raise ValueError(f"rig: expected a CameraRig, got {type(rig).__name__}; named_rig(name) makes one")
        times = check_timestamps(timestamps, rig.names)
        tv = times.shape[0]
        if agents is None:
            agents = Agents.empty(tv)
        if not isinstance(agents, Agents):
            raise ValueError(f"agents: expected Agents, got {type(agents).__name__}; use Agents(boxes, category)")
        if agents.num_frames != tv:
            raise ValueError(
                f"agents: expected {tv} frames as in timestamps, got {agents.num_frames}; use agents.take(frames) to "
                "choose frames"
            )
        if prompt is not None and not isinstance(prompt, str):
            raise ValueError(f"prompt: expected a string or None, got {type(prompt).__name__}")
        self._set(
            rig=rig,
            timestamps=times,
            speed=check_per_frame("speed", speed, tv),
            curvature=check_per_frame("curvature", curvature, tv),
            agents=agents,
            metadata=types.MappingProxyType(check_metadata({} if metadata is None else metadata)),
            prompt=prompt,
            clip_embedding=check_embedding("clip_embedding", clip_embedding),
            scenario_embedding=check_embedding("scenario_embedding", scenario_embedding),
            extra=types.MappingProxyType(check_extra({} if extra is None else extra, tv, rig.num_cameras)),
        )

    def __repr__(self) -> str:
        extras = {**self.metadata, "prompt": self.prompt}
        words = [f"{name}={value!r}" for name, value in extras.items() if value is not None]
        cameras = " ".join(self.rig.names)
        most = self.agents.most_at_once
        head = f"{self.num_frames} frames of {cameras}, {self.duration:.2f} s, up to {most} agents"
        return f"Scene({', '.join([head, *words])})"

    @classmethod
    def create(
        cls,
        rig: str | CameraRig = "surround",
        num_frames: int = 24,
        frame_rate: float = 10.0,
        speed: npt.ArrayLike | None = 10.0,
        curvature: npt.ArrayLike | None = 0.0,
        agents: Agents | None = None,
        prompt: str | None = None,
        **metadata: str | int | bool | None,
    ) -> Scene:
        """Return a scene whose cameras all take a frame at the same, regular times, from 0 s.

        Args:
            rig: A rig or the name of one (see `gaia2.scene.named_rigs`).
            num_frames: Number of frames tv.
            frame_rate: Frames a second.
            speed: M/s, a constant or (tv,); None: absent.
            curvature: 1/m, positive to the left, a constant or (tv,); None: absent.
            agents: Boxes of the other road users.
            prompt: What the scene shows, in words.
            **metadata: Names and values of `METADATA`.

        Raises:
            ValueError: As for `Scene`, or an unknown rig, or a number of frames or frame rate that is not positive.

        Example:
            >>> Scene.create("front", num_frames=8, frame_rate=20.0, speed=5.0, country="uk").timestamps[-1].tolist()
            [0.35]
        """
        rig = named_rig(rig) if isinstance(rig, str) else rig
        if not isinstance(rig, CameraRig):
            raise ValueError(f"rig: expected a CameraRig or the name of a rig, got {type(rig).__name__}")
        for name in metadata:
            if not is_metadata_name(name):
                known = [*CREATE_ARGUMENTS, *METADATA]
                raise ValueError(
                    f"Scene.create: unknown argument {name!r}; did you mean {nearest(name, known)!r}? "
                    f"Expected one of: {', '.join(known)}"
                )
        times = regular_times(num_frames, frame_rate)
        return cls(rig, times, speed, curvature, agents, metadata, prompt)

    @property
    def num_frames(self) -> int:
        """Number of frames tv."""
        return self.timestamps.shape[0]

    @property
    def frame_times(self) -> np.ndarray:
        """(tv,) time of each frame in seconds, the mean over its cameras."""
        return self.timestamps.mean(axis=1)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last one."""
        return float(self.frame_times[-1] - self.frame_times[0])

    def replace(self, **changes: Any) -> Scene:
        """Return a scene with some fields or metadata changed.

        Args:
            **changes: Fields of `Scene` and names of `METADATA`; None removes. With a new `rig` of another number of
                cameras the timestamps are kept if all cameras share them.

        Raises:
            ValueError: A name is neither a field nor a metadata name, or the new scene is not valid.

        Example:
            >>> scene = Scene.create("front", weather="rain").replace(weather=None, time_of_day="dusk", speed=3.0)
            >>> dict(scene.metadata), scene.speed[0].item()
            ({'time_of_day': 'dusk'}, 3.0)
        """
        values = self._values()
        known = [*values, *METADATA]
        for name in changes:
            if name not in known and not is_metadata_name(name):
                raise ValueError(
                    f"replace: unknown name {name!r}; did you mean {nearest(name, known)!r}? "
                    f"Expected one of: {', '.join(known)}"
                )
        values.update({name: value for name, value in changes.items() if name in values})
        entries = {name: value for name, value in changes.items() if is_metadata_name(name)}
        if entries:
            values["metadata"] = {**(values["metadata"] or {}), **entries}
        if "rig" in changes and "timestamps" not in changes and (self.timestamps == self.timestamps[:, :1]).all():
            values["timestamps"] = self.timestamps[:, 0]
        return Scene(**values)

    def window(self, start: int, stop: int) -> Scene:
        """Return frames `start` to `stop`, the last one left out; timestamps stay as they are.

        Raises:
            ValueError: Not 0 <= start < stop <= num_frames.

        Example:
            >>> Scene.create("front", num_frames=24).window(8, 16).timestamps[0].tolist()
            [0.8]
        """
        agents, frames = self.agents.window(start, stop), np.arange(start, stop)
        return self.replace(
            timestamps=self.timestamps[start:stop],
            speed=self.speed[start:stop],
            curvature=self.curvature[start:stop],
            agents=agents,
            extra={name: array.take("tv", frames) for name, array in self.extra.items()},
        )

    def resample(self, *, frame_rate: float, num_frames: int | None = None, start: float = 0.0) -> Scene:
        """Return the scene at regular times, the same for all cameras.

        Speed and curvature are interpolated linearly; agents and extra data are those of the nearest frame, as they
        were in it. The last frame counts for one mean frame period, so 24 frames at 10 Hz give 48 at 20 Hz.

        Args:
            frame_rate: New frames a second.
            num_frames: Number of new frames; None: as many as fit.
            start: Seconds from the first frame to the first new one.

        Returns:
            The scene on the same clock: its first timestamp is that of this scene's first frame plus `start`.

        Raises:
            ValueError: A frame rate or number of frames that is not positive, or times outside of this scene.

        Example:
            >>> scene = Scene.create("front", num_frames=3, frame_rate=10.0, speed=[0.0, 1.0, 2.0])
            >>> scene.resample(frame_rate=20.0).speed.tolist()
            [0.0, 0.5, 1.0, 1.5, 2.0, 2.0]
        """
        check_frame_rate(frame_rate)
        real_number("start", start, 0.0, what="seconds from the first frame")
        if num_frames is not None:
            whole_number("num_frames", num_frames, 1, MAX_FRAMES)
        own = self.frame_times - self.frame_times[0]
        period = own[-1] / (self.num_frames - 1) if self.num_frames > 1 else 0.0
        slack = 1e-6 * max(period, 1 / frame_rate)
        if num_frames is None:
            num_frames = max(1, int(np.ceil((own[-1] + period - start - slack) * frame_rate)))
        times = start + regular_times(num_frames, frame_rate)
        if times[-1] > own[-1] + period + slack:
            raise ValueError(
                f"resample: expected times within the scene, 0 to {own[-1]:.3f} s, got {times[0]:.3f} to "
                f"{times[-1]:.3f} s; ask for fewer frames or another start"
            )
        nearest_frame = np.searchsorted((own[1:] + own[:-1]) / 2, times - slack)
        return self.replace(
            timestamps=np.tile(self.frame_times[0] + times[:, None], (1, self.rig.num_cameras)),
            speed=np.interp(times, own, self.speed),
            curvature=np.interp(times, own, self.curvature),
            agents=self.agents.take(nearest_frame),
            extra={name: array.take("tv", nearest_frame) for name, array in self.extra.items()},
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the scene as JSON values, None for NaN. `from_dict` gives it back exactly."""
        embeddings = {"clip_embedding": self.clip_embedding, "scenario_embedding": self.scenario_embedding}
        return {
            "version": SCENE_VERSION,
            "rig": self.rig.to_dict(),
            "timestamps": to_json_value(self.timestamps),
            "speed": to_json_value(self.speed),
            "curvature": to_json_value(self.curvature),
            "agents": self.agents.to_dict(),
            "metadata": dict(self.metadata),
            "prompt": self.prompt,
            **{name: None if value is None else to_json_value(value) for name, value in embeddings.items()},
            **({"extra": {name: array.to_dict() for name, array in self.extra.items()}} if self.extra else {}),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scene:
        """Return the scene that `to_dict` wrote; all but `version`, `rig` and `timestamps` may be left out.

        `rig` may also be the name of a rig.

        Raises:
            ValueError: Another version, a key is missing or unknown, or a value is not valid.

        Example:
            >>> Scene.from_dict({"version": 1, "rig": "front", "timestamps": [0.0, 0.1]}).num_frames
            2
        """
        version = data.get("version", SCENE_VERSION) if isinstance(data, Mapping) else SCENE_VERSION
        if type(version) is not int or version != SCENE_VERSION:
            raise ValueError(
                f"scene: expected version {SCENE_VERSION}, got {version!r}; write the file again with this "
                "version of gaia2, or install the one that wrote it"
            )
        required = ("version", "rig", "timestamps")
        values = check_keys("scene", data, required, [f.name for f in fields(cls) if f.name not in required])
        del values["version"]
        rig = values.pop("rig")
        agents = values.pop("agents", None)
        extra = values.pop("extra", None)
        if isinstance(extra, Mapping):
            extra = {name: AxisArray.from_dict(array) for name, array in extra.items()}
        return cls(
            rig=named_rig(rig) if isinstance(rig, str) else CameraRig.from_dict(rig),
            agents=None if agents is None else Agents.from_dict(agents),
            extra=extra,
            **values,
        )

    def to_json(self) -> str:
        """Return the scene as strict JSON text (null for NaN). `from_json` gives it back exactly."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Scene:
        """Return the scene of JSON text that `to_json` wrote.

        Raises:
            ValueError: Not strict JSON, or as for `from_dict`.
        """
        try:
            data = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_refuse_repeated_keys)
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"scene: expected strict JSON, got text that is not ({error}); see Scene.to_json"
            ) from error
        return cls.from_dict(data)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the scene to a JSON file; a file that is there is replaced at once or, on an error, not touched.

        Missing folders are made.
        """
        with replacing(path) as unfinished:
            unfinished.write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Scene:
        """Return the scene of a JSON file that `save` wrote.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file does not hold a valid scene of this version.

        Example:
            >>> import tempfile
            >>> scene = Scene.create("front", speed=4.0)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     scene.save(f"{folder}/scene.json")
            ...     Scene.load(f"{folder}/scene.json") == scene
            True
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"scene file: expected a JSON file that Scene.save wrote, found none at {path}")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: expected a scene as JSON in UTF-8, got other bytes ({error})") from error
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _refuse_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands there more than once")
    return values


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON, use null")
