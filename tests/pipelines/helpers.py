"""Tiny pipelines, scenes and a spy that the tests of all pipelines share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.scene import Agents, Scene
from gaia2.schedulers.flow_match import FlowMatchScheduler
from tests.tiny import tokenizer, world_model

STEPS = 2
H, W, C = 2, 4, 4


def pipeline(cls: type = Gaia2Pipeline, **components: Any) -> Any:
    parts = dict(
        vae=tokenizer(latents_mean=[0.1, -0.1, 0.0, 0.2], latents_std=[0.5, 0.4, 0.6, 0.5]),
        transformer=world_model(),
        scheduler=FlowMatchScheduler(),
    )
    pipe = cls(**parts | components)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def scene(num_frames: int = 16, rig: str = "surround3", **conditions: Any) -> Scene:
    return Scene.create(rig, num_frames=num_frames, **dict(speed=8.0, weather="rain") | conditions)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def latents_of(pipe: Gaia2Pipeline, *args: Any, **kwargs: Any) -> torch.Tensor:
    """Latents of a video of few steps and the seed 0, unless told otherwise."""
    defaults = dict(num_inference_steps=STEPS, output_type="latent", generator=seeded())
    return pipe(*args, **defaults | kwargs).frames


class Spy:
    """Writes down what the transformer gets: its calls, and the conditions as they are encoded once a window."""

    def __init__(self, pipe: Gaia2PipelineBase, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[dict[str, Any]] = []
        self.conditioning: list[dict[str, torch.Tensor]] = []
        forward, encode = pipe.transformer.forward, pipe.transformer.encode_conditioning

        def spy_forward(latents: torch.Tensor, timestep: torch.Tensor, encoded: Any, known_mask: Any = None) -> Any:
            self.calls.append(dict(latents=latents.clone(), timestep=timestep, known_mask=known_mask))
            return forward(latents, timestep, encoded, known_mask=known_mask)

        def spy_encode(conditioning: dict[str, torch.Tensor], grid: Any = None) -> Any:
            self.conditioning.append(conditioning)
            return encode(conditioning, grid=grid)

        monkeypatch.setattr(pipe.transformer, "forward", spy_forward)
        monkeypatch.setattr(pipe.transformer, "encode_conditioning", spy_encode)


def with_agents(base: Scene) -> Scene:
    """A car (track 7) and a pedestrian (track 9) ahead, the car coming nearer."""
    tv = base.num_frames
    car = np.stack([np.linspace(25, 15, tv), np.zeros(tv), *np.ones((5, tv))], axis=-1)
    car[:, 2:] = 0.8, 4.5, 1.9, 1.6, 0.0
    walker = np.tile([12.0, 4.0, 0.9, 0.6, 0.6, 1.8, 1.0], (tv, 1))
    agents = Agents(np.stack([car, walker], axis=1), np.tile([0, 5], (tv, 1)), np.tile([7, 9], (tv, 1)))
    return base.replace(agents=agents)
