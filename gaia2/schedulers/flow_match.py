"""The flow-matching scheduler: steps latents from noise to data along the predicted velocity."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput

from gaia2._registration import register
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule
from gaia2.schedulers.path import interpolate


@dataclass
class FlowMatchSchedulerOutput(BaseOutput):
    """What a step gives.

    Attributes:
        prev_sample: The latents one step nearer to the data, the axes of the sample.
    """

    prev_sample: torch.Tensor


@register
class FlowMatchScheduler(SchedulerMixin, ConfigMixin):
    """Euler steps over the linear-quadratic grid of flow times (paper §5).

    Unlike diffusers' sigma schedulers, `timesteps` are flow times `tau` that rise from 0 (noise) to 1 (data); the
    last grid point, 1, needs no step.

    Args:
        threshold_noise: The flow time where the linear part of the grid ends.
        linear_steps: Steps of the linear part; half of the steps by default.

    Example:
        >>> scheduler = FlowMatchScheduler()
        >>> scheduler.set_timesteps(8)
        >>> x, latents = torch.ones(1, 2), torch.zeros(1, 2)
        >>> for tau in scheduler.timesteps:
        ...     velocity = (x - latents) / (1 - tau)
        ...     latents = scheduler.step(velocity, tau, latents).prev_sample
        >>> latents
        tensor([[1., 1.]])
    """

    order = 1

    @register_to_config
    def __init__(self, threshold_noise: float = 0.025, linear_steps: int | None = None) -> None:
        self.grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        self.timesteps = self.grid[:-1]
        self.num_inference_steps: int | None = None
        self._step_index: int | None = None

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Lay the grid for `num_inference_steps` steps, at least 1."""
        self.grid = linear_quadratic_schedule(
            num_inference_steps, self.config.threshold_noise, self.config.linear_steps
        )
        self.timesteps = self.grid[:-1].to(device=device, dtype=torch.float32)
        self.num_inference_steps = num_inference_steps
        self._step_index = None

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        known_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> FlowMatchSchedulerOutput | tuple[torch.Tensor]:
        """Move one grid step along the velocity.

        Args:
            model_output: Predicted velocity, the axes of `sample`.
            timestep: The flow time of `sample`; the first call finds its place on the grid, later calls go on.
            sample: Latents at that flow time.
            known_mask: Boolean, broadcasts against `sample`; tokens where it is true stay bit-equal.
            return_dict: Give an output object rather than a tuple.

        Raises:
            ValueError: If `set_timesteps` has not been called, or all its steps have been taken.
        """
        if self.num_inference_steps is None:
            raise ValueError("step: expected set_timesteps to be called before, got no grid; call it first")
        if self._step_index is None:
            self._step_index = int((self.grid[:-1] - float(timestep)).abs().argmin())
        if self._step_index >= self.num_inference_steps:
            raise ValueError(
                f"step: expected at most {self.num_inference_steps} steps, got one more; call set_timesteps again"
            )
        width = float(self.grid[self._step_index + 1] - self.grid[self._step_index])
        moved = sample + width * model_output.to(sample.dtype)
        if known_mask is not None:
            moved = torch.where(known_mask, sample, moved)
        self._step_index += 1
        return FlowMatchSchedulerOutput(prev_sample=moved) if return_dict else (moved,)

    def scale_noise(
        self, sample: torch.Tensor, timestep: float | torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Noise data to the flow time `timestep` (paper Eq. 1).

        Args:
            sample: Data, any axes.
            timestep: Flow time in [0, 1], a number or `(b,)`.
            noise: Gaussian noise, the axes of `sample`; drawn if not given.
        """
        noise = torch.randn_like(sample) if noise is None else noise
        return interpolate(sample, noise, torch.as_tensor(timestep, dtype=sample.dtype, device=sample.device))
