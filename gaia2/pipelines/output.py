"""What the pipelines give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput

from gaia2.conditioning.scene import Scene


@dataclass
class Gaia2PipelineOutput(BaseOutput):
    """Generated video of all cameras.

    Attributes:
        frames: `(b, tv, n, hv, wv, 3)` in [0, 1] as a NumPy array ("np") or tensor ("pt"); nested lists
            `[b][tv][n]` of images ("pil"); normalised latents `(b, t, n, h, w, c)` ("latent").
        scenes: The scene of each sample as it was used: the rig at the size of the frames, the frames' timestamps.
    """

    frames: np.ndarray | torch.Tensor | list[Any]
    scenes: list[Scene]

    @property
    def camera_names(self) -> tuple[str, ...]:
        """Names of the cameras, in the order of the axis n."""
        return self.scenes[0].rig.names

    @property
    def timestamps(self) -> np.ndarray:
        """Seconds of each frame and camera, `(b, tv, n)`."""
        return np.stack([scene.timestamps for scene in self.scenes])
