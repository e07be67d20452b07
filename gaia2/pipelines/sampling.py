"""How to sample, as opposed to what to generate: steps, guidance, and what a window is given of the one before."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin

from gaia2._checks import real_number, refuse, true_or_false, whole_number
from gaia2.pipelines.guidance import Guidance
from gaia2.schedulers.diffusers_adapter import FlowScheduler, as_flow_scheduler
from gaia2.schedulers.linear_quadratic import MAX_STEPS


@dataclass(frozen=True)
class Sampling:
    """How to sample a video. The solver and its grid are the scheduler's.

    Attributes:
        num_inference_steps: Steps of the scheduler's own grid for each window (paper: 50).
        timesteps: Flow times of your own, where each step begins, in place of that grid.
        begin: Flow time at which the steps begin; 0 is noise, editing begins later.
        guidance: What to guide on, how strongly, where and when; by default as strongly as the checkpoint says.
        num_context_latents: Latents that a window takes over from the one before (paper: 3 of 6); None is half of the
            world model's window.
        context_noise: Noise level `1 - tau`, 0 to below 1, that the network gets the context with.
        reanchor: Whether the context is decoded and encoded again before each window after the first.
        sample_posterior: Whether frames that are encoded become a sample of their latents, as the paper's, or the mean.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> Sampling(num_inference_steps=20, guidance=Guidance(scale=3.0)).overlap(window_latents=6)
        3
    """

    num_inference_steps: int = 50
    timesteps: Sequence[float] | None = None
    begin: float = 0.0
    guidance: Guidance = field(default_factory=Guidance)
    num_context_latents: int | None = None
    context_noise: float = 0.0
    reanchor: bool = False
    sample_posterior: bool = True

    def __post_init__(self) -> None:
        if self.timesteps is None:
            whole_number("num_inference_steps", self.num_inference_steps, 1, MAX_STEPS)
        real_number("begin", self.begin, 0, below=1, what="a flow time")
        real_number("context_noise", self.context_noise, 0, below=1, what="a noise level")
        for name in ("reanchor", "sample_posterior"):
            true_or_false(name, getattr(self, name))
        if not isinstance(self.guidance, Guidance):
            raise refuse("guidance", "a Guidance", self.guidance)
        if self.num_context_latents is not None:
            whole_number("num_context_latents", self.num_context_latents, None)

    def overlap(self, window_latents: int) -> int:
        """Latents that a window of a world model takes over from the one before.

        Raises:
            ValueError: If so many leave no room for a new one.
        """
        overlap = window_latents // 2 if self.num_context_latents is None else self.num_context_latents
        if not 1 <= overlap < window_latents:
            raise ValueError(f"num_context_latents: expected 1 to {window_latents - 1}, got {overlap}")
        return overlap

    def lay(self, scheduler: SchedulerMixin | FlowScheduler, device: torch.device | str | None = None) -> FlowScheduler:
        """A copy of a scheduler with the grid of flow times laid; the scheduler itself stays as it is.

        Raises:
            ValueError: If the scheduler is none of flow matching, or cannot have this grid.

        Example:
            >>> from gaia2.schedulers import FlowMatchScheduler
            >>> Sampling(timesteps=(0.0, 0.5, 0.75), begin=0.625).lay(FlowMatchScheduler()).timesteps
            tensor([0.6250, 0.7500])
        """
        laid = as_flow_scheduler(copy.deepcopy(scheduler))
        if self.timesteps is None:
            laid.set_timesteps(self.num_inference_steps, device=device)
        else:
            laid.set_timesteps(timesteps=self.timesteps, device=device)
        if self.begin:
            laid.begin_at(self.begin)
        return laid
