"""Bad configs and inputs for the tokenizer, the world model and the discriminator."""

from __future__ import annotations

import math
import random
from functools import cache
from typing import Any

import torch

from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from tests.edges.bad_values import count, either, flag, image_size, number, of, tensor
from tests.edges.calls import Target
from tests.tiny import TOKENIZER, WORLD_MODEL, conditioning, tokenizer, world_model

CHANNELS = count(1, 1 << 20)
HEADS = either(count(1), of(3, 5, 17))
STRIDES = of(
    None,
    2,
    (),
    [(2, 2, 2)],
    ((2, 4, 4), (2, 2, 2)),
    ((2, 4), (2, 2), (1, 2)),
    ((0, 4, 4), (2, 2, 2), (1, 2, 2)),
    ((2, 4, 4.5), (2, 2, 2), (1, 2, 2)),
    "abc",
    ((-2, 4, 4), (2, 2, 2), (1, 2, 2)),
    1.5,
    ((2, 8, 4),) * 3,
)
STATISTIC = of(None, "x", math.nan, math.inf, [0.0], [0.0] * 5, [0.0, 1.0, math.nan, 1.0], [], {}, ["a"] * 4, 1j)


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def model_inputs() -> dict[str, Any]:
    b, t, n, h, w = 1, 2, 2, 2, 4
    given = {key: value.float() if value.is_floating_point() else value for key, value in conditioning(b, t, n).items()}
    return {
        "hidden_states": rand(b, t, n, h, w, 4),
        "timestep": torch.tensor([0.5]),
        "conditioning": given,
        "known_mask": torch.ones(b, t, n, h, w, dtype=torch.bool),
        "camera_mask": torch.ones(b, n, dtype=torch.bool),
    }


def bad_time(rng: random.Random, good: torch.Tensor) -> Any:
    values = [None, "x", 0.5, {}, [0.5], torch.tensor(0.5), torch.tensor([0.5, 0.5]), torch.tensor([0.5j])]
    return rng.choice(values + [torch.tensor([v]) for v in (1000.0, -1.0, math.nan, math.inf, 1.5, -0.01)])


def bad_conditioning(rng: random.Random, good: dict[str, torch.Tensor]) -> Any:
    """A conditioning with one thing wrong."""
    if rng.random() < 0.2:
        return rng.choice([None, "x", 5, [], (), {}, {"timestamps": None}, {"speeds": rand(1, 2)}])
    changed = dict(good)
    key = rng.choice(sorted(good))
    value = good[key]
    if key in ("timestamps", "intrinsics", "extrinsics") and rng.random() < 0.2:
        del changed[key]
        return changed
    if value.is_floating_point() and rng.random() < 0.4:
        finite = key in ("timestamps", "intrinsics", "extrinsics", "distortion")
        changed[key] = torch.full_like(value, rng.choice([math.inf, -math.inf] + ([math.nan] if finite else [])))
    elif not value.is_floating_point() and rng.random() < 0.4:
        changed[key] = torch.full_like(value, rng.choice([-2, 99, 10**6]))
    else:
        free = (3,) if key == "agents" else ()  # there may be any number of them
        changed[key] = tensor("float" if value.is_floating_point() else "int", free=free)(rng, value)
    return changed


@cache
def shared(kind: str) -> Any:
    made = {
        "tokenizer": tokenizer,
        "world_model": world_model,
        "discriminator": lambda: VideoDiscriminator(base_channels=4, channel_multipliers=(2,)),
    }
    return made[kind]()


def run(kind: str, method: str) -> Any:
    def call(**arguments: Any) -> Any:
        with torch.no_grad():
            result = getattr(shared(kind), method)(**arguments)
            return list(result) if method == "decode_stream" else result

    return call


CONDITIONS = (
    "timestamps",
    "intrinsics",
    "extrinsics",
    "distortion",
    "distortion_model",
    "speed",
    "curvature",
    "agents",
    "metadata",
    "clip_embedding",
    "scenario_embedding",
)
FRAMES = either(
    tensor(free=(0, 2, 3, 4)),
    of(
        *(torch.full((1, 3, 8, 32, 64), v) for v in (math.nan, 255.0, math.inf, -2.0)),
        torch.zeros(1, 3, 12, 32, 64),
        torch.zeros(1, 3, 8, 30, 64),
        torch.zeros(1, 3, 8, 32, 65),
    ),
)
LATENTS = either(
    tensor(free=(0, 2, 3, 4)),
    of(torch.full((1, 4, 1, 2, 4), math.nan), torch.zeros(1, 4, 0, 2, 4), torch.zeros(1, 4, 1, 0, 4)),
)

TARGETS = [
    Target(
        "WorldModel",
        WorldModel,
        lambda: dict(WORLD_MODEL),
        {
            "latent_channels": CHANNELS,
            "dim": either(CHANNELS, of(18, 6)),
            "num_heads": HEADS,
            "num_blocks": count(1, 1000),
            "mlp_ratio": number(0.1, 1000),
            "window_latents": count(1, 1000),
            "max_agents": count(0, 10_000),
            "clip_dim": CHANNELS,
            "scenario_dim": CHANNELS,
            "metadata": of(
                "weather", 5, ["weather"], {"weather": "rain"}, {"weather": []}, {5: ["a"]}, {"w": None}, [[1]]
            ),
            "ray_map": flag,
            "agent_map": flag,
            "ground_map": flag,
        },
        {"dim": ("num_heads",)},
    ),
    Target(
        "VideoTokenizer",
        VideoTokenizer,
        lambda: dict(TOKENIZER),
        {
            "in_channels": CHANNELS,
            "latent_channels": CHANNELS,
            "dim": either(CHANNELS, of(18, 6)),
            "num_heads": HEADS,
            "encoder_blocks": count(1, 1000),
            "decoder_blocks": of(None, 2, (1,), (1, 1, 1), (1, -1), (1.5, 1), ("1", 1), (True, 1), "ab", {}),
            "frame_stride": count(1, 1024),
            "encoder_strides": STRIDES,
            "decoder_strides": STRIDES,
            "decoder_kernel_size": of(None, 3, (3, 3), (2, 3, 3), (3, 3, 0), "333", (3.0, 3, 3), (-3, 3, 3)),
            "decode_window": either(count(1, 1000), of(2, 4)),
            "latents_mean": STATISTIC,
            "latents_std": either(STATISTIC, of(0, -1.0, [0.0] * 4)),
            "sample_size": image_size(),
        },
        {"dim": ("num_heads",), "encoder_strides": ("decoder_strides",)},
    ),
    Target(
        "VideoDiscriminator",
        VideoDiscriminator,
        lambda: dict(base_channels=4, channel_multipliers=(2,)),
        {
            "in_channels": CHANNELS,
            "base_channels": CHANNELS,
            "channel_multipliers": of(None, (), [], 2, (0,), (2, -1), (2.5,), "22", (None,), (True,)),
            "stride": of(None, 2, (2, 2), (0, 2, 2), (2, 2, 2.5), (9, 2, 2), "222"),
            "negative_slope": number(0, 1),
        },
    ),
    Target(
        "tokenizer.encode", run("tokenizer", "encode"), lambda: dict(frames=rand(1, 3, 8, 32, 64)), {"frames": FRAMES}
    ),
    Target(
        "tokenizer.pad",
        run("tokenizer", "pad"),
        lambda: dict(frames=rand(1, 3, 7, 30, 60)),
        {"frames": tensor(free=(0, 1, 2, 3, 4))},
    ),
    Target(
        "tokenizer.decode", run("tokenizer", "decode"), lambda: dict(latents=rand(1, 4, 1, 2, 4)), {"latents": LATENTS}
    ),
    Target(
        "tokenizer.normalize",
        run("tokenizer", "normalize"),
        lambda: dict(latents=rand(1, 4, 1, 2, 4)),
        {"latents": tensor(free=(0, 2, 3, 4))},
    ),
    Target(
        "tokenizer.rolling_decode",
        run("tokenizer", "rolling_decode"),
        lambda: dict(latents=rand(1, 4, 1, 2, 4), windows_per_batch=2),
        {"latents": LATENTS, "windows_per_batch": count()},
    ),
    Target(
        "tokenizer.enable_tiling",
        tokenizer().enable_tiling,
        lambda: dict(
            tile_sample_min_height=32,
            tile_sample_min_width=32,
            tile_sample_stride_height=16,
            tile_sample_stride_width=16,
        ),
        dict.fromkeys(
            (
                "tile_sample_min_height",
                "tile_sample_min_width",
                "tile_sample_stride_height",
                "tile_sample_stride_width",
            ),
            count(1, 65_536, optional=True),
        ),
        dict.fromkeys(
            (
                "tile_sample_min_height",
                "tile_sample_min_width",
                "tile_sample_stride_height",
                "tile_sample_stride_width",
            ),
            ("tiles",),
        ),
    ),
    Target(
        "discriminator.forward",
        run("discriminator", "forward"),
        lambda: dict(sample=rand(1, 3, 4, 16, 16)),
        {"sample": either(tensor(free=(0, 2, 3, 4)), of(rand(1, 3, 2, 2, 2)))},
    ),
    Target(
        "WorldModel.forward",
        run("world_model", "forward"),
        model_inputs,
        {
            "hidden_states": tensor(),
            "timestep": bad_time,
            "conditioning": bad_conditioning,
            "known_mask": tensor("bool", optional=True),
            "camera_mask": tensor("bool", optional=True),
        },
        {"conditioning": CONDITIONS, "hidden_states": ("timestep", "timestamps", "known_mask")},
    ),
]
