"""Classifier-free guidance: over all conditions or some, everywhere or on the agents alone (paper §5).

`v = v_u + s (v_c - v_u)`, where `v_u` is predicted without the conditions that are guided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from diffusers.guiders.guider_utils import BaseGuidance

from gaia2._checks import one_of, real_number, refuse
from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.dropout import drop, drop_all
from gaia2.conditioning.table import ConditionTable

MAX_SCALE = 1000.0


def check_default_scale(scale: Any) -> float:
    """The scale that a checkpoint is sampled with by default, checked.

    Raises:
        ValueError: If it is none.

    Example:
        >>> check_default_scale(2)
        2.0
    """
    return real_number("default_guidance_scale", scale, 0, MAX_SCALE, hint="1 is no guidance")


@dataclass(frozen=True)
class Guidance:
    """What to guide on, how strongly, where and when.

    Attributes:
        scale: `s`; 1 is no guidance, the paper uses 2 to 20 for hard scenes. None is what the pipeline's checkpoint
            says, and none beside a guider.
        on: Conditions that the other branch does without, by name: those of the world model's `conditions.names`, such
            as "speed", "weather" or your own. None is all of them, or the agents alone where they are the region.
        region: None guides every token. "agents" is the paper's spatially selective guidance: the scale acts on the
            tokens under the agents' projected boxes; elsewhere the velocity of a step is that without guidance, bit by
            bit. What changes under the boxes reaches the other tokens by attention in the steps after it.
        interval: First and last flow time at which guidance acts; outside, a step costs one sample a scene again.
        guider: One of diffusers' guiders, such as `AdaptiveProjectedGuidance`, which brings the branches together in
            place of the formula, with its own scale, start and stop.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> guidance = Guidance(scale=3.0, on=("weather",), interval=(0.0, 0.5))
        >>> guidance.scale_at(0.3), guidance.scale_at(0.7), Guidance().with_default(2.0).scale_at(0.3)
        (3.0, 1.0, 2.0)
    """

    scale: float | None = None
    on: Sequence[str] | None = None
    region: str | None = None
    interval: tuple[float, float] = (0.0, 1.0)
    guider: BaseGuidance | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            real_number("guidance_scale", self.scale, 0, MAX_SCALE, hint="1 is no guidance")
        names = self.on is None or (isinstance(self.on, list | tuple) and all(isinstance(n, str) for n in self.on))
        if not names or (self.on is not None and not self.on):
            raise refuse("guidance_on", "a tuple of names, such as ('weather',), or None for all", self.on)
        one_of("guidance_region", self.region, (None, "agents"))
        if not isinstance(self.interval, list | tuple) or len(self.interval) != 2:
            raise refuse("guidance_interval", "two rising flow times from 0 (noise) to 1 (data)", self.interval)
        first, last = (real_number("guidance_interval", tau, 0, 1, what="flow times") for tau in self.interval)
        if not first < last:
            raise refuse("guidance_interval", "two rising flow times from 0 (noise) to 1 (data)", self.interval)
        if self.guider is not None and not isinstance(self.guider, BaseGuidance):
            raise ValueError(
                f"guider: expected a guider of diffusers, such as ClassifierFreeGuidance(), got {self.guider!r}"
            )
        if self.guider is not None and (self.scale not in (None, 1) or tuple(self.interval) != (0.0, 1.0)):
            raise ValueError(
                f"guider: expected no guidance_scale and guidance_interval beside it, got {self.scale} and "
                f"{self.interval}; the guider has a scale, start and stop of its own"
            )

    def with_default(self, scale: float) -> Guidance:
        """The same guidance with a scale, where it says none: that of a checkpoint, or 1 beside a guider."""
        if self.scale is not None:
            return self
        return replace(self, scale=scale if self.guider is None else 1.0)

    def scale_at(self, tau: float) -> float:
        """The scale of a step that begins at the flow time `tau`: 1, no guidance, outside the interval or unsaid."""
        first, last = self.interval
        if self.scale is None:
            return 1.0
        return self.scale if first - 1e-6 <= tau <= last + 1e-6 else 1.0  # timesteps are rounded to float32

    def without(self, conditioning: Conditioning, conditions: ConditionTable) -> Conditioning:
        """The conditioning of the other branch.

        Args:
            conditioning: Tensors by name; not changed.
            conditions: Those of the world model.

        Raises:
            ValueError: If a name of `on` is unknown.
        """
        on = ("agents",) if self.on is None and self.region == "agents" else self.on
        if on is None:
            return drop_all(conditioning, conditions)
        try:
            return drop(conditioning, on, conditions)
        except ValueError as error:
            raise ValueError(f"guidance_on: {error}") from error
