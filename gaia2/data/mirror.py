"""Mirrored drives: what a looking glass shows, with a scene that says so exactly."""

from __future__ import annotations

import numpy as np

from gaia2.data.clip import Clip
from gaia2.scene import Agents, Scene

__all__ = ["mirror", "mirror_scene"]


def mirror(clip: Clip) -> Clip:
    """Return the clip as a looking glass shows it: frames with left and right swapped, and the scene likewise.

    Args:
        clip: Any clip.

    Returns:
        A clip whose boxes project onto its frames as those of `clip` do. Its country is left open, since one drives on
        the other side.

    Example:
        >>> scene = Scene.create(rig="front", num_frames=8, curvature=0.01, country="uk")
        >>> clip = mirror(Clip(scene, np.zeros((8, 1, 3, 448, 960), dtype=np.uint8)))
        >>> clip.scene.curvature[0].item(), "country" in clip.scene.metadata
        (-0.01, False)
    """
    frames = clip.frames
    flipped = np.ascontiguousarray(frames[..., ::-1]) if isinstance(frames, np.ndarray) else frames.flip(-1)
    source = clip.source.replace(notes={**clip.source.notes, "mirrored": True})
    return Clip(mirror_scene(clip.scene), flipped, source)


def mirror_scene(scene: Scene) -> Scene:
    """Return the scene on the other side of the plane through the ego's x and z axes.

    Args:
        scene: Any scene. CLIP and scenario embeddings are left out, as they are of the other video, and extra data,
            which only their owner can mirror.

    Returns:
        The scene whose pictures are those of `scene` with left and right swapped.
    """
    rig = scene.rig
    y, x = np.diag([1.0, -1.0, 1.0, 1.0]), np.diag([-1.0, 1.0, 1.0, 1.0])
    intrinsics, distortion = rig.intrinsics.copy(), rig.distortion.copy()
    intrinsics[:, 0, 2] = rig.image_size[:, 1] - intrinsics[:, 0, 2]
    intrinsics[:, 0, 1] *= -1
    pinhole = np.array([model == "pinhole" for model in rig.distortion_model])
    distortion[pinhole, 3] *= -1  # p2, the tangential distortion to the side
    boxes = scene.agents.boxes * np.array([1, -1, 1, 1, 1, 1, -1])
    agents = Agents(boxes=boxes, category=scene.agents.category, track_id=scene.agents.track_id)
    return Scene(
        rig=rig.replace(extrinsics=y @ rig.extrinsics @ x, intrinsics=intrinsics, distortion=distortion),
        timestamps=scene.timestamps,
        speed=scene.speed,
        curvature=-scene.curvature,
        agents=agents,
        metadata={name: value for name, value in scene.metadata.items() if name != "country"},
        prompt=scene.prompt,
    )
