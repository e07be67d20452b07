"""diffusers' own flow schedulers in our convention of flow time and velocity."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from gaia2.schedulers.flow_match import FlowMatchScheduler, FlowMatchSchedulerOutput, Generators
from gaia2.schedulers.grids import custom_grid
from gaia2.schedulers.path import interpolate


class DiffusersFlowAdapter:
    """Lets one of diffusers' flow schedulers take the place of `FlowMatchScheduler`.

    diffusers' noise levels fall from `sigma = 1` to 0 and its networks predict `noise - data`; here `tau = 1 - sigma`
    rises and the velocity is `data - noise`. The pipelines adapt their `scheduler` component by themselves, so that a
    scheduler of diffusers is given to them as it is, and saved with them:

        pipe.scheduler = FlowMatchHeunDiscreteScheduler(shift=3.0)

    Fit: `FlowMatchEulerDiscreteScheduler`, `FlowMatchHeunDiscreteScheduler`, `FlowMatchLCMScheduler`, and
    `UniPCMultistepScheduler`, `DPMSolverMultistepScheduler` and others with `use_flow_sigmas=True` and
    `prediction_type="flow_prediction"`.

    Args:
        scheduler: Diffusers' scheduler; its grid is its own, with its shift.

    Raises:
        ValueError: If the scheduler is none of flow matching, or shifts with the resolution.

    Example:
        >>> from diffusers import FlowMatchEulerDiscreteScheduler
        >>> scheduler = DiffusersFlowAdapter(FlowMatchEulerDiscreteScheduler(shift=3.0))
        >>> scheduler.set_timesteps(4)
        >>> x, latents = torch.ones(1, 2), torch.zeros(1, 2)
        >>> for tau in scheduler.timesteps:
        ...     latents = scheduler.step((x - latents) / (1 - tau), tau, latents).prev_sample
        >>> latents
        tensor([[1., 1.]])
    """

    def __init__(self, scheduler: Any) -> None:
        config = getattr(scheduler, "config", {})
        is_flow = type(scheduler).__name__.startswith("FlowMatch") or (
            config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction"
        )
        if not is_flow:
            raise ValueError(
                f"scheduler: expected FlowMatchScheduler or a flow scheduler of diffusers, got "
                f"{type(scheduler).__name__}; UniPC and DPM-Solver need use_flow_sigmas=True and "
                "prediction_type='flow_prediction'"
            )
        if config.get("use_dynamic_shifting"):
            raise ValueError(
                "scheduler: expected a fixed shift, got use_dynamic_shifting=True, which depends on the resolution in "
                "a way of other models; set it to False and choose a shift"
            )
        self.inner = scheduler
        self.order: int = getattr(scheduler, "order", 1)
        self._index = 0

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Sequence[float] | torch.Tensor | None = None,
    ) -> None:
        """Lay the scheduler's own grid, or, where it takes one, the user's flow times.

        Raises:
            ValueError: If the scheduler takes no grid of the user's.
        """
        inner = self.inner
        if timesteps is None:
            inner.set_timesteps(num_inference_steps, device=device)
        elif "sigmas" in inspect.signature(inner.set_timesteps).parameters:
            inner.set_timesteps(sigmas=(1 - custom_grid(timesteps)[:-1]).tolist(), device=device)
        else:
            raise ValueError(
                f"timesteps: expected a scheduler that takes a grid, got {type(inner).__name__}, which has only its "
                "own; give num_inference_steps"
            )
        self._times = inner.timesteps
        self.timesteps = (1 - inner.sigmas[: len(inner.timesteps)].float()).to(device)
        self.num_inference_steps = num_inference_steps
        self._index = 0

    def begin_at(self, tau: float) -> float:
        """Leave out the part of the grid before a flow time; gives the grid's first flow time from it on."""
        starts = self.timesteps[:: self.order]
        begin = min(int((starts < tau - 1e-6).sum()), len(starts) - 1) * self.order
        self.inner.set_begin_index(begin)
        self._times, self.timesteps = self._times[begin:], self.timesteps[begin:]
        return float(self.timesteps[0])

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        known_mask: torch.Tensor | None = None,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> FlowMatchSchedulerOutput | tuple[torch.Tensor]:
        """Move along the velocity; arguments and result are those of `FlowMatchScheduler.step`."""
        takes_generator = "generator" in inspect.signature(self.inner.step).parameters
        extra = {"generator": generator} if takes_generator else {}
        inner_time = self._times[self._index]
        moved = self.inner.step(-model_output.to(sample.dtype), inner_time, sample, return_dict=False, **extra)[0]
        moved = moved.to(sample.dtype)
        if known_mask is not None:
            moved = torch.where(known_mask, sample, moved)
        self._index += 1
        return FlowMatchSchedulerOutput(prev_sample=moved) if return_dict else (moved,)

    def scale_noise(self, sample: torch.Tensor, timestep: float | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Noise data to the flow time `timestep` (paper Eq. 1)."""
        return interpolate(sample, noise, torch.as_tensor(timestep, dtype=sample.dtype, device=sample.device))


FlowScheduler = FlowMatchScheduler | DiffusersFlowAdapter


def as_flow_scheduler(scheduler: object) -> FlowScheduler:
    """The scheduler itself if it is ours, or diffusers' in the adapter.

    Raises:
        ValueError: If it is no scheduler of flow matching.
    """
    if isinstance(scheduler, FlowMatchScheduler | DiffusersFlowAdapter):
        return scheduler
    return DiffusersFlowAdapter(scheduler)
