"""What a generation leaves: the video of all cameras, one a camera, the scene, and where the boxes are in it."""

from __future__ import annotations

import shutil
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gaia2._files import replacing_folder
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX
from gaia2.video.files import write_video
from gaia2.viz.mosaic import mosaic_grid

TILE_WIDTH = 320
"""Pixels that a camera's picture is enlarged to in the mosaic, about."""


@dataclass(frozen=True)
class Result:
    """Files of one generation.

    Attributes:
        video: All cameras side by side.
        with_boxes: The same with the agents' boxes.
        cameras: A video a camera, at the size of the model.
        scene: The scene that they show.
        tiles: Where each camera is in the mosaic, and the boxes of each frame; for the player.
    """

    video: Path
    with_boxes: Path
    cameras: tuple[Path, ...]
    scene: Path
    tiles: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """All files."""
        return [self.video, self.with_boxes, self.scene, *self.cameras]


def write_result(output: Gaia2PipelineOutput, root: Path) -> Result:
    """Write what was generated into a folder of its own, whose name nobody can guess.

    Args:
        output: Of one scene.
        root: The folder that gets the new one.
    """
    folder = root / "results" / uuid.uuid4().hex
    names, rate, frames = output.camera_names, output.frame_rate(), output.pixels()
    scale = max(1, TILE_WIDTH // frames.shape[3])
    with replacing_folder(folder) as unfinished:
        output.save_video(unfinished / "video.mp4", scale=scale)
        output.save_video(unfinished / "video_boxes.mp4", boxes=True, scale=scale)
        output.scenes[0].save(unfinished / "scene.json")
        for index, name in enumerate(names):
            write_video(unfinished / f"video_{name}.mp4", frames[:, index], rate)
    cameras = tuple(folder / f"video_{name}.mp4" for name in names)
    tiles = tiles_of(output)
    return Result(folder / "video.mp4", folder / "video_boxes.mp4", cameras, folder / "scene.json", tiles)


def tiles_of(output: Gaia2PipelineOutput) -> dict[str, Any]:
    """Where things are in the mosaic of a result, as JSON values.

    Returns:
        "frame_rate"; "size", width over height of the mosaic; "cameras", for each its "name" and "tile", left, top,
        width and height as shares of the mosaic; "boxes", for each frame a list of camera, category, left, top, width
        and height as shares of the camera's picture, cut at its edges.
    """
    names = output.camera_names
    height, width = output.frames[0].shape[2:4]
    grid = mosaic_grid(names)
    across = max(len(row) for row in grid)
    tiles = {}
    for top, row in enumerate(grid):
        left = (across - len(row)) / 2
        for place, camera in enumerate(row):
            tiles[camera] = [(left + place) / across, top / len(grid), 1 / across, 1 / len(grid)]
    boxes: list[list[list[float]]] = [[] for _ in range(output.scenes[0].num_frames)]
    seen = output.boxes[0]
    for frame, camera, agent in np.argwhere(seen[..., CATEGORY] >= 0).tolist():
        x1, y1, x2, y2 = seen[frame, camera, agent, IMAGE_BOX].clip(0, 1).round(4).tolist()
        boxes[frame].append([camera, int(seen[frame, camera, agent, CATEGORY]), x1, y1, x2 - x1, y2 - y1])
    return {
        "frame_rate": output.frame_rate(),
        "size": across * width / (len(grid) * height),
        "cameras": [{"name": name, "tile": tiles[index]} for index, name in enumerate(names)],
        "boxes": boxes,
    }


def remove_old(root: Path, seconds: float) -> None:
    """Remove what has lain in an upload folder for longer than so many seconds: results and uploads.

    Args:
        root: The upload folder.
        seconds: How long things are kept.
    """
    for folder in [*root.glob("results/*"), *(path for path in root.iterdir() if path.name != "results")]:
        try:
            if time.time() - folder.stat().st_mtime > seconds:
                shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        except FileNotFoundError:
            continue  # somebody else was quicker
