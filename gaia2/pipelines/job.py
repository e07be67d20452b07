"""What one call of a pipeline is about, once it is checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gaia2.conditioning.scene import Scene
from gaia2.pipelines.denoise import Grid
from gaia2.pipelines.guidance import Guidance
from gaia2.schedulers.diffusers_adapter import FlowScheduler
from gaia2.schedulers.flow_match import Generators

StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]
Begin = Callable[[int, int], tuple[torch.Tensor, torch.Tensor | None]]
"""From first and last latent time to the latents to denoise there and which of their tokens are known."""


@dataclass(frozen=True)
class Job:
    """One call of a pipeline, checked.

    Attributes:
        scenes: The scenes of the batch at the size of the frames.
        conditioned: The same with the embeddings of their prompts.
        scheduler: Makes the steps.
        grid: The flow times.
        guidance: What to guide on, how strongly, where and when.
        overlap: Latents that a window takes over from the one before.
        shape: Of all latents, `(b, t, n, h, w, c)`.
        generator: Random numbers.
        callback: Called after each step.
        callback_tensors: Names of the tensors it gets.
        videos_per_scene: How often each scene of the user's is in the batch, one after the other.
        context_noise: Noise level `1 - tau` that context latents are given to the network with.
        reanchor: Whether context latents are decoded and encoded before each window.
    """

    scenes: list[Scene]
    conditioned: list[Scene]
    scheduler: FlowScheduler
    grid: Grid
    guidance: Guidance
    overlap: int
    shape: tuple[int, ...]
    generator: Generators = None
    callback: StepEndCallback | None = None
    callback_tensors: Sequence[str] = ("latents",)
    videos_per_scene: int = 1
    context_noise: float = 0.0
    reanchor: bool = False
