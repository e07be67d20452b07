"""What the pipelines give back: video, and the scene that it shows as its labels."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from einops import rearrange
from PIL import Image

from gaia2.pipelines.labels import project_agents
from gaia2.scene import Scene
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX
from gaia2.video.pixels import unit_to_uint8

SHOWN = 4
"""Samples that a notebook shows of an output."""


@dataclass(repr=False)
class Gaia2PipelineOutput(BaseOutput):
    """Generated video of all cameras, a labelled sample.

    Attributes:
        frames: `(b, tv, n, hv, wv, 3)` in [0, 1] as a NumPy array ("np") or tensor ("pt"); nested lists
            `[b][tv][n]` of images ("pil"); normalised latents `(b, t, n, h, w, c)` ("latent").
        scenes: The scene of each sample as it was used: the rig at the size of the frames, the frames' timestamps.
        latents: Normalised latents `(b, t, n, h, w, c)` of the frames, where they were asked for.

    Example:
        >>> import gaia2
        >>> scene = gaia2.Scene.create("front", num_frames=8)
        >>> scene = scene.replace(rig=scene.rig.fit(image_size=(32, 64)))
        >>> output = Gaia2PipelineOutput(frames=np.zeros((1, 8, 1, 32, 64, 3)), scenes=[scene])
        >>> output.pixels().shape, output.boxes[0].shape, output.frame_rate()
        ((8, 1, 32, 64, 3), (8, 1, 0, 13), 10.0)
    """

    frames: Any
    scenes: list[Scene]
    latents: torch.Tensor | None = None

    def __repr__(self) -> str:
        """What it holds, in a line; a notebook plays the video."""
        shape = getattr(self.frames, "shape", None)
        frames = f"{tuple(shape)}" if shape is not None else f"{len(self.frames)} x {self.scenes[0].num_frames} images"
        kept = "" if self.latents is None else f", latents={tuple(self.latents.shape)}"
        cameras = ", ".join(self.camera_names)
        return f"{type(self).__name__}(frames={frames}, cameras=({cameras}), {self.frame_rate():g} frames/s{kept})"

    def _repr_html_(self) -> str | None:
        """The video of all cameras, a sample a player, for notebooks; None for latents."""
        from gaia2.viz.player import players

        try:
            videos = [self.mosaic(index) for index in range(min(len(self.scenes), SHOWN))]
        except ValueError:  # latents, which nobody can look at
            return None
        rates = [self.frame_rate(index) for index in range(len(videos))]
        return players(videos, rates, left_out=len(self.scenes) - len(videos))

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the order of the axis n."""
        return self.scenes[0].rig.names

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds of each frame and camera, `(b, tv, n)`."""
        return np.stack([scene.timestamps for scene in self.scenes])

    @property
    def boxes(self) -> list[np.ndarray]:
        """The agents' boxes of each sample as each camera sees them in each frame, `(tv, n, m, 13)`.

        See `gaia2.conditioning.project_boxes` for the 13 features; the rows are those of `scenes[i].agents`.
        """
        return [project_agents(scene) for scene in self.scenes]

    def frame_rate(self, index: int = 0) -> float:
        """Frames a second of one sample, on average; 10 for a single frame."""
        scene = self.scenes[index]
        return (scene.num_frames - 1) / scene.duration if scene.num_frames > 1 else 10.0

    def pixels(self, index: int = 0) -> np.ndarray:
        """The frames of one sample as uint8 `(tv, n, hv, wv, 3)`.

        Raises:
            ValueError: If the output holds latents.
        """
        frames = self.frames[index]
        if isinstance(frames, list):
            return np.stack([np.stack([np.asarray(image) for image in cameras]) for cameras in frames])
        frames = frames.float().cpu().numpy() if isinstance(frames, torch.Tensor) else frames
        if frames.shape[-1] != 3 or frames.shape[0] != self.scenes[index].num_frames:
            raise ValueError(
                f"frames: expected video (b, tv, n, hv, wv, 3), got {tuple(np.shape(self.frames))}, which are latents; "
                'generate with output_type="np", "pt" or "pil"'
            )
        return unit_to_uint8(frames)

    def overlay(self, index: int = 0) -> np.ndarray:
        """The frames of one sample with the agents' boxes drawn on them, uint8 `(tv, n, hv, wv, 3)`."""
        from gaia2.viz.overlay import draw_boxes

        boxes = self.boxes[index]
        return draw_boxes(self.pixels(index), boxes[..., IMAGE_BOX], boxes[..., CATEGORY].astype(int))

    def mosaic(self, index: int = 0, *, boxes: bool = False, scale: int = 1) -> np.ndarray:
        """All cameras of one sample in one video, uint8 `(tv, height, width, 3)`; see `gaia2.viz.mosaic`."""
        from gaia2.viz.mosaic import mosaic

        frames = self.overlay(index) if boxes else self.pixels(index)
        return mosaic(frames, self.camera_names, scale=scale)

    def save_video(
        self, path: str | PathLike[str], index: int = 0, *, boxes: bool = False, scale: int = 1, quality: int = 18
    ) -> None:
        """Write all cameras of one sample to one mp4 file.

        Args:
            path: The file; it appears when it is complete.
            index: Which sample.
            boxes: Draw the agents' boxes.
            scale: Whole factor that small frames are enlarged by.
            quality: See `gaia2.video.files.write_video`.
        """
        from gaia2.video.files import write_video

        write_video(path, self.mosaic(index, boxes=boxes, scale=scale), self.frame_rate(index), quality=quality)

    def save_sample(self, folder: str | PathLike[str], index: int = 0) -> Path:
        """Save one sample with its labels: a video a camera, the scene and the boxes in the images.

        Args:
            folder: The folder; it appears when it is complete. See `gaia2.viz.sample.save_sample` for its files.
            index: Which sample.

        Returns:
            The folder.

        Raises:
            FileExistsError: If the folder is there and not empty.
            ValueError: If the output holds latents.
        """
        from gaia2.viz.sample import save_sample

        scene = self.scenes[index]
        return save_sample(folder, self.pixels(index), scene, self.boxes[index], frame_rate=self.frame_rate(index))


def to_output(frames: torch.Tensor, output_type: str) -> np.ndarray | torch.Tensor | list[Any]:
    """Frames `(b, tv, n, 3, hv, wv)` in [-1, 1] in the form that the user asked for."""
    frames = rearrange(frames / 2 + 0.5, "b tv n c hv wv -> b tv n hv wv c").cpu()
    if output_type == "pt":
        return frames
    if output_type == "np":
        return frames.numpy()
    return [
        [[Image.fromarray(image) for image in cameras] for cameras in video] for video in unit_to_uint8(frames.numpy())
    ]
