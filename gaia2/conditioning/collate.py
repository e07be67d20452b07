"""From scenes, as users write them, to the conditioning tensors that the world model takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gaia2._checks import refuse, whole_number
from gaia2.conditioning.checks import check_conditioning
from gaia2.conditioning.condition import Conditioning, LatentTimes
from gaia2.conditioning.metadata import Vocabulary
from gaia2.conditioning.table import ConditionTable, standard_conditions
from gaia2.scene import Scene

MAX_AGENTS = 10_000


def scene_conditioning(
    scenes: Scene | Sequence[Scene],
    *,
    frames_per_latent: int = 8,
    max_agents: int = 16,
    present_frame: int = 0,
    vocabulary: Vocabulary | Sequence[tuple[str, Sequence[Any]]] | None = None,
    conditions: ConditionTable | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Conditioning:
    """Return the conditioning of one scene or of a batch of them.

    Action and timestamps of a latent are the means over its frames, absent ones left out; agents are those of its
    middle frame. Each camera and time keeps its nearest `max_agents` visible boxes. While there are no more agents than
    that, a row of the result is the same row of the scene in every camera and at every time.

    Args:
        scenes: One scene or a batch, all with the same number of frames and cameras.
        frames_per_latent: Video frames of one latent.
        max_agents: Rows of the result, the paper's B; more boxes than that in a camera warn once.
        present_frame: Latent that is the present, on average over the cameras: the last context latent, or the first.
        vocabulary: Metadata names and their allowed values; the library's by default.
        conditions: The conditions of a world model, `model.conditions`, which know its vocabulary and the boxes it
            takes; in place of `max_agents` and `vocabulary`.
        dtype: Type of the real numbers, float32 or float64. Half precision gives float32: it would blur metres and
            seconds, and the encoders convert their features by themselves.
        device: Where the tensors shall lie.

    Returns:
        Tensors by name; NaN and -1 stand for what is absent:

        - `timestamps (b, t, n)` seconds relative to the present
        - `intrinsics (b, n, 4)` fx / w, fy / h, cx / w, cy / h
        - `extrinsics (b, n, 4, 4)` camera to ego, metres
        - `distortion (b, n, 8)`, `distortion_model (b, n)` index of `DISTORTION_MODELS`
        - `speed (b, t)` m/s, `curvature (b, t)` 1/m
        - `agents (b, t, n, m, 13)`, see `project_boxes`
        - `metadata (b, k)` ids in the order of the vocabulary
        - `clip_embedding (b, d)`, `scenario_embedding (b, d)`, each only if a scene has one
        - those of your own conditions

    Raises:
        ValueError: If there is no scene, scenes differ in frames, cameras or width of an embedding, the frames do not
            fill whole latents, the present is not one of the latents, or a scene says what a condition cannot take.

    Example:
        >>> from gaia2.scene import Scene
        >>> batch = scene_conditioning([Scene.create(num_frames=24, speed=v) for v in (0.0, 12.0)])
        >>> batch["speed"].tolist(), batch["agents"].shape
        ([[0.0, 0.0, 0.0], [12.0, 12.0, 12.0]], torch.Size([2, 3, 5, 16, 13]))
    """
    if not isinstance(scenes, Scene | list | tuple):
        raise refuse("scenes", "a Scene or a list of them", scenes)
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    for scene in scenes:
        if not isinstance(scene, Scene):
            raise refuse("scenes", "Scenes", scene)
    whole_number("max_agents", max_agents, 0, MAX_AGENTS)
    if conditions is None:
        conditions = standard_conditions(vocabulary=vocabulary, max_agents=max_agents)
    num_latents = _check_batch(scenes, frames_per_latent)
    whole_number("present_frame", present_frame, None)
    if not 0 <= present_frame < num_latents:
        raise ValueError(f"present_frame: expected a latent from 0 to {num_latents - 1}, got {present_frame}")
    conditions.check_scenes(scenes)
    times = LatentTimes(frames_per_latent, present_frame)
    result: Conditioning = {}
    for condition in conditions:
        result |= condition.collate(scenes, times)
    check_conditioning(result, conditions)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    return {key: value.to(device, real if value.is_floating_point() else value.dtype) for key, value in result.items()}


def _check_batch(scenes: Sequence[Scene], frames_per_latent: int) -> int:
    """Check that scenes fit together and return their number of latents."""
    if not scenes:
        raise ValueError("scenes: expected at least one scene, got none")
    whole_number("frames_per_latent", frames_per_latent, 1, 100_000)
    frames, cameras = scenes[0].timestamps.shape
    for index, scene in enumerate(scenes):
        if scene.timestamps.shape != (frames, cameras):
            raise ValueError(
                f"scenes: expected all to have {frames} frames and {cameras} cameras, as the first, got "
                f"{scene.num_frames} and {scene.rig.num_cameras} in scene {index}; use scene.window or batch them apart"
            )
    if frames % frames_per_latent:
        raise ValueError(
            f"scenes: expected a multiple of frames_per_latent={frames_per_latent} frames, got {frames}; cut them with "
            "scene.window or change their rate with scene.resample"
        )
    return frames // frames_per_latent
