"""From scenes, as users write them, to the conditioning tensors that the world model takes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange, reduce

from gaia2.conditioning.checks import check_conditioning
from gaia2.conditioning.metadata import Vocabulary, metadata_ids
from gaia2.conditioning.projection import NUM_FEATURES, project_boxes
from gaia2.conditioning.timestamp import relative_to_present
from gaia2.scene import AGENT_CATEGORIES, DISTORTION_MODELS, METADATA, Agents, CameraRig, Scene


def scene_conditioning(
    scenes: Scene | Sequence[Scene],
    *,
    frames_per_latent: int = 8,
    max_agents: int = 16,
    present_frame: int = 0,
    vocabulary: Vocabulary = METADATA,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> dict[str, torch.Tensor]:
    """Return the conditioning of one scene or of a batch of them.

    Action and timestamps of a latent are the means over its frames, absent ones left out; agents are those of its
    middle frame. Each camera and time keeps its nearest `max_agents` visible boxes. While there are no more agents than
    that, a row of the result is the same row of the scene in every camera and at every time.

    Args:
        scenes: One scene or a batch, all with the same number of frames and cameras.
        frames_per_latent: Video frames of one latent.
        max_agents: Rows of the result, the paper's B; more boxes than that in a camera warn once.
        present_frame: Latent that is the present, on average over the cameras: the last context latent, or the first.
        vocabulary: Metadata names and their allowed values.
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

    Raises:
        ValueError: If there is no scene, scenes differ in frames, cameras or width of an embedding, the frames do not
            fill whole latents, or the present is not one of the latents.

    Example:
        >>> from gaia2.scene import Scene
        >>> batch = scene_conditioning([Scene.create(num_frames=24, speed=v) for v in (0.0, 12.0)])
        >>> batch["speed"].tolist(), batch["agents"].shape
        ([[0.0, 0.0, 0.0], [12.0, 12.0, 12.0]], torch.Size([2, 3, 5, 16, 13]))
    """
    scenes = [scenes] if isinstance(scenes, Scene) else list(scenes)
    num_latents = _check_batch(scenes, frames_per_latent, max_agents)
    if not 0 <= present_frame < num_latents:
        raise ValueError(f"present_frame: expected a latent from 0 to {num_latents - 1}, got {present_frame}")
    kept = [_agents(scene.rig, scene.agents, frames_per_latent, max_agents) for scene in scenes]
    if any(cut for _, cut in kept):
        warnings.warn(
            f"agents: expected at most max_agents={max_agents} boxes in a camera, got more; the nearest are kept",
            stacklevel=2,
        )
    frame_times = _stack([scene.timestamps for scene in scenes])
    timestamps = reduce(frame_times, "b (t f) n -> b t n", "mean", f=frames_per_latent)
    result = {
        "timestamps": relative_to_present(timestamps, torch.full((len(scenes),), present_frame + 1)),
        "intrinsics": _stack([_normalised_intrinsics(scene.rig) for scene in scenes]),
        "extrinsics": _stack([scene.rig.extrinsics for scene in scenes]),
        "distortion": _stack([scene.rig.distortion for scene in scenes]),
        "distortion_model": _stack([_model_ids(scene.rig) for scene in scenes]),
        "speed": _mean_over_frames([scene.speed for scene in scenes], frames_per_latent),
        "curvature": _mean_over_frames([scene.curvature for scene in scenes], frames_per_latent),
        "agents": torch.stack([agents for agents, _ in kept]),
        "metadata": torch.tensor([metadata_ids(scene.metadata, vocabulary) for scene in scenes], dtype=torch.int64),
    }
    for name in ("clip_embedding", "scenario_embedding"):
        embeddings = [getattr(scene, name) for scene in scenes]
        if any(embedding is not None for embedding in embeddings):
            result[name] = _embeddings(name, embeddings)
    check_conditioning(result, vocabulary=vocabulary, num_categories=len(AGENT_CATEGORIES))
    real = torch.float64 if dtype == torch.float64 else torch.float32
    return {key: value.to(device, real if value.is_floating_point() else value.dtype) for key, value in result.items()}


def _check_batch(scenes: Sequence[Scene], frames_per_latent: int, max_agents: int) -> int:
    """Check that scenes fit together and return their number of latents."""
    if not scenes:
        raise ValueError("scenes: expected at least one scene, got none")
    if frames_per_latent < 1 or max_agents < 0:
        raise ValueError(
            f"expected frames_per_latent >= 1 and max_agents >= 0, got {frames_per_latent} and {max_agents}"
        )
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


def _stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(arrays))


def _normalised_intrinsics(rig: CameraRig) -> np.ndarray:
    """fx / w, fy / h, cx / w, cy / h of each camera, `(n, 4)`."""
    width_height = rig.image_size[:, ::-1]
    focal = np.diagonal(rig.intrinsics, axis1=1, axis2=2)[:, :2]
    return np.concatenate([focal / width_height, rig.intrinsics[:, :2, 2] / width_height], axis=1)


def _model_ids(rig: CameraRig) -> np.ndarray:
    return np.array([DISTORTION_MODELS.index(model) for model in rig.distortion_model], dtype=np.int64)


def _mean_over_frames(values: Sequence[np.ndarray], frames_per_latent: int) -> torch.Tensor:
    """Mean `(b, t)` over the frames of each latent; NaN is left out, and stays where there is nothing else."""
    groups = rearrange(torch.from_numpy(np.stack(values)), "b (t f) -> b t f", f=frames_per_latent)
    return groups.nanmean(dim=-1)


def _embeddings(name: str, embeddings: Sequence[np.ndarray | None]) -> torch.Tensor:
    """Stack embeddings `(b, d)`; NaN rows for scenes without one."""
    widths = sorted({len(embedding) for embedding in embeddings if embedding is not None})
    if len(widths) > 1:
        raise ValueError(f"{name}: expected one width in all scenes, got {widths}; embed all with the same model")
    missing = np.full(widths[0], np.nan)
    return _stack([missing if embedding is None else embedding for embedding in embeddings])


def _agents(rig: CameraRig, agents: Agents, frames_per_latent: int, max_agents: int) -> tuple[torch.Tensor, bool]:
    """Features `(t, n, max_agents, 13)` of one scene's agents, and whether any visible one had to go."""
    middle = slice(frames_per_latent // 2, None, frames_per_latent)
    boxes, category = torch.tensor(agents.boxes[middle]), torch.tensor(agents.category[middle])
    features = project_boxes(
        boxes,
        category,
        torch.tensor(rig.intrinsics),
        torch.tensor(rig.extrinsics),
        torch.tensor(rig.distortion),
        torch.from_numpy(_model_ids(rig)),
        torch.tensor(rig.image_size),
    )
    distance = boxes[:, None, :, :3].norm(dim=-1)
    return _keep_nearest(features, distance, max_agents)


def _keep_nearest(features: torch.Tensor, distance: torch.Tensor, max_agents: int) -> tuple[torch.Tensor, bool]:
    """Keep the nearest `max_agents` of the features `(t, n, m, 13)` at each time and camera.

    They take the rows of their camera's, or better of the whole scene's, agents in order where these are few enough,
    so that an agent keeps its row; else they close ranks.

    Args:
        features: Rows of category -1 are not there.
        distance: `(t, n or 1, m)`.
        max_agents: Rows of the result.

    Returns:
        `(t, n, max_agents, 13)`, and whether anything had to go.
    """
    t, n, m, _ = features.shape
    there = features[..., -1] >= 0
    rank = distance.masked_fill(~there, torch.inf).argsort(dim=-1).argsort(dim=-1)
    keep = there & (rank < max_agents)
    row = torch.arange(m).expand(keep.shape)
    if m > max_agents:
        row = keep.cumsum(dim=-1) - 1
        for ever in (keep.any(dim=0, keepdim=True), keep.any(dim=0, keepdim=True).any(dim=1, keepdim=True)):
            few = ever.sum(dim=-1, keepdim=True) <= max_agents
            row = torch.where(few, ever.cumsum(dim=-1) - 1, row)
    row = torch.where(keep, row, max_agents)[..., None].expand(features.shape)
    result = features.new_full((t, n, max_agents + 1, NUM_FEATURES), torch.nan)
    result[..., -1] = -1
    return result.scatter(2, row, features)[:, :, :max_agents], bool((there & ~keep).any())
