"""Classifier-free guidance: over all conditions or some, everywhere or on the agents alone (paper §5).

`v = v_u + s (v_c - v_u)`, where `v_u` is predicted without the conditions that are guided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange

from gaia2.conditioning.dropout import Conditioning, drop, drop_all
from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.conditioning.validation import nearest
from gaia2.models.world_model import WorldModel

CONDITIONS = {
    "speed": "speed",
    "curvature": "curvature",
    "agents": "agents",
    "metadata": "metadata",
    "prompt": "clip_embedding",
    "clip": "clip_embedding",
    "scenario": "scenario_embedding",
}
"""Names that guidance takes besides those of single metadata, and their keys in a conditioning."""


@dataclass(frozen=True)
class Guidance:
    """What to guide on, how strongly, where and when.

    Attributes:
        scale: `s`; 1 is no guidance, the paper uses 2 to 20 for hard scenes.
        on: Conditions that the other branch does without: names of `CONDITIONS` and of the scene's metadata. None is
            all of them, or the agents alone where they are the region.
        region: None guides every token. "agents" is the paper's spatially selective guidance: the scale acts on the
            tokens under the agents' projected boxes; elsewhere the velocity is that without guidance, bit by bit.
        interval: First and last flow time at which guidance acts; outside, a step costs one sample a scene again.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> guidance = Guidance(scale=3.0, on=("weather",), interval=(0.0, 0.5))
        >>> guidance.acts_at(0.3), guidance.acts_at(0.7), Guidance().acts_at(0.3)
        (True, False, False)
    """

    scale: float = 1.0
    on: Sequence[str] | None = None
    region: str | None = None
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if not self.scale >= 0 or self.scale == float("inf"):
            raise ValueError(f"guidance_scale: expected at least 0, got {self.scale}; 1 is no guidance")
        if isinstance(self.on, str) or (self.on is not None and not self.on):
            raise ValueError(
                f"guidance_on: expected a tuple of names, such as ('weather',), or None for all, got {self.on!r}"
            )
        if self.region not in (None, "agents"):
            raise ValueError(f"guidance_region: expected None or 'agents', got {self.region!r}")
        first, last = self.interval
        if not 0 <= first < last <= 1:
            raise ValueError(
                f"guidance_interval: expected two rising flow times from 0 (noise) to 1 (data), got {self.interval}"
            )

    def acts_at(self, tau: float) -> bool:
        """Whether a step that begins at the flow time `tau` is guided."""
        first, last = self.interval
        return self.scale != 1 and first - 1e-6 <= tau <= last + 1e-6  # timesteps are rounded to float32

    def without(self, conditioning: Conditioning, metadata_names: Sequence[str]) -> Conditioning:
        """The conditioning of the other branch.

        Args:
            conditioning: Tensors by name; not changed.
            metadata_names: Names of the columns of `metadata`.

        Raises:
            ValueError: If a name of `on` is unknown.
        """
        on = ("agents",) if self.on is None and self.region == "agents" else self.on
        if on is None:
            return drop_all(conditioning)
        known = (*CONDITIONS, *metadata_names)
        for name in on:
            if name not in known:
                raise ValueError(
                    f"guidance_on: unknown condition {name!r}; did you mean {nearest(name, known)!r}? Expected some "
                    f"of: {', '.join(known)}"
                )
        return drop(conditioning, [CONDITIONS.get(name, name) for name in on], metadata_names=metadata_names)


class GuidedVelocity:
    """Predicts the velocity of one window, guided where and when its guidance says.

    The conditions are encoded once, not at every step. Both branches go through the network in one batch; a step
    without guidance is one sample a scene. Step caches keep their state by `cache_context`: "cond" for the conditions
    alone, and "cond_uncond" for the batch of both, whose shapes differ.

    Args:
        transformer: Predicts the velocity.
        conditioning: The world model's conditions.
        guidance: What to guide on, how strongly, where and when.
        metadata_names: Names of the columns of the conditioning's `metadata`.
        region: Boolean `(b, t, n, h, w)`, the tokens that the scale acts on; None is all.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given.

    Raises:
        ValueError: If the guidance names an unknown condition.
    """

    def __init__(
        self,
        transformer: WorldModel,
        conditioning: Conditioning,
        guidance: Guidance,
        metadata_names: Sequence[str],
        region: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
    ) -> None:
        self.transformer = transformer
        self.guidance = guidance
        self.region = None if region is None else rearrange(region, "b t n h w -> b t n h w 1")
        self.known_mask = known_mask
        self.conditional = transformer.encode_conditioning(conditioning)
        self.both: EncodedConditioning | None = None
        if guidance.scale != 1 and (region is None or bool(region.any())):
            free = transformer.encode_conditioning(guidance.without(conditioning, metadata_names))
            self.both = EncodedConditioning(*(torch.cat(pair) for pair in zip(self.conditional, free, strict=True)))
            self.both_known_mask = None if known_mask is None else torch.cat([known_mask, known_mask])

    def __call__(self, latents: torch.Tensor, tau: torch.Tensor, *, guided: bool) -> torch.Tensor:
        """The velocity of latents `(b, t, n, h, w, c)` at the flow time `tau`, a number in a tensor.

        Args:
            latents: Given tokens as they are, others at flow time `tau`.
            tau: Flow time in [0, 1].
            guided: Whether guidance acts at this flow time.
        """
        inputs, b = latents.to(self.transformer.dtype), len(latents)
        if self.both is None or not guided:
            with self.transformer.cache_context("cond"):
                return self.transformer(inputs, tau.expand(b), self.conditional, known_mask=self.known_mask).sample
        twice = torch.cat([inputs, inputs])
        with self.transformer.cache_context("cond_uncond"):
            velocities = self.transformer(twice, tau.expand(2 * b), self.both, known_mask=self.both_known_mask).sample
        conditional, free = velocities.chunk(2)
        velocity = free + self.guidance.scale * (conditional - free)
        return velocity if self.region is None else torch.where(self.region, velocity, conditional)
