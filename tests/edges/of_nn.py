"""Bad numbers and tensors for the building blocks."""

from __future__ import annotations

from typing import Any

import torch

from gaia2.nn import (
    MLP,
    AdaptiveLayerNorm,
    Attention,
    BlurPool3d,
    DepthToSpaceUpsample,
    DownsampleConv,
    FourierFeatures,
    ResidualDiscriminatorBlock,
    RMSNorm,
    SpaceTimeBlock,
    SpatialBlock,
    TemporalBlock,
    TimestepEmbedder,
    WorldModelBlock,
    sinusoidal_embedding,
    spatial_position_embedding,
    spectral_conv3d,
)
from tests.edges.bad_values import Kind, array, count, either, number, of, tensor
from tests.edges.calls import Target

DIM = count(1)
HEADS = either(count(1, 8), of(3, 5))
RATIO = number(0.1, 1000)
EPS = number(0, open_low=True)
BLOCK = {"dim": either(DIM, of(9)), "num_heads": HEADS, "mlp_ratio": RATIO}
NAMES = {"dim": ("num_heads",), "mlp_ratio": ("ratio",)}
TRIPLES = of((0, 1, 1), (2, -1, 2), (2, 2), 2, (2.0, 2, 2), "222", (10**9, 1, 1), (1, 1, True))
STRIDE = either(array(whole=True), TRIPLES)
KERNEL = either(STRIDE, of((2, 2, 4)))
KERNEL_OR_STRIDE = either(array(whole=True, optional=True), TRIPLES, of((2, 2, 4), (4, 3, 3)))

GENERATOR = torch.Generator().manual_seed(0)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=GENERATOR)


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(*shape, dtype=torch.bool)


def block_inputs() -> dict[str, Any]:
    b, t, n, h, w, c, k = 2, 3, 2, 2, 4, 8, 5
    return {
        "hidden_states": rand(b, t, n, h, w, c),
        "positions": rand(b, t, n, h, w, c),
        "modulation": rand(b, t, c),
        "condition": rand(b, t, n, k, c),
        "known_modulation": rand(b, t, c),
        "known_mask": ones(b, t, n, h, w),
        "condition_mask": ones(b, t, n, k),
        "camera_mask": ones(b, n),
    }


def forward(
    module: torch.nn.Module, kinds: dict[str, Kind], names: dict[str, Any] | None = None, **good: Any
) -> Target:
    name = type(module).__name__
    return Target(f"{name}.forward", module, lambda: dict(good), kinds, names or {})


def make(cls: Any, kinds: dict[str, Kind], names: dict[str, Any] | None = None, **good: Any) -> Target:
    return Target(cls.__name__, cls, lambda: dict(good), kinds, names or {})


VIDEO = tensor(free=(0, 2, 3, 4))
SIZED = either(VIDEO, of(rand(1, 3, 3, 8, 8), rand(1, 3, 4, 7, 8), rand(1, 3, 4, 8, 9)))
CONV = {"in_channels": DIM, "out_channels": DIM, "stride": STRIDE}
ATTENTION = Attention(dim=8, num_heads=2)
CROSS = Attention(dim=8, num_heads=2, context_dim=6)
ANY_REAL = of(None, "x", 0.5, [1.0], rand(2).numpy(), ones(2), rand(2) * 1j)

TARGETS = [
    make(Attention, {"dim": either(DIM, of(9)), "num_heads": HEADS, "context_dim": count(1, optional=True), "eps": EPS},
         NAMES, dim=8, num_heads=2, context_dim=6, eps=1e-6),
    make(MLP, {"dim": DIM, "ratio": RATIO}, dim=8, ratio=4.0),
    make(AdaptiveLayerNorm, {"dim": DIM, "eps": EPS}, dim=8, eps=1e-6),
    make(SpatialBlock, BLOCK, NAMES, dim=8, num_heads=2, mlp_ratio=4.0),
    make(TemporalBlock, BLOCK, NAMES, dim=8, num_heads=2, mlp_ratio=4.0),
    make(SpaceTimeBlock, BLOCK, NAMES, dim=8, num_heads=2, mlp_ratio=4.0),
    make(WorldModelBlock, BLOCK, NAMES, dim=8, num_heads=2, mlp_ratio=4.0),
    make(DownsampleConv, {**CONV, "kernel_size": KERNEL_OR_STRIDE}, {"stride": ("kernel_size",)},
         in_channels=3, out_channels=4, stride=(2, 2, 2), kernel_size=(3, 3, 3)),
    make(DepthToSpaceUpsample, {**CONV, "kernel_size": KERNEL}, in_channels=3, out_channels=4, stride=(2, 2, 2),
         kernel_size=(3, 3, 3)),
    make(BlurPool3d, {"stride": either(STRIDE, of((1, 1, 9))), "kernel_size": count(2)}, stride=(2, 2, 2),
         kernel_size=4),
    make(ResidualDiscriminatorBlock, {**CONV, "negative_slope": number(0, 1)}, in_channels=3, out_channels=4,
         stride=(2, 2, 2), negative_slope=0.2),
    make(FourierFeatures, {"num_frequencies": count(0, 64)}, num_frequencies=4),
    make(TimestepEmbedder, {"dim": DIM, "frequency_dim": either(DIM, of(7))}, dim=8, frequency_dim=16),
    make(spectral_conv3d, {"in_channels": DIM, "out_channels": DIM, "kernel_size": either(count(1), of(2, 4))},
         in_channels=2, out_channels=3, kernel_size=3),
    make(sinusoidal_embedding, {"positions": ANY_REAL, "dim": either(count(2), of(3)), "max_period": number(1)},
         positions=rand(3), dim=4, max_period=100.0),
    make(spatial_position_embedding, {"height": count(1), "width": count(1), "dim": either(count(4), of(6))},
         height=2, width=3, dim=8),
    forward(ATTENTION, {"hidden_states": tensor(free=(0, 1))}, hidden_states=rand(2, 3, 8)),
    forward(
        CROSS,
        {
            "hidden_states": tensor(free=(1,)),
            "context": tensor(free=(1,)),
            "attention_mask": tensor("bool", optional=True),
        },
        {"hidden_states": ("context", "attention_mask"), "context": ("attention_mask",)},
        hidden_states=rand(2, 3, 8), context=rand(2, 4, 6), attention_mask=ones(2, 4),
    ),
    forward(MLP(dim=8), {"hidden_states": tensor(rank=False, free=(0,))}, hidden_states=rand(2, 8)),
    forward(RMSNorm(8), {"hidden_states": tensor(rank=False, free=(0,))}, hidden_states=rand(2, 8)),
    forward(SpatialBlock(dim=8, num_heads=2), {"hidden_states": tensor(free=(0, 1, 2, 3))},
            hidden_states=rand(1, 2, 2, 4, 8)),
    forward(TemporalBlock(dim=8, num_heads=2), {"hidden_states": either(tensor(rank=False, free=(0, 1)), of(rand(8)))},
            hidden_states=rand(1, 2, 8)),
    forward(SpaceTimeBlock(dim=8, num_heads=2), {"hidden_states": tensor(free=(0, 1, 2, 3))},
            hidden_states=rand(1, 2, 2, 4, 8)),
    Target(
        "WorldModelBlock.forward",
        WorldModelBlock(dim=8, num_heads=2),
        block_inputs,
        {
            "hidden_states": tensor(),
            "positions": tensor(),
            "modulation": tensor(),
            "condition": tensor(free=(3,)),
            "known_modulation": tensor(),
            "known_mask": tensor("bool"),
            "condition_mask": tensor("bool", optional=True),
            "camera_mask": tensor("bool", optional=True),
        },
        {"hidden_states": ("positions", "modulation", "condition"), "condition": ("condition_mask",)},
    ),
    forward(DownsampleConv(in_channels=3, out_channels=4, stride=(2, 2, 2)), {"hidden_states": SIZED},
            hidden_states=rand(1, 3, 4, 8, 8)),
    forward(DepthToSpaceUpsample(in_channels=3, out_channels=4, stride=(2, 2, 2)), {"hidden_states": VIDEO},
            hidden_states=rand(1, 3, 2, 4, 4)),
    forward(BlurPool3d(), {"hidden_states": tensor(free=(0, 1, 2, 3, 4))}, hidden_states=rand(1, 3, 4, 8, 8)),
    forward(ResidualDiscriminatorBlock(in_channels=3, out_channels=4), {"hidden_states": VIDEO},
            hidden_states=rand(1, 3, 4, 8, 8)),
    forward(FourierFeatures(num_frequencies=2), {"values": ANY_REAL}, values=rand(3)),
    forward(TimestepEmbedder(dim=8), {"tau": ANY_REAL}, tau=rand(3)),
    forward(
        AdaptiveLayerNorm(dim=8),
        {
            "hidden_states": tensor(rank=False, free=(0, 1)),
            "modulation": tensor(rank=False, free=(0, 1)),
            "known_modulation": tensor(rank=False, free=(0, 1)),
            "known_mask": of(None),
        },
        {"known_modulation": ("known_mask",)},
        hidden_states=rand(2, 3, 8), modulation=rand(2, 1, 8), known_modulation=rand(2, 1, 8), known_mask=ones(2, 3, 1),
    ),
]  # fmt: skip
