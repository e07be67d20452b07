"""diffusers' step caches on the world model: reuse what hardly changes from one denoising step to the next."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

from diffusers.hooks import FasterCacheConfig, FirstBlockCacheConfig, HookRegistry, TaylorSeerCacheConfig
from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.faster_cache import _apply_faster_cache_on_attention_class
from diffusers.models.cache_utils import CacheMixin
from torch import nn

from gaia2.nn.attention import Attention

ATTENTIONS = r"transformer_blocks\..*_attention"
FASTER_CACHE_NAMES = {
    "spatial_attention_block_identifiers": (r"spatial_attention$",),
    "temporal_attention_block_identifiers": (r"temporal_attention$",),
}


class StepCacheMixin(CacheMixin):
    """`CacheMixin` for a model of `WorldModelBlock`s or a user's, in `transformer_blocks`.

    Their attentions have names that diffusers does not look for.
    """

    def enable_cache(self, config: Any) -> None:
        """Enable one of diffusers' step caches.

        FirstBlockCache, MagCache and TaylorSeer keep one state for each `cache_context`. Pyramid Attention Broadcast
        and FasterCache keep a single one, so they are for generation without guidance (`guidance_scale=1`),
        FasterCache with `is_guidance_distilled=True`.

        Args:
            config: A config of `diffusers.hooks`, for example `FirstBlockCacheConfig()`.

        Raises:
            ValueError: If a cache is enabled already, the config is none of a cache's, or the model has too few blocks.

        Example:
            >>> from diffusers import FirstBlockCacheConfig
            >>> from gaia2 import WorldModel
            >>> model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=2)
            >>> model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
            >>> model.is_cache_enabled
            True
        """
        if isinstance(config, TaylorSeerCacheConfig):
            chosen = config.use_lite_mode or config.skip_predict_identifiers or config.cache_identifiers
            config = config if chosen else dataclasses.replace(config, cache_identifiers=[ATTENTIONS])
        elif isinstance(config, FasterCacheConfig):
            defaults = {name: getattr(FasterCacheConfig, name) for name in FASTER_CACHE_NAMES}
            ours = {k: v for k, v in FASTER_CACHE_NAMES.items() if getattr(config, k) == defaults[k]}
            config = dataclasses.replace(config, **ours)
        model = cast(nn.Module, self)
        blocks = list(model.get_submodule("transformer_blocks").children())
        if isinstance(config, FirstBlockCacheConfig) and len(blocks) < 2:
            raise ValueError(
                f"config: expected two blocks or more for FirstBlockCache, which leaves out those after the first, got "
                f"{len(blocks)}; take another cache, or none"
            )
        for block_class in {type(block) for block in blocks}:
            TransformerBlockRegistry.register(block_class, TransformerBlockMetadata(return_hidden_states_index=0))
        super().enable_cache(config)
        if isinstance(config, FasterCacheConfig):  # diffusers itself tries only attentions named "attn"
            for name, module in model.named_modules():
                if isinstance(module, Attention):
                    _apply_faster_cache_on_attention_class(name, module, config)
            HookRegistry.check_if_exists_or_initialize(model).invalidate_child_registries_cache()
