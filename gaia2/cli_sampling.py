"""How `gaia2 generate` and `gaia2 demo` sample, and with which model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gaia2._options import choose_device

if TYPE_CHECKING:
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline

FEW_STEPS = 8
"""Steps that the adapter in the folder `few_steps` of a pipeline is for."""


@dataclass(frozen=True)
class SamplingOptions:
    """How to generate."""

    steps: int | None = None
    """Denoising steps of each window; 50, or 8 with --fast."""
    fast: bool = False
    """In few steps, with the adapter for them that the model has: for the default model a seventh of the time. Needs
    gaia2[lora]."""
    guidance: float | None = None
    """Classifier-free guidance scale; the model's own if not given. 1 is none, others take about twice the time."""
    guidance_on: tuple[str, ...] = ()
    """Conditions to guide on, such as weather or speed; all if not given."""
    guidance_region: Literal["agents"] | None = None
    """Guide under the agents' boxes only."""
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    """First and last flow time at which guidance acts; 0 is noise, 1 is data."""
    solver: Literal["euler", "heun", "adams_bashforth"] | None = None
    """How to step; the model's own if not given. The last two are of second order and need fewer steps."""
    grid: Literal["linear_quadratic", "linear", "shifted"] | None = None
    """How the flow times of the steps are spaced; the model's own if not given."""
    overlap: int | None = None
    """Latents that a window takes over from the one before; half of the window if not given."""
    seed: int = 0
    """Seed of the noise."""
    model: str | None = None
    """Folder or hub id of a pipeline; the default model if not given."""
    device: str = "auto"
    """Where to compute: cpu, cuda, cuda:1, ... ; auto takes a GPU if there is one."""

    @property
    def num_inference_steps(self) -> int:
        """Steps to take."""
        return (FEW_STEPS if self.fast else 50) if self.steps is None else self.steps

    @property
    def guidance_scale(self) -> float | None:
        """Scale to guide with; None is the model's own. The adapter has its teacher's guidance in it."""
        return 1.0 if self.fast and self.guidance is None else self.guidance


def load_pipeline(sampling: SamplingOptions) -> Gaia2Pipeline:
    """The pipeline that the options name, on their device.

    Raises:
        ValueError: If an adapter for few steps is asked for, and the model has none.
        ImportError: Likewise, if peft is not installed.
    """
    import torch

    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
    from gaia2.zoo import default_model

    path = sampling.model or str(default_model())
    device = choose_device(sampling.device)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    pipe = Gaia2Pipeline.from_pretrained(path, dtype=dtype)
    if sampling.fast:
        try:
            pipe.load_lora_weights(path, subfolder="few_steps")
        except OSError as error:
            raise ValueError(
                f"--fast: expected a model with an adapter in its folder few_steps, found none in {path}; leave the "
                "option out, or make one with `gaia2 train distill`"
            ) from error
        pipe.fuse_lora()  # small matrices beside large ones cost as much as these
        pipe.unload_lora_weights()
    chosen = {name: getattr(sampling, name) for name in ("solver", "grid") if getattr(sampling, name) is not None}
    if chosen:
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, **chosen)
    return pipe.to(device)
