"""Rendered clips in memory, with what is known of every pixel.

Axes: i clips, tv video frames, tm frames with masks, n cameras, hv wv pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from tqdm import tqdm

from gaia2.data.mirror import mirror_scene
from gaia2.data.procedural import ProceduralWorld
from gaia2.scene import Scene

MASK_STRIDE = 4
"""Every so many frames have masks, from the third on: two a latent of eight frames."""


class Masks(NamedTuple):
    """What each pixel shows.

    Attributes:
        classes: `(i, tm, n, hv, wv)` uint8, index of `gaia2.data.procedural.boxes.CLASSES`.
        depth: `(i, tm, n, hv, wv)` float16, metres.
    """

    classes: torch.Tensor
    depth: torch.Tensor


@dataclass(frozen=True)
class RenderedClips:
    """Clips of the procedural world.

    Attributes:
        frames: `(i, tv, n, 3, hv, wv)` uint8.
        classes: See `Masks`.
        depth: See `Masks`.
        scenes: I scenes.
    """

    frames: torch.Tensor
    classes: torch.Tensor
    depth: torch.Tensor
    scenes: list[Scene]

    def __len__(self) -> int:
        return len(self.scenes)

    def mirrored(self) -> RenderedClips:
        """What a looking glass shows: as many new clips for free."""
        scenes = [mirror_scene(scene) for scene in self.scenes]
        return RenderedClips(self.frames.flip(-1), self.classes.flip(-1), self.depth.flip(-1), scenes)

    def masks(self, rows: torch.Tensor) -> Masks:
        """What the pixels of some clips show."""
        return Masks(self.classes[rows], self.depth[rows])

    @classmethod
    def render(
        cls, world: ProceduralWorld, seeds: Sequence[int], batch: int = 32, desc: str = "render"
    ) -> RenderedClips:
        """Render one clip a seed."""
        frames, classes, depth, scenes = [], [], [], []
        for first in tqdm(range(0, len(seeds), batch), desc=desc, unit="batch", mininterval=20):
            part = seeds[first : first + batch]
            drawn = world.sample_scenes(part)
            images, masks = world.render_with_masks(drawn, part, MASK_STRIDE)
            frames.append(images.cpu())
            classes.append(masks.classes.cpu())
            depth.append(masks.depth.cpu())
            scenes += drawn
        return cls(torch.cat(frames), torch.cat(classes), torch.cat(depth), scenes)
