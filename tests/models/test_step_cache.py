"""diffusers' step caches on the world model, as its own cache testers ask them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)

from gaia2.models.world_model import WorldModel
from tests.tiny import WORLD_MODEL, conditioning, world_model

B, T, N, H, W, C = 1, 2, 2, 2, 3, 4
ATTENTIONS = {f"transformer_blocks.{i}.{name}_attention" for i in range(2) for name in ("spatial", "temporal", "cross")}
BLOCKS = {"transformer_blocks.0", "transformer_blocks.1"}

NOISE = [1000] * 5 + [500] * 1000
"""What the model and the two self-attentions of its two blocks are told in the first step, and then."""

CONFIGS: dict[str, Callable[[], Any]] = {
    "first_block": lambda: FirstBlockCacheConfig(threshold=1.0),
    "mag": lambda: MagCacheConfig(num_inference_steps=2, retention_ratio=0.0, threshold=100.0, mag_ratios=[1.0, 1.0]),
    "taylorseer": lambda: TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=1, max_order=1),
    "taylorseer_lite": lambda: TaylorSeerCacheConfig(
        cache_interval=3, disable_cache_before_step=1, max_order=1, use_lite_mode=True
    ),
    "pyramid": lambda: PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "faster": lambda: FasterCacheConfig(  # it wants a first step outside of the range
        spatial_attention_block_skip_range=2,
        temporal_attention_block_skip_range=2,
        spatial_attention_timestep_skip_range=(-1, 901),
        temporal_attention_timestep_skip_range=(-1, 901),
        is_guidance_distilled=True,
        tensor_format="BCHW",
        current_timestep_callback=iter(NOISE).__next__,
    ),
}
HOOKED = {
    "first_block": BLOCKS,
    "mag": BLOCKS,
    "taylorseer": ATTENTIONS,
    "taylorseer_lite": BLOCKS | {"proj_out"},
    "pyramid": {name for name in ATTENTIONS if "cross" not in name},
    "faster": {name for name in ATTENTIONS if "cross" not in name} | {""},
}


def inputs(seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    given = conditioning(B, T, N)
    return {
        "hidden_states": torch.randn(B, T, N, H, W, C, generator=generator),
        "timestep": torch.tensor([0.5]),
        "conditioning": {k: v.float() if v.is_floating_point() else v for k, v in given.items()},
    }


@torch.no_grad()
def run(model: WorldModel, seed: int = 0) -> torch.Tensor:
    return model(**inputs(seed)).sample


def hooked(model: WorldModel) -> set[str]:
    return {
        name for name, m in model.named_modules() if getattr(m, "_diffusers_hook", None) and m._diffusers_hook.hooks
    }


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("fresh", [False, True])
def test_the_second_step_reuses_the_first(kind: str, fresh: bool) -> None:
    torch.manual_seed(0)
    model = WorldModel(**WORLD_MODEL).eval() if fresh else world_model()
    expected = run(model, 0), run(model, 1)
    model.enable_cache(CONFIGS[kind]())
    assert hooked(model) == HOOKED[kind]
    with model.cache_context("cond"):
        first, second = run(model, 0), run(model, 1)
    torch.testing.assert_close(first, expected[0], atol=1e-6, rtol=0)
    assert second.isfinite().all()
    assert (second - expected[1]).abs().max() > 1e-5
    model.disable_cache()
    assert hooked(model) == set()
    assert torch.equal(run(model, 1), expected[1])


@pytest.mark.parametrize("kind", ["first_block", "mag", "taylorseer"])
def test_contexts_do_not_share_what_they_keep(kind: str) -> None:
    model = world_model()
    expected = run(model, 0), run(model, 1)
    model.enable_cache(CONFIGS[kind]())
    for name, seed in (("cond", 0), ("uncond", 1)):
        with model.cache_context(name):
            torch.testing.assert_close(run(model, seed), expected[seed], atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "faster"])
def test_a_reset_forgets(kind: str) -> None:
    model = world_model()
    expected = run(model, 1)
    model.enable_cache(CONFIGS[kind]())
    with model.cache_context("cond"):
        run(model, 0)
    model._reset_stateful_cache()
    with model.cache_context("cond"):
        torch.testing.assert_close(run(model, 1), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_one_cache_at_a_time(kind: str) -> None:
    model = world_model()
    model.enable_cache(CONFIGS[kind]())
    assert model.is_cache_enabled
    with pytest.raises(ValueError, match="Caching has already been enabled"):
        model.enable_cache(CONFIGS["mag"]())
    model.disable_cache()
    assert not model.is_cache_enabled


def test_one_block_is_too_few_for_a_cache_of_the_others() -> None:
    model = world_model(num_blocks=1)
    with pytest.raises(ValueError, match=r"two blocks or more for FirstBlockCache, .* got 1"):
        model.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    assert not model.is_cache_enabled


def test_names_that_the_user_gives_stay() -> None:
    model = world_model()
    model.enable_cache(TaylorSeerCacheConfig(cache_identifiers=[r"transformer_blocks\.1\.mlp"]))
    assert hooked(model) == {"transformer_blocks.1.mlp"}
    model.disable_cache()
    model.enable_cache(
        FasterCacheConfig(
            spatial_attention_block_identifiers=(r"blocks\.1\.spatial",),
            is_guidance_distilled=True,
            tensor_format="BCHW",
            current_timestep_callback=lambda: 500,
        )
    )
    assert hooked(model) == {"", "transformer_blocks.1.spatial_attention"}


def test_cross_attention_is_told_from_self_attention() -> None:
    model = world_model()
    config = PyramidAttentionBroadcastConfig(cross_attention_block_skip_range=2, current_timestep_callback=lambda: 500)
    model.enable_cache(config)
    assert hooked(model) == {name for name in ATTENTIONS if "cross" in name}
