"""`Form`: what stands in the page, as plain values; to a `Scene` and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gaia2._checks import real_number, refuse, whole_number
from gaia2.app.drawn_agents import DrawnAgent, from_agents, to_agents
from gaia2.scene import CameraRig, Scene, ego_poses, named_rig
from gaia2.scene.scene_fields import MAX_CURVATURE, MAX_SPEED, regular_times
from gaia2.scene.validation import check_keys

MAX_AGENTS = 64
MAX_KNOTS = 10_000
MAX_PROMPT = 1000
_LIMITS = {"speed": (MAX_SPEED, "m/s"), "curvature": (MAX_CURVATURE, "1/m")}
_KNOTS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16)
_SAME = 1e-6


@dataclass(frozen=True)
class Form:
    """The scene that stands in the page.

    Attributes:
        rig: The cameras, or the name of a rig.
        num_frames: Frames tv of the video.
        frame_rate: Frames a second.
        speed: M/s of the ego vehicle at knots spread evenly from the first frame to the last, straight lines between
            them; None leaves the speed to the model.
        curvature: 1/m of its path, positive to the left; likewise.
        agents: The other road users. Where the ego motion is left to the model they move relative to the vehicle.
        metadata: Name to value.
        prompt: What the scene shows, in words; "" is none.

    Raises:
        ValueError: If a value cannot be meant.

    Example:
        >>> form = Form(rig="front", num_frames=8, speed=(0.0, 7.0), agents=(DrawnAgent("car", 20.0, 0.0),))
        >>> scene = form.to_scene()
        >>> scene.speed.round(6).tolist(), scene.agents.boxes[[0, -1], 0, 0].round(2).tolist()
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [20.0, 17.55])
        >>> Form.from_scene(scene).speed
        (0.0, 7.0)
    """

    rig: CameraRig | str = "surround"
    num_frames: int = 24
    frame_rate: float = 10.0
    speed: tuple[float, ...] | None = (8.0,)
    curvature: tuple[float, ...] | None = (0.0,)
    agents: tuple[DrawnAgent, ...] = ()
    metadata: Mapping[str, str | int | bool] = field(default_factory=dict)
    prompt: str = ""

    def __post_init__(self) -> None:
        for name, (limit, unit) in _LIMITS.items():
            knots = getattr(self, name)
            if knots is None:
                continue
            if not isinstance(knots, list | tuple) or not 1 <= len(knots) <= MAX_KNOTS:
                raise refuse(name, f"1 to {MAX_KNOTS} numbers in {unit}, or none", knots)
            for number in knots:
                real_number(name, number, -limit, limit, what=unit)
        if len(self.agents) > MAX_AGENTS:
            raise ValueError(f"agents: expected at most {MAX_AGENTS}, got {len(self.agents)}; take the far ones away")
        if not isinstance(self.prompt, str) or len(self.prompt) > MAX_PROMPT:
            raise refuse("prompt", f"at most {MAX_PROMPT} letters", self.prompt)

    def to_scene(self) -> Scene:
        """The scene that the form asks for; its first frame is at 0 s.

        Raises:
            ValueError: If rig, number of frames, frame rate or metadata cannot be meant.
        """
        times = regular_times(self.num_frames, self.frame_rate)
        speed, curvature = (_spread(knots, len(times)) for knots in (self.speed, self.curvature))
        ego = ego_poses(times, np.nan_to_num(speed), np.nan_to_num(curvature))
        return Scene(
            rig=named_rig(self.rig) if isinstance(self.rig, str) else self.rig,
            timestamps=times,
            speed=speed,
            curvature=curvature,
            agents=to_agents(self.agents, times, ego),
            metadata=self.metadata,
            prompt=self.prompt or None,
        )

    @classmethod
    def from_scene(cls, scene: Scene) -> Form:
        """The form that asks for a scene.

        The frames are taken as regular. A speed or curvature that is absent in some frame is left to the model in
        all; an agent keeps the size and height of its first frame; embeddings and extra data have no place in a form.
        """
        times = scene.frame_times - scene.frame_times[0]
        ego = ego_poses(times, np.nan_to_num(scene.speed), np.nan_to_num(scene.curvature))
        return cls(
            rig=scene.rig,
            num_frames=scene.num_frames,
            frame_rate=(scene.num_frames - 1) / scene.duration if scene.num_frames > 1 else 10.0,
            speed=_knots(scene.speed),
            curvature=_knots(scene.curvature),
            agents=tuple(from_agents(scene.agents, times, ego)),
            metadata=dict(scene.metadata),
            prompt=scene.prompt or "",
        )

    def drawing(self) -> dict[str, Any]:
        """What the drawing holds, as JSON values: speed, curvature and agents; `read_drawing` reads it."""
        return {
            "speed": None if self.speed is None else list(self.speed),
            "curvature": None if self.curvature is None else list(self.curvature),
            "agents": [agent.to_dict() for agent in self.agents],
        }


def read_drawing(data: Any) -> dict[str, Any]:
    """The fields of a `Form` that a drawing holds.

    Args:
        data: JSON values, of anybody.

    Raises:
        ValueError: If they are not what `Form.drawing` gives.

    Example:
        >>> read_drawing({"speed": [5.0], "curvature": None, "agents": []})["speed"]
        (5.0,)
    """
    values = check_keys("drawing", data, ("speed", "curvature", "agents"))
    agents = values["agents"]
    if not isinstance(agents, list) or len(agents) > MAX_AGENTS:
        raise refuse("agents", f"at most {MAX_AGENTS} agents in a list", agents)
    for name in _LIMITS:
        if isinstance(values[name], list):
            values[name] = tuple(values[name])
    read = []
    for number, agent in enumerate(agents, 1):
        try:
            read.append(DrawnAgent.from_dict(agent))
        except ValueError as error:
            raise ValueError(f"agent {number}: {error}") from error
    return {**values, "agents": tuple(read)}


def frames_of(seconds: float, frame_rate: float, frames_per_latent: int) -> int:
    """Frames of the whole latents that last about so many seconds, one latent at least.

    Example:
        >>> frames_of(2.3, 10.0, 8)
        24
    """
    real_number("seconds", seconds, above=0, what="seconds")
    whole_number("frames_per_latent", frames_per_latent)
    return max(1, round(seconds * frame_rate / frames_per_latent)) * frames_per_latent


def choices(vocabulary: Mapping[str, int | Sequence[Any]]) -> dict[str, list[Any]]:
    """The values that a model's vocabulary offers for each metadata name.

    Example:
        >>> choices({"weather": ("clear", "rain"), "one_way": (False, True), "x_district": 2})
        {'weather': ['clear', 'rain'], 'one_way': [False, True], 'x_district': [0, 1]}
    """
    return {name: list(range(values) if isinstance(values, int) else values) for name, values in vocabulary.items()}


def _spread(knots: Sequence[float] | None, num_frames: int) -> np.ndarray:
    """Knots spread over the frames, straight lines between them; NaN where there are none."""
    if knots is None:
        return np.full(num_frames, np.nan)
    return np.interp(np.linspace(0, len(knots) - 1, num_frames), np.arange(len(knots)), knots)


def _knots(values: np.ndarray) -> tuple[float, ...] | None:
    """The fewest evenly spread knots that give values `(tv,)`; None if one of them is absent."""
    if not np.isfinite(values).all():
        return None
    frames = np.linspace(0, 1, len(values))
    for number in _KNOTS:
        if number >= len(values):
            break
        knots = np.interp(np.linspace(0, 1, number), frames, values)
        if np.abs(_spread(knots.tolist(), len(values)) - values).max() < _SAME:
            return tuple(knots.tolist())
    return tuple(values.tolist())
