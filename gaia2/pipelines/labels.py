"""Where the agents of a scene are in its images: the labels of a generated clip, and the regions of its tokens."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from einops import reduce

from gaia2._checks import refuse, whole_number
from gaia2.conditioning import projection
from gaia2.conditioning.cells import covered
from gaia2.scene import Scene
from gaia2.scene.box_features import IMAGE_BOX


def project_agents(scene: Scene) -> np.ndarray:
    """The agents of a scene as each camera sees them in each frame.

    Args:
        scene: Any scene; row m of the result is row m of `scene.agents`.

    Returns:
        `(tv, n, m, 13)` float64, see `gaia2.conditioning.project_boxes`: x1 y1 x2 y2 as fractions of the image, centre
        in the camera frame and size in metres, sine and cosine of the yaw, category. NaN with category -1 where an
        agent is not in the image.

    Example:
        >>> project_agents(Scene.create("front", num_frames=8)).shape
        (8, 1, 0, 13)
    """
    return projection.project_agents(scene).numpy()


def agent_tubes(scene: Scene, track_ids: Iterable[int] | None = None, *, dilation: int = 8) -> np.ndarray:
    """The space-time tubes that agents take up in the images, as a mask for `Gaia2InpaintPipeline`.

    Args:
        scene: Any scene with agents; its rig's image size is that of the mask.
        track_ids: Agents, by `scene.agents.track_id`; all by default.
        dilation: Pixels that the boxes grow by on each side.

    Returns:
        Boolean `(tv, n, hv, wv)`.

    Raises:
        ValueError: If the cameras' image sizes differ, `dilation` is negative, or a track id is not in the scene.

    Example:
        >>> agent_tubes(Scene.create("front", num_frames=8)).any()
        np.False_
    """
    sizes = scene.rig.image_size
    if (sizes != sizes[0]).any():
        raise ValueError(
            f"scene: expected one image size for all cameras, got {sizes.tolist()}; use "
            "scene.replace(rig=scene.rig.fit(image_size=(height, width)))"
        )
    whole_number("dilation", dilation, 0, hint="pixels")
    chosen = np.ones(scene.agents.track_id.shape, dtype=bool)
    if track_ids is not None:
        if not isinstance(track_ids, list | tuple | set | range | np.ndarray):
            raise refuse("agents", "track ids of the scene in a list", track_ids)
        wanted = [whole_number("agents", track_id, 0, hint="track ids of the scene") for track_id in track_ids]
        missing = sorted(set(wanted) - set(scene.agents.track_id[scene.agents.category >= 0].tolist()))
        if missing:
            known = sorted(set(scene.agents.track_id[scene.agents.track_id >= 0].tolist()))
            raise ValueError(f"agents: expected track ids of the scene, {known}, got {missing}")
        chosen = np.isin(scene.agents.track_id, wanted)
    height, width = sizes[0].tolist()
    margin = np.array([-dilation / width, -dilation / height, dilation / width, dilation / height])
    boxes = np.where(chosen[:, None, :, None], project_agents(scene)[..., IMAGE_BOX] + margin, np.nan)
    return covered(torch.from_numpy(boxes), height, width).numpy()


def agent_region(scenes: Iterable[Scene], frames_per_latent: int, grid: tuple[int, int]) -> torch.Tensor:
    """The latent tokens that any agent's projected box touches in any of their frames.

    Args:
        scenes: A batch of scenes of one length and number of cameras.
        frames_per_latent: Video frames of one latent.
        grid: Rows and columns `(h, w)` of the latents.

    Returns:
        Boolean `(b, t, n, h, w)`.

    Example:
        >>> agent_region([Scene.create("front", num_frames=16)], 8, (4, 8)).shape
        torch.Size([1, 2, 1, 4, 8])
    """
    touched = [covered(torch.from_numpy(project_agents(scene)[..., IMAGE_BOX]), *grid) for scene in scenes]
    return reduce(torch.stack(touched), "b (t f) n h w -> b t n h w", "max", f=frames_per_latent)
