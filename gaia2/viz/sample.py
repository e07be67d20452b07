"""A clip with its labels as files: a video a camera, the scene, and the boxes in the images."""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from gaia2._files import replacing_folder
from gaia2.scene import AGENT_CATEGORIES, Scene
from gaia2.scene.box_features import CATEGORY, CENTRE, IMAGE_BOX, SIZE, YAW
from gaia2.video.files import write_video
from gaia2.viz._tiles import check_camera_frames

SAMPLE_VERSION = 1
"""Version of the layout of `boxes.json`."""


def save_sample(
    folder: str | PathLike[str], frames: np.ndarray, scene: Scene, boxes: np.ndarray, *, frame_rate: float
) -> Path:
    """Save a clip as a labelled sample.

    The folder gets `<camera>.mp4` for each camera, `scene.json` (see `Scene.load`) and `boxes.json`: for each
    camera and frame a list of the visible agents, each with `row` (in `scene.agents`), `track_id`, `category`,
    `box` (x1 y1 x2 y2 in pixels), `centre` (x y z in metres, camera frame), `size` (length width height in
    metres) and `yaw` (radians to the optical axis); null where unknown. The folder appears when it is complete.

    Args:
        folder: Where to; it must not be there, or be empty.
        frames: `(tv, n, hv, wv, 3)` uint8 RGB.
        scene: What the frames show.
        boxes: `(tv, n, m, 13)` the scene's agents as each camera sees them, as `project_agents` gives them.
        frame_rate: Frames per second of the videos; the exact times are in the scene.

    Returns:
        The folder.

    Raises:
        FileExistsError: If the folder is there and not empty.
        ValueError: If frames, scene and boxes do not fit each other.

    Example:
        >>> import tempfile
        >>> scene = Scene.create("front", num_frames=8)
        >>> frames = np.zeros((8, 1, 32, 64, 3), dtype=np.uint8)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     saved = save_sample(f"{root}/clip", frames, scene, np.zeros((8, 1, 0, 13)), frame_rate=10.0)
        ...     sorted(file.name for file in saved.iterdir())
        ['boxes.json', 'front.mp4', 'scene.json']
    """
    check_camera_frames(frames, scene.rig.names)
    expected = (*frames.shape[:2], scene.agents.max_agents, 13)
    if len(frames) != scene.num_frames or boxes.shape != expected:
        raise ValueError(
            f"save_sample: expected frames and boxes {expected} of the scene's {scene.num_frames} frames, got "
            f"{frames.shape} and {boxes.shape}; cut the scene with scene.window"
        )
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder}: expected a folder that is not there or empty; choose another one")
    with replacing_folder(folder) as unfinished:
        for index, name in enumerate(scene.rig.names):
            write_video(unfinished / f"{name}.mp4", frames[:, index], frame_rate)
        scene.save(unfinished / "scene.json")
        labels = box_labels(boxes, scene, frames.shape[2:4])
        (unfinished / "boxes.json").write_text(json.dumps(labels, allow_nan=False) + "\n", encoding="utf-8")
    return folder


def box_labels(boxes: np.ndarray, scene: Scene, image_size: tuple[int, ...]) -> dict[str, Any]:
    """The contents of `boxes.json`: JSON values, see `save_sample`.

    Args:
        boxes: `(tv, n, m, 13)`.
        scene: Whose agents they are.
        image_size: Pixels `(hv, wv)`.
    """
    height, width = image_size
    cameras: dict[str, list[list[dict[str, Any]]]] = {
        name: [[] for _ in range(scene.num_frames)] for name in scene.rig.names
    }
    for frame, camera, row in np.argwhere(boxes[..., CATEGORY] >= 0).tolist():
        values = boxes[frame, camera, row]
        track_id = int(scene.agents.track_id[frame, row])
        cameras[scene.rig.names[camera]][frame].append(
            {
                "row": row,
                "track_id": track_id if track_id >= 0 else None,
                "category": AGENT_CATEGORIES[int(values[CATEGORY])],
                "box": _numbers(values[IMAGE_BOX] * (width, height, width, height)),
                "centre": _numbers(values[CENTRE]),
                "size": _numbers(values[SIZE]),
                "yaw": _numbers(np.arctan2(*np.split(values[YAW], 2)))[0],
            }
        )
    return {"version": SAMPLE_VERSION, "image_size": [height, width], "cameras": cameras}


def _numbers(values: np.ndarray) -> list[float | None]:
    return [round(value, 4) if np.isfinite(value) else None for value in values.tolist()]
