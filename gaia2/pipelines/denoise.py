"""The denoising loop that all tasks share, and the windows of a long video (paper §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange

from gaia2.conditioning.dropout import drop_all
from gaia2.models.world_model import WorldModel
from gaia2.schedulers.flow_match import FlowMatchScheduler

StepCallback = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Window:
    """One stretch of a long video, in latent times.

    Attributes:
        start: First latent time.
        stop: One past the last.
        context: Latent times at its beginning that are there already.
    """

    start: int
    stop: int
    context: int


def windows(length: int, window: int, overlap: int, given: int = 0) -> Iterator[Window]:
    """Cut a video into windows that each begin with `overlap` latents of what is there (paper §5).

    Args:
        length: Latent times of the whole video.
        window: Latent times of a window.
        overlap: Latent times that a window shares with what came before.
        given: Latent times at the beginning that the user gave.

    Yields:
        Windows that together make the latent times from `given` to `length`; the last may begin with a longer context
        so that it, too, is `window` long.

    Example:
        >>> [(w.start, w.stop, w.context) for w in windows(7, window=3, overlap=1)]
        [(0, 3, 0), (2, 5, 1), (4, 7, 1)]
    """
    done = given
    while done < length:
        stop = min(max(0, done - overlap) + window, length)
        start = max(0, stop - window)
        yield Window(start=start, stop=stop, context=done - start)
        done = stop


def denoise(
    transformer: WorldModel,
    scheduler: FlowMatchScheduler,
    latents: torch.Tensor,
    conditioning: dict[str, torch.Tensor],
    *,
    num_inference_steps: int,
    known_mask: torch.Tensor | None = None,
    guidance_scale: float = 1.0,
    on_step: StepCallback | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> torch.Tensor:
    """Integrate the velocity from noise to data.

    Args:
        transformer: Predicts the velocity.
        scheduler: Makes the steps.
        latents: Noise `(b, t, n, h, w, c)`, but the latents themselves where `known_mask` is true.
        conditioning: The world model's conditions.
        num_inference_steps: Steps.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given; they stay bit-equal.
        guidance_scale: Classifier-free guidance `v = v_u + s (v_c - v_u)`; 1 is none, and costs one forward a step.
        on_step: Called with step index, flow time and latents after each step; gives the latents to go on with.
        interrupted: Asked before each step; true ends the loop.

    Returns:
        Latents `(b, t, n, h, w, c)`.
    """
    scheduler.set_timesteps(num_inference_steps, device=latents.device)
    guided = guidance_scale != 1.0
    unconditional = drop_all(conditioning) if guided else None
    token_mask = None if known_mask is None else rearrange(known_mask, "b t n h w -> b t n h w 1")
    for index, tau in enumerate(scheduler.timesteps):
        if interrupted():
            break
        timestep = tau.expand(latents.shape[0])
        inputs = latents.to(transformer.dtype)
        with transformer.cache_context("cond"):
            velocity = transformer(inputs, timestep, conditioning, known_mask=known_mask).sample
        if guided:
            with transformer.cache_context("uncond"):
                free = transformer(inputs, timestep, unconditional, known_mask=known_mask).sample
            velocity = free + guidance_scale * (velocity - free)
        latents = scheduler.step(velocity, tau, latents, known_mask=token_mask, return_dict=False)[0]
        if on_step is not None:
            latents = on_step(index, tau, latents)
    return latents
