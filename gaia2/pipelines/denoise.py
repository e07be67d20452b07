"""The denoising loop that all tasks share (paper §5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange

from gaia2.pipelines.guided_velocity import GuidedVelocity
from gaia2.pipelines.state import CallState
from gaia2.schedulers.diffusers_adapter import FlowScheduler
from gaia2.schedulers.flow_match import Generators

StepCallback = Callable[[int, torch.Tensor, dict[str, torch.Tensor | None]], torch.Tensor]


def denoise(
    velocity_of: GuidedVelocity,
    scheduler: FlowScheduler,
    latents: torch.Tensor,
    state: CallState,
    *,
    known_mask: torch.Tensor | None = None,
    generator: Generators = None,
    on_step: StepCallback | None = None,
) -> torch.Tensor:
    """Integrate the velocity from noise, or from data noised to where the grid begins, to data.

    Args:
        velocity_of: Predicts the velocity.
        scheduler: Makes the steps; its grid is laid.
        latents: Latents `(b, t, n, h, w, c)` at the flow time where the grid begins, but as they are where
            `known_mask` is true.
        state: Says before each step how it is guided and whether to go on; gets the step's flow time.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given; they stay bit-equal.
        generator: Random numbers for schedulers that draw some.
        on_step: Called with step index, flow time and tensors ("latents", "velocity", "known_mask") after each step;
            gives the latents to go on with.

    Returns:
        Latents `(b, t, n, h, w, c)`.
    """
    token_mask = None if known_mask is None else rearrange(known_mask, "b t n h w -> b t n h w 1")
    times = scheduler.timesteps.tolist()  # once: reading a number waits for the device
    for index, tau in enumerate(scheduler.timesteps):
        state.tau = times[index]
        if state.interrupt:
            break
        scale = state.guidance.scale_at(times[index])
        velocity = velocity_of(latents, tau, scale=scale, step=index, num_steps=len(times))
        latents = scheduler.step(velocity, tau, latents, known_mask=token_mask, generator=generator, return_dict=False)[
            0
        ]
        if on_step is not None:
            latents = on_step(index, tau, {"latents": latents, "velocity": velocity, "known_mask": known_mask})
    return latents
