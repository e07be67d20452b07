"""What the pipeline refuses before it computes anything, and what it warns of."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from tests.pipelines.helpers import STEPS, C, H, Spy, W, pipeline, scene, seeded
from tests.tiny import world_model


def frames_of(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.uint8)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (lambda: dict(scene=[]), "scene: expected a Scene or a list of them, got an empty list"),
        (lambda: dict(scene=["snow"]), "scene: expected a gaia2.Scene, got str"),
        (lambda: dict(scene=scene(12)), "scene: expected a multiple of 8 frames, got 12; use 16, e.g. with scene.res"),
        (
            lambda: dict(scene=[scene(8), scene(16)]),
            r"scene: expected scenes of one length and number of cameras, got \[\(8, 3\), \(16, 3\)\]",
        ),
        (lambda: dict(scene=[scene(8), scene(8, "front")]), r"got \[\(8, 1\), \(8, 3\)\] \(frames, cameras\)"),
        (
            lambda: dict(scene=[scene(16, "surround"), scene(16, "van")]),
            r"scene: expected scenes of one rig in a batch, got another one in scene 1 .* call the pipeline once for",
        ),
        (lambda: dict(num_videos_per_scene=0), "num_videos_per_scene: expected a whole number from 1 to 1024, got 0"),
        (lambda: dict(timesteps=[0.5, 0.2]), "timesteps: expected flow times that rise"),
        (
            lambda: dict(scene=scene(40), context=frames_of(24, 3, 3, 32, 64)),
            r"context: expected at most 16 frames, as a window is 3 latents .* got 24; give the last 16 and the scene",
        ),
        (lambda: dict(num_inference_steps=0), "num_inference_steps: expected a whole number from 1 to 10000, got 0"),
        (
            lambda: dict(guidance_scale=-1.0),
            "guidance_scale: expected a number from 0 to 1000, got -1.0; 1 is no guidance",
        ),
        (lambda: dict(output_type="mp4"), "output_type: expected one of np, pt, pil, latent, got 'mp4'"),
        (lambda: dict(image_size=(30, 64)), r"image_size: expected .* multiples of 16, got \(30, 64\)"),
        (lambda: dict(image_size=(0, 64)), "image_size: expected a whole number from 16 to 16384, got 0"),
        (lambda: dict(num_context_latents=0), "num_context_latents: expected 1 to 2, got 0"),
        (lambda: dict(num_context_latents=3), "num_context_latents: expected 1 to 2, got 3"),
        (lambda: dict(generator=[seeded(), seeded()]), "generator: expected one, or one for each of 1 samples, got 2"),
        (
            lambda: dict(callback_on_step_end_tensor_inputs=["noise"]),
            r"callback_on_step_end_tensor_inputs: expected some of \['latents', .*\], got \['noise'\]",
        ),
        (
            lambda: dict(latents=torch.zeros(1, 3, 3, H, W, C)),
            r"latents: expected \(b=1, t=2, n=3, h=2, w=4, c=4\), got \(1, 3, 3, 2, 4, 4\)",
        ),
        (
            lambda: dict(context=frames_of(8, 1, 3, 32, 64)),
            r"context: expected \(b=1, tv, n=3, c=3, hv=32, wv=64\), got \(1, 8, 1, 3, 32, 64\); give one frame of",
        ),
        (lambda: dict(context=frames_of(8, 3, 3, 30, 64)), r"context: expected .*, got \(1, 8, 3, 3, 30, 64\)"),
        (
            lambda: dict(context=frames_of(4, 3, 3, 32, 64)),
            "context: expected a multiple of 8 frames, fewer than the scene's 16, got 4; cut the context or lengthen",
        ),
        (lambda: dict(context=frames_of(16, 3, 3, 32, 64)), "fewer than the scene's 16, got 16"),
        (lambda: dict(context=frames_of(0, 3, 3, 32, 64)), "fewer than the scene's 16, got 0"),
        (
            lambda: dict(context=np.full((8, 3, 3, 32, 64), 255.0)),
            r"context: expected uint8, or float in \[-1, 1\], got values from 255 to 255; scale them",
        ),
        (lambda: dict(context=np.full((8, 3, 3, 32, 64), np.nan)), "context: expected uint8, .* got values from nan"),
        (
            lambda: dict(scene=scene(prompt="a tram")),
            "prompt: expected a pipeline with text_encoder and tokenizer, got one without; load CLIP .* or give",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_computed(
    pipe: Gaia2Pipeline, spy: Spy, arguments: Callable[[], dict[str, Any]], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        pipe(**dict(scene=scene(), num_inference_steps=STEPS) | arguments())
    assert spy.calls == []


def test_going_beyond_what_the_models_were_trained_at_warns() -> None:
    """Larger frames than the tokenizer's, more cameras and other times between latents than the world model's."""
    pipe = pipeline(transformer=world_model(trained_range={"cameras": 2, "seconds": [0.8, 0.8]}))
    arguments: dict[str, Any] = dict(num_inference_steps=1, output_type="latent")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pipe(scene(16, "front"), **arguments)
        pipe(scene(8, "front"), **arguments)
    with pytest.warns(UserWarning, match=r"got 3 cameras, where it knows up to 2; look"):
        pipe(scene(16, "surround3"), **arguments)
    with pytest.warns(UserWarning, match=r"got 0.4 s from latent to latent, where it knows 0.8 to 0.8 s"):
        pipe(scene(16, "front", frame_rate=20.0), **arguments)
    with pytest.warns(UserWarning, match=r"frames of 48x64 pixels, where they know 32x64"):
        pipe(scene(8, "front"), image_size=(48, 64), **arguments)
