"""Tiny models, conditions and clips that several tests share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from gaia2.data.clip import Clip
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.scene import METADATA, Scene

TOKENIZER: dict[str, Any] = dict(
    latent_channels=4,
    dim=16,
    num_heads=2,
    encoder_blocks=1,
    decoder_blocks=(1, 1),
    encoder_strides=((2, 4, 4), (2, 2, 2), (1, 2, 2)),
    decoder_strides=((1, 2, 2), (2, 2, 2), (4, 4, 4)),
    decoder_kernel_size=(1, 3, 3),
    sample_size=(32, 64),
)
WORLD_MODEL: dict[str, Any] = dict(
    latent_channels=4, dim=16, num_heads=2, num_blocks=2, window_latents=3, max_agents=3, clip_dim=6, scenario_dim=5
)
CLIP_DIM, SCENARIO_DIM = 6, 5
BY_CAMERA = ("intrinsics", "extrinsics", "distortion", "distortion_model")
BY_TIME_AND_CAMERA = ("timestamps", "agents")


@torch.no_grad()
def perturb(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give random values to every parameter that starts at zero, so that nothing is switched off."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        if not parameter.any():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return module


def tokenizer(seed: int = 0, **changes: Any) -> VideoTokenizer:
    torch.manual_seed(seed)
    return VideoTokenizer(**{**TOKENIZER, **changes}).eval()


def world_model(seed: int = 0, **changes: Any) -> WorldModel:
    torch.manual_seed(seed)
    model = WorldModel(**{**WORLD_MODEL, **changes})
    nn.init.zeros_(model.proj_out.weight)  # small at first: perturb makes it of the size that a trained one has
    perturb(model, seed)
    return model.eval()


def conditioning(b: int, t: int, n: int, m: int = 2, seed: int = 0) -> dict[str, torch.Tensor]:
    """Everything given, at random, in float64."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    def ids(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(0, high, shape, generator=generator)

    pose = torch.eye(4, dtype=torch.float64).repeat(b, n, 1, 1)
    pose[..., :3, :3] = torch.linalg.qr(rand(b, n, 3, 3)).Q
    pose[..., :3, 3] = rand(b, n, 3)
    agents = rand(b, t, n, m, 13)
    agents[..., 12] = ids(7, b, t, n, m)
    return {
        "timestamps": rand(b, t, n),
        "intrinsics": rand(b, n, 4) + 0.1,
        "extrinsics": pose,
        "distortion": 0.1 * rand(b, n, 8),
        "distortion_model": ids(2, b, n),
        "speed": 20 * rand(b, t),
        "curvature": 0.1 * rand(b, t),
        "agents": agents,
        "metadata": torch.stack([ids(len(values), b) for values in METADATA.values()], dim=1),
        "clip_embedding": rand(b, CLIP_DIM),
        "scenario_embedding": rand(b, SCENARIO_DIM),
    }


def clip(seed: int, num_frames: int = 16, rig: str = "front", image_size: tuple[int, int] = (32, 64)) -> Clip:
    """A clip of random frames."""
    scene = Scene.create(rig, num_frames=num_frames, speed=float(seed), weather="snow")
    scene = scene.replace(rig=scene.rig.fit(image_size=image_size))
    shape = (num_frames, scene.rig.num_cameras, 3, *image_size)
    return Clip(scene, np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8), source=f"random {seed}")
