"""The denoising loop that all tasks share, and the windows of a long video (paper §5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange

from gaia2.pipelines.guidance import GuidedVelocity
from gaia2.schedulers.diffusers_adapter import FlowScheduler
from gaia2.schedulers.flow_match import Generators

StepCallback = Callable[[int, torch.Tensor, dict[str, torch.Tensor | None]], torch.Tensor]


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


@dataclass(frozen=True)
class Grid:
    """The flow times of a denoising.

    Attributes:
        num_inference_steps: Steps of the scheduler's own grid.
        timesteps: Flow times of the user's in its place.
        begin: Flow time to begin at; 0 is noise.
    """

    num_inference_steps: int | None = 50
    timesteps: Sequence[float] | None = None
    begin: float = 0.0

    def lay(self, scheduler: FlowScheduler, device: torch.device | str | None = None) -> float:
        """Set the scheduler's timesteps; gives the flow time at which they begin.

        Raises:
            ValueError: If the scheduler cannot have this grid.
        """
        if self.timesteps is None:
            scheduler.set_timesteps(self.num_inference_steps, device=device)
        else:
            scheduler.set_timesteps(timesteps=self.timesteps, device=device)
        return scheduler.begin_at(self.begin) if self.begin else float(scheduler.timesteps[0])


def denoise(
    velocity_of: GuidedVelocity,
    scheduler: FlowScheduler,
    latents: torch.Tensor,
    grid: Grid,
    *,
    known_mask: torch.Tensor | None = None,
    generator: Generators = None,
    on_step: StepCallback | None = None,
    interrupted: Callable[[torch.Tensor], bool] = lambda tau: False,
) -> torch.Tensor:
    """Integrate the velocity from noise, or from data noised to where the grid begins, to data.

    Args:
        velocity_of: Predicts the velocity.
        scheduler: Makes the steps.
        latents: Latents `(b, t, n, h, w, c)` at the flow time where the grid begins, but as they are where
            `known_mask` is true.
        grid: The flow times.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given; they stay bit-equal.
        generator: Random numbers for schedulers that draw some.
        on_step: Called with step index, flow time and tensors ("latents", "velocity", "known_mask") after each step;
            gives the latents to go on with.
        interrupted: Asked before each step with its flow time; true ends the loop.

    Returns:
        Latents `(b, t, n, h, w, c)`.
    """
    grid.lay(scheduler, latents.device)
    token_mask = None if known_mask is None else rearrange(known_mask, "b t n h w -> b t n h w 1")
    guided = [velocity_of.guidance.acts_at(tau) for tau in scheduler.timesteps.tolist()]
    for index, tau in enumerate(scheduler.timesteps):
        if interrupted(tau):
            break
        velocity = velocity_of(latents, tau, guided=guided[index])
        latents = scheduler.step(velocity, tau, latents, known_mask=token_mask, generator=generator, return_dict=False)[
            0
        ]
        if on_step is not None:
            latents = on_step(index, tau, {"latents": latents, "velocity": velocity, "known_mask": known_mask})
    return latents
