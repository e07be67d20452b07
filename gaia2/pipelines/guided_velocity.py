"""The velocity that one denoising step follows: one branch of the network, or more and what guidance makes of them."""

from __future__ import annotations

from functools import cached_property

import torch
from diffusers.guiders.guider_utils import BaseGuidance
from einops import rearrange

from gaia2.conditioning.condition import Conditioning
from gaia2.conditioning.encoder import EncodedConditioning
from gaia2.models.world_model import WorldModel
from gaia2.nn.shapes import unexpanded
from gaia2.pipelines.guidance import Guidance


class GuidedVelocity:
    """Predicts the velocity of one window, guided as strongly as each step asks for.

    The conditions are encoded once, not at every step, and so are the keys and values that the blocks make of them;
    those of the other branch when a step is first guided. Both
    branches go through the network in one batch; a step without guidance is one sample a scene. With a region the
    branches go one after the other, so that the tokens outside it get the same bits as without guidance. Step caches
    keep their state by `cache_context`: a name for each branch, and "cond_uncond" for the batch of both, whose shapes
    differ.

    Args:
        transformer: Predicts the velocity.
        conditioning: The world model's conditions.
        guidance: What the other branch does without.
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
        region: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
        grid: tuple[int, int] | None = None,
    ) -> None:
        self.transformer = transformer
        self.conditioning = conditioning
        self.guidance = guidance
        self.acts_anywhere = region is None or bool(region.any())
        self.region = None if region is None else rearrange(region, "b t n h w -> b t n h w 1")
        self.known_mask = known_mask
        self.grid = grid
        self.encoded = transformer.encode_conditioning(conditioning, grid=grid)

    @cached_property
    def encoded_free(self) -> EncodedConditioning:
        """The conditions of the other branch, encoded."""
        other = self.guidance.without(self.conditioning, self.transformer.conditions)
        return self.transformer.encode_conditioning(other, grid=self.grid)

    @cached_property
    def conditional(self) -> EncodedConditioning:
        """The conditions, ready for the steps."""
        return self.transformer.prepare(self.encoded, self.grid)

    @cached_property
    def free(self) -> EncodedConditioning:
        """Those of the other branch."""
        return self.transformer.prepare(self.encoded_free, self.grid)

    @cached_property
    def both(self) -> EncodedConditioning:
        """The conditions of both branches, one after the other along b."""
        pairs = zip(self.encoded[:4], self.encoded_free[:4], strict=True)
        action, position, tokens, mask = (torch.cat(pair) for pair in pairs)
        return self.transformer.prepare(EncodedConditioning(action, position, tokens, mask), self.grid)

    @cached_property
    def both_known_mask(self) -> torch.Tensor | None:
        """The known tokens of both branches, likewise."""
        if self.known_mask is None:
            return None
        twice = torch.cat([unexpanded(self.known_mask).expand(len(self.known_mask), *[-1] * 4)] * 2)
        return twice.expand(-1, *self.known_mask.shape[1:])

    def __call__(
        self, latents: torch.Tensor, tau: torch.Tensor, *, scale: float, step: int = 0, num_steps: int = 1
    ) -> torch.Tensor:
        """The velocity of latents `(b, t, n, h, w, c)` at the flow time `tau`, a number in a tensor.

        Args:
            latents: Given tokens as they are, others at flow time `tau`.
            tau: Flow time in [0, 1].
            scale: Guidance scale of this step; 1 is none. A guider has its own.
            step: Number of this network evaluation, which tells a guider whether it acts.
            num_steps: Of all of them in the window.
        """
        inputs, guider = latents.to(self.transformer.dtype), self.guidance.guider
        if not self.acts_anywhere or (guider is None and scale == 1):
            return self._predict(inputs, tau, self.conditional, "cond")
        if guider is not None:
            guider.set_state(step=step, num_inference_steps=num_steps, timestep=1000 * (1 - tau))
            return self._by_guider(guider, inputs, tau)
        if self.region is not None:
            conditional = self._predict(inputs, tau, self.conditional, "cond")
            free = self._predict(inputs, tau, self.free, "uncond")
            return torch.where(self.region, free + scale * (conditional - free), conditional)
        twice = torch.cat([inputs, inputs])
        conditional, free = self._predict(twice, tau, self.both, "cond_uncond", self.both_known_mask).chunk(2)
        return free + scale * (conditional - free)

    def _predict(
        self,
        inputs: torch.Tensor,
        tau: torch.Tensor,
        conditions: EncodedConditioning,
        context: str,
        known_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        mask = self.known_mask if known_mask is None else known_mask
        with self.transformer.cache_context(context):
            return self.transformer(inputs, tau.expand(len(inputs)), conditions, known_mask=mask).sample

    def _by_guider(self, guider: BaseGuidance, inputs: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
        """What a guider of diffusers makes of the branches that it asks for; their formulas hold for velocities too."""
        other = self.free if guider.num_conditions > 1 else self.conditional
        branches = guider.prepare_inputs({"conditions": (self.conditional, other)})
        for branch in branches:
            guider.prepare_models(self.transformer)
            try:
                name = getattr(branch, guider._identifier_key)
                branch.noise_pred = self._predict(inputs, tau, branch.conditions, name)
            finally:
                guider.cleanup_models(self.transformer)
        guided = guider(branches)
        return guided.pred if self.region is None else torch.where(self.region, guided.pred, guided.pred_cond)
