"""What changes while a call runs, and what callbacks may read and assign of it, under diffusers' names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gaia2.pipelines.guidance import Guidance


@dataclass
class CallState:
    """What changes while a video is made.

    Attributes:
        guidance: Of the next step.
        num_timesteps: Network evaluations of a window.
        tau: Flow time of the step at hand; None before the first one.
        interrupt: Ends the call before the next step.
    """

    guidance: Guidance = field(default_factory=Guidance)
    num_timesteps: int = 0
    tau: float | None = None
    interrupt: bool = False


class CallStateMixin:
    """Shows a pipeline's `CallState`, that of the call at hand or of the last one, as diffusers' pipelines do.

    A callback assigns `pipe._guidance_scale = 3.0` to change the scale from the next step on until the call ends, and
    `pipe._interrupt = True` to stop after the step at hand.
    """

    _state: CallState

    @property
    def guidance_scale(self) -> float:
        """The guidance scale of the next step, before the first call the checkpoint's; a guider's where one is used."""
        guidance = self._state.guidance
        if guidance.guider is not None:
            return getattr(guidance.guider, "guidance_scale", 1.0)
        return 1.0 if guidance.scale is None else guidance.scale

    @property
    def _guidance_scale(self) -> float:
        return self.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, scale: float) -> None:
        guider = self._state.guidance.guider
        if guider is None:
            self._state.guidance = replace(self._state.guidance, scale=scale)
        else:
            guider.guidance_scale = scale

    @property
    def interrupt(self) -> bool:
        """Whether a callback stopped the call."""
        return self._state.interrupt

    @property
    def _interrupt(self) -> bool:
        return self._state.interrupt

    @_interrupt.setter
    def _interrupt(self, stop: bool) -> None:
        self._state.interrupt = stop

    @property
    def num_timesteps(self) -> int:
        """Network evaluations of a window."""
        return self._state.num_timesteps

    @property
    def current_timestep(self) -> float | None:
        """Noise level of the step at hand, from 1000 (noise) to 0 (data) as diffusers' step caches expect it."""
        return None if self._state.tau is None else 1000 * (1 - self._state.tau)
