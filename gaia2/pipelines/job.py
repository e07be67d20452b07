"""What one call of a pipeline is about, once it is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gaia2.pipelines.sampling import Sampling
from gaia2.scene import Scene
from gaia2.schedulers.diffusers_adapter import FlowScheduler
from gaia2.schedulers.flow_match import Generators

StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]


@dataclass(frozen=True)
class Job:
    """One call of a pipeline, checked: what to generate, and how to sample it.

    Attributes:
        scenes: The scenes of the batch at the size of the frames.
        shape: Of all latents, `(b, t, n, h, w, c)`.
        sampling: How to sample.
        scheduler: Has the grid of flow times; each window steps a copy of it.
        generator: Random numbers.
        callback: Called after each step.
        callback_tensors: Names of the tensors it gets.
        videos_per_scene: How often each scene of the user's is in the batch, one after the other.
    """

    scenes: list[Scene]
    shape: tuple[int, ...]
    sampling: Sampling
    scheduler: FlowScheduler
    generator: Generators = None
    callback: StepEndCallback | None = None
    callback_tensors: Sequence[str] = ("latents",)
    videos_per_scene: int = 1
