"""The flow-matching scheduler: steps latents from noise to data along the predicted velocity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

import torch
from diffusers.configuration_utils import ConfigMixin
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from diffusers.utils import BaseOutput
from diffusers.utils.torch_utils import randn_tensor

from gaia2._checks import one_of, real_number, refuse, whole_number
from gaia2._registration import register
from gaia2._typed import register_to_config
from gaia2.hub.mixin import HubMixin
from gaia2.nn.shapes import check_last_axis, check_like
from gaia2.schedulers.checks import check_generator, check_time
from gaia2.schedulers.grids import GRIDS, check_shift, custom_grid, flow_grid
from gaia2.schedulers.linear_quadratic import MAX_STEPS
from gaia2.schedulers.path import interpolate
from gaia2.schedulers.solvers import SOLVERS, Solver

SHIFT = 3.0
"""Of the grid "shifted", unless another is asked for."""
Generators = torch.Generator | list[torch.Generator] | None


@dataclass
class FlowMatchSchedulerOutput(BaseOutput):
    """What a step gives.

    Attributes:
        prev_sample: The latents one step nearer to the data, the axes of the sample.
    """

    prev_sample: torch.Tensor


@register
class FlowMatchScheduler(HubMixin, SchedulerMixin, ConfigMixin):
    """Steps along the velocity over a grid of flow times (paper §5).

    Unlike diffusers' sigma schedulers, `timesteps` are flow times `tau` that rise from 0 (noise) to 1 (data); the
    last grid point, 1, needs no step. The solver "heun" asks for two velocities a step, and `timesteps` has the inner
    flow times twice (`order` is 2), as diffusers' Heun scheduler has them.

    Args:
        threshold_noise: The flow time where the linear part of the grid "linear_quadratic" ends.
        linear_steps: Steps of that linear part; half of the steps by default.
        grid: "linear_quadratic" (the paper's), "linear" or "shifted"; see `flow_grid`.
        shift: Of the grid "shifted", 3 by default; the other grids have none, which the config says as 1.
        solver: "euler" (the paper's), "heun" or "adams_bashforth", both of second order; see `solvers`.
        stochasticity: Share of the noise that is renewed in each step, from 0 (none, an ordinary differential
            equation) to 1 (all, diffusers' `stochastic_sampling`); above 0 the solver must be "euler".

    Raises:
        ValueError: If a name is unknown, `stochasticity` is out of range or does not go with the solver, or a shift
            would have no effect.

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
    init_noise_sigma = 1.0  # diffusers multiplies the first noise by it

    @register_to_config
    def __init__(
        self,
        threshold_noise: float = 0.025,
        linear_steps: int | None = None,
        grid: str = "linear_quadratic",
        shift: float | None = None,
        solver: str = "euler",
        stochasticity: float = 0.0,
    ) -> None:
        one_of("grid", grid, GRIDS)
        if shift is not None:
            check_shift(shift)
        if grid != "shifted" and shift not in (None, 1):
            raise ValueError(f"shift: expected the grid 'shifted' with it, got {grid!r}, which has no shift")
        self._record(shift=shift or (SHIFT if grid == "shifted" else 1.0))
        one_of("solver", solver, SOLVERS)
        real_number("threshold_noise", threshold_noise, above=0, below=1, what="a flow time")
        if linear_steps is not None:
            whole_number("linear_steps", linear_steps, 0, MAX_STEPS - 1)
        real_number("stochasticity", stochasticity, 0, 1, what="a share")
        if stochasticity and solver != "euler":
            raise ValueError(f"stochasticity: expected the solver 'euler' with it, got {solver!r}")
        self.order = SOLVERS[solver].order
        self.grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
        self.timesteps = self.grid[:-1]
        self.num_inference_steps: int | None = None
        self._solver: Solver = SOLVERS[solver]()
        self._step_index: int | None = None
        self._begin_index: int | None = None

    if TYPE_CHECKING:  # diffusers' own says less of what it gives

        @classmethod
        def from_pretrained(  # noqa: D102
            cls, pretrained_model_name_or_path: str | PathLike[str], **kwargs: Any
        ) -> Self: ...

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Make a scheduler of a config: our own, or another's, as `X.from_config(pipe.scheduler.config)` hands it over.

        A shift keeps its effect: of another class's config it becomes the grid "shifted". Where the grid has none it
        is left out.

        Args:
            config: As `scheduler.config`.
            **kwargs: Values in place of the config's, and diffusers' own options.

        Example:
            >>> from diffusers import FlowMatchEulerDiscreteScheduler
            >>> other = FlowMatchEulerDiscreteScheduler(shift=5.0)
            >>> ours = FlowMatchScheduler.from_config(other.config)
            >>> ours.config.grid, ours.config.shift
            ('shifted', 5.0)
        """
        config = dict(config)
        shift = config.get("shift")
        if "grid" not in config and shift not in (None, 1) and not config.get("use_dynamic_shifting"):
            config["grid"] = "shifted"
        if kwargs.get("grid", config.get("grid")) != "shifted":
            config.pop("shift", None)
        return super().from_config(config, **kwargs)

    @property
    def step_index(self) -> int | None:
        """Place in `timesteps` of the next call of `step`; None before the first one."""
        return self._step_index

    @property
    def begin_index(self) -> int | None:
        """Place in `timesteps` where the steps begin, if it was set."""
        return self._begin_index

    def scale_model_input(self, sample: torch.Tensor, timestep: float | torch.Tensor | None = None) -> torch.Tensor:
        """The sample as the network takes it: as it is, at every flow time. diffusers' loops call it.

        Args:
            sample: Latents, any axes.
            timestep: Their flow time; has no influence.
        """
        return sample

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin the steps at a place in `timesteps`, as editing does; a multiple of `order`.

        Raises:
            ValueError: If it is not the beginning of a step.
        """
        whole_number("begin_index", begin_index, 0)
        if begin_index % self.order or not 0 <= begin_index < len(self.timesteps):
            raise ValueError(
                f"begin_index: expected a multiple of order={self.order} from 0 to {len(self.timesteps) - 1}, got "
                f"{begin_index}"
            )
        self._begin_index = begin_index

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: torch.device | str | None = None,
        timesteps: Sequence[float] | torch.Tensor | None = None,
    ) -> None:
        """Lay the grid.

        Args:
            num_inference_steps: Steps of the grid, at least 1.
            device: Where `timesteps` shall lie.
            timesteps: Flow times of your own in place of the named grid: where each step begins, rising, below 1.

        Raises:
            ValueError: If neither or both of the two are given, or they do not make a grid.
        """
        if (num_inference_steps is None) == (timesteps is None):
            raise ValueError(
                "set_timesteps: expected either num_inference_steps or timesteps, got "
                f"{'neither' if timesteps is None else 'both'}"
            )
        if timesteps is not None:
            self.grid = custom_grid(timesteps)
        elif num_inference_steps is not None:
            config = self.config
            self.grid = flow_grid(
                config.grid,
                num_inference_steps,
                threshold_noise=config.threshold_noise,
                linear_steps=config.linear_steps,
                shift=config.shift,
            )
        self.num_inference_steps = len(self.grid) - 1
        times = self.grid[:-1].repeat_interleave(self.order)[self.order - 1 :]
        self.timesteps = times.to(device=device, dtype=torch.float32)
        self._solver = SOLVERS[self.config.solver]()
        self._step_index = None
        self._begin_index = None

    def begin_at(self, tau: float) -> float:
        """Leave out the part of the grid before a flow time, which becomes its first point; gives that flow time.

        Args:
            tau: Flow time in [0, 1); the grid's points after it stay.
        """
        real_number("tau", tau, 0, below=1, what="a flow time")
        rest = self.grid[(self.grid > tau + 1e-6) & (self.grid < 1)]
        self.set_timesteps(timesteps=[tau, *rest.tolist()], device=self.timesteps.device)
        return tau

    def step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        known_mask: torch.Tensor | None = None,
        per_token_timesteps: torch.Tensor | None = None,
        generator: Generators = None,
        return_dict: bool = True,
    ) -> FlowMatchSchedulerOutput | tuple[torch.Tensor]:
        """Move along the velocity; with the solver "heun", every second call ends a step.

        Args:
            model_output: Predicted velocity, the axes of `sample`.
            timestep: The flow time of `sample`; the first call finds its place on the grid, later calls go on.
            sample: Latents at that flow time.
            known_mask: Boolean, broadcasts against `sample`; tokens where it is true stay bit-equal.
            per_token_timesteps: A flow time for each token in place of `timestep`, the first axes of `sample`, such as
                `(b, t, n, h, w)`. Each token moves to the next grid point after its own flow time; at 1 it stays.
                Needs the solver "euler".
            generator: Random numbers for `stochasticity`, one or one a sample.
            return_dict: Give an output object rather than a tuple.

        Raises:
            ValueError: If `set_timesteps` has not been called, all its steps have been taken, or the solver cannot
                have a flow time for each token.
        """
        self._check_step(model_output, timestep, sample, known_mask, generator)
        if self.num_inference_steps is None:
            raise ValueError("step: expected set_timesteps to be called before, got no grid; call it first")
        if self._step_index is None:
            self._step_index = self._find(timestep) if self._begin_index is None else self._begin_index
        if self._step_index >= len(self.timesteps):
            raise ValueError(
                f"step: expected at most {len(self.timesteps)} steps, got one more; call set_timesteps again"
            )
        velocity = model_output.to(sample.dtype)
        interval = self._step_index // self.order
        now, then = self.grid[interval].item(), self.grid[interval + 1].item()
        if per_token_timesteps is not None:
            moved = self._step_per_token(velocity, sample, per_token_timesteps, generator)
        elif self.config.stochasticity:
            moved = self._renoise(sample, velocity, now, then, generator)
        else:
            is_last = interval + 1 == self.num_inference_steps
            moved = self._solver.advance(sample, velocity, then - now, is_last=is_last)
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
            timestep: Flow time in [0, 1]: a number, `(b,)`, or one for each token with the first axes of `sample`.
            noise: Gaussian noise, the axes of `sample`; drawn if not given.
        """
        check_last_axis("sample", sample, rank=0)
        check_time("timestep", timestep)
        noise = torch.randn_like(sample) if noise is None else noise
        check_like("noise", noise, "sample", sample)
        return interpolate(sample, noise, torch.as_tensor(timestep, dtype=sample.dtype, device=sample.device))

    def add_noise(
        self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: float | torch.Tensor
    ) -> torch.Tensor:
        """`scale_noise` under the name and with the order of arguments of diffusers' training scripts."""
        return self.scale_noise(original_samples, timesteps, noise)

    def _check_step(
        self,
        model_output: torch.Tensor,
        timestep: float | torch.Tensor,
        sample: torch.Tensor,
        known_mask: torch.Tensor | None,
        generator: Generators,
    ) -> None:
        """Look at shapes and kinds, which costs no synchronisation."""
        check_like("model_output", model_output, "sample", sample)
        check_time("timestep", timestep)
        check_generator(generator, len(sample) if sample.dim() else 1)
        if known_mask is None:
            return
        if not isinstance(known_mask, torch.Tensor) or known_mask.dtype != torch.bool:
            kind = known_mask.dtype if isinstance(known_mask, torch.Tensor) else known_mask
            raise refuse("known_mask", "a boolean tensor that broadcasts against the sample", kind)
        ahead = zip(reversed(known_mask.shape), reversed(sample.shape), strict=False)
        if known_mask.dim() > sample.dim() or any(own not in (1, size) for own, size in ahead):
            raise ValueError(
                f"known_mask: expected axes that broadcast against the sample {tuple(sample.shape)}, got "
                f"{tuple(known_mask.shape)}"
            )

    def _record(self, **values: float) -> None:
        """Put what is in force into the config, so that `from_config` of another scheduler takes it over."""
        defaults = [name for name in self.config.get("_use_default_values", ()) if name not in values]
        self.register_to_config(**values, _use_default_values=defaults)

    def _find(self, timestep: float | torch.Tensor) -> int:
        return int((self.grid[:-1] - float(timestep)).abs().argmin()) * self.order

    def _step_per_token(
        self, velocity: torch.Tensor, sample: torch.Tensor, tau: torch.Tensor, generator: Generators
    ) -> torch.Tensor:
        if self.config.solver != "euler":
            raise ValueError(
                f"per_token_timesteps: expected the solver 'euler', got {self.config.solver!r}; the steps of tokens at "
                "different flow times have different widths"
            )
        check_time("per_token_timesteps", tau)
        if not isinstance(tau, torch.Tensor):
            raise refuse("per_token_timesteps", "a torch.Tensor", tau)
        if tuple(tau.shape) != tuple(sample.shape[: tau.dim()]):
            raise ValueError(
                f"per_token_timesteps: expected the first axes of the sample {tuple(sample.shape)}, got "
                f"{tuple(tau.shape)}"
            )
        grid = self.grid.to(sample.device, sample.dtype)
        tau = tau.to(sample.device, sample.dtype)
        after = torch.searchsorted(grid, tau.contiguous() + 1e-6).clamp(max=len(grid) - 1)
        trailing = (1,) * (sample.dim() - tau.dim())
        now, then = (times.reshape(*tau.shape, *trailing) for times in (tau, grid[after].maximum(tau)))
        if self.config.stochasticity:
            return self._renoise(sample, velocity, now, then, generator)
        return sample + (then - now) * velocity

    def _renoise(
        self,
        sample: torch.Tensor,
        velocity: torch.Tensor,
        now: float | torch.Tensor,
        then: float | torch.Tensor,
        generator: Generators,
    ) -> torch.Tensor:
        """Euler's step, a share of whose predicted noise is replaced by new noise of the same variance."""
        share = self.config.stochasticity
        data, noise = sample + (1 - now) * velocity, sample - now * velocity
        shape = sample.shape or (1,)  # diffusers wants an axis
        fresh = randn_tensor(shape, generator=generator, device=sample.device, dtype=sample.dtype).reshape(sample.shape)
        return then * data + (1 - then) * ((1 - share**2) ** 0.5 * noise + share * fresh)
