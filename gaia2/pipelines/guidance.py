"""Classifier-free guidance: over all conditions or some, everywhere or on the agents alone (paper §5).

`v = v_u + s (v_c - v_u)`, where `v_u` is predicted without the conditions that are guided on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange

from gaia2.conditioning.dropout import Conditioning, drop, drop_all
from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.models.world_model import WorldModel
from gaia2.scene.validation import nearest

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
        >>> guidance.scale_at(0.3), guidance.scale_at(0.7), Guidance().scale_at(0.3)
        (3.0, 1.0, 1.0)
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

    def scale_at(self, tau: float) -> float:
        """The scale of a step that begins at the flow time `tau`: 1, no guidance, outside the interval."""
        first, last = self.interval
        return self.scale if first - 1e-6 <= tau <= last + 1e-6 else 1.0  # timesteps are rounded to float32

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
    """Predicts the velocity of one window, guided as strongly as each step asks for.

    The conditions are encoded once, not at every step; those of the other branch when a step is first guided. Both
    branches go through the network in one batch; a step without guidance is one sample a scene. Step caches keep their
    state by `cache_context`: "cond" for the conditions alone, and "cond_uncond" for the batch of both, whose shapes
    differ.

    Args:
        transformer: Predicts the velocity.
        conditioning: The world model's conditions.
        guidance: What the other branch does without.
        metadata_names: Names of the columns of the conditioning's `metadata`.
        region: Boolean `(b, t, n, h, w)`, the tokens that the scale acts on; None is all.
        known_mask: Boolean `(b, t, n, h, w)`, true for tokens that are given.
        grid: Rows and columns h, w of the latents, which models with maps need.

    Raises:
        ValueError: At the first guided step, if the guidance names an unknown condition.
    """

    def __init__(
        self,
        transformer: WorldModel,
        conditioning: Conditioning,
        guidance: Guidance,
        metadata_names: Sequence[str],
        region: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        self.transformer = transformer
        self.conditioning = conditioning
        self.guidance = guidance
        self.metadata_names = metadata_names
        self.acts_anywhere = region is None or bool(region.any())
        self.region = None if region is None else rearrange(region, "b t n h w -> b t n h w 1")
        self.known_mask = known_mask
        self.grid = grid
        self.conditional = transformer.encode_conditioning(conditioning, grid=grid)

    @cached_property
    def both(self) -> EncodedConditioning:
        """The conditions of both branches, one after the other along b."""
        other = self.guidance.without(self.conditioning, self.metadata_names)
        free = self.transformer.encode_conditioning(other, grid=self.grid)
        return EncodedConditioning(*(torch.cat(pair) for pair in zip(self.conditional, free, strict=True)))

    @cached_property
    def both_known_mask(self) -> torch.Tensor | None:
        """The known tokens of both branches, likewise."""
        return None if self.known_mask is None else torch.cat([self.known_mask, self.known_mask])

    def __call__(self, latents: torch.Tensor, tau: torch.Tensor, *, scale: float) -> torch.Tensor:
        """The velocity of latents `(b, t, n, h, w, c)` at the flow time `tau`, a number in a tensor.

        Args:
            latents: Given tokens as they are, others at flow time `tau`.
            tau: Flow time in [0, 1].
            scale: Guidance scale of this step; 1 is none.
        """
        inputs, b = latents.to(self.transformer.dtype), len(latents)
        if scale == 1 or not self.acts_anywhere:
            with self.transformer.cache_context("cond"):
                return self.transformer(inputs, tau.expand(b), self.conditional, known_mask=self.known_mask).sample
        twice, conditions = torch.cat([inputs, inputs]), self.both
        with self.transformer.cache_context("cond_uncond"):
            velocities = self.transformer(twice, tau.expand(2 * b), conditions, known_mask=self.both_known_mask).sample
        conditional, free = velocities.chunk(2)
        velocity = free + scale * (conditional - free)
        return velocity if self.region is None else torch.where(self.region, velocity, conditional)
