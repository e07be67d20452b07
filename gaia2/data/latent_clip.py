"""`LatentClip`: a scene with what a tokenizer made of its frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gaia2.data.source import Source
from gaia2.scene import Scene

if TYPE_CHECKING:
    import torch

__all__ = ["LatentClip"]


@dataclass(frozen=True, eq=False)
class LatentClip:
    """Latents of a multi-camera video and the scene that describes it: the same as a `Clip`, encoded.

    Args:
        scene: What the frames showed; tv frames, a multiple of the latents' t.
        latents: Name to tensor whose first axis is t, such as "mean" and "std" `(t, n, h, w, c)`; any type.
        source: Where the clip comes from.

    Raises:
        ValueError: There is no tensor, they differ in t, or tv is not a multiple of t.

    Example:
        >>> import torch
        >>> scene = Scene.create(rig="front", num_frames=16)
        >>> clip = LatentClip(scene, {"mean": torch.zeros(2, 1, 4, 8, 16)})
        >>> clip.frames_per_latent, clip.window(8, 16).latents["mean"].shape[0]
        (8, 1)
    """

    scene: Scene
    latents: Mapping[str, torch.Tensor]
    source: Source = field(default_factory=Source)

    def __post_init__(self) -> None:
        steps = {len(tensor) for tensor in self.latents.values()}
        if len(steps) != 1 or 0 in steps or self.scene.num_frames % max(steps):
            shapes = {name: tuple(tensor.shape) for name, tensor in self.latents.items()}
            raise ValueError(
                f"latents: expected tensors (t, ...) with one t that divides the scene's {self.scene.num_frames} "
                f"frames, got {shapes}; cut the scene with scene.window"
            )

    @property
    def num_frames(self) -> int:
        """Number of video frames tv that the latents stand for."""
        return self.scene.num_frames

    @property
    def frames_per_latent(self) -> int:
        """Video frames of one latent."""
        return self.scene.num_frames // len(next(iter(self.latents.values())))

    def window(self, start: int, stop: int) -> LatentClip:
        """Return frames `start` to `stop`, the last one left out, both multiples of `frames_per_latent`.

        Raises:
            ValueError: They are not, or not 0 <= start < stop <= num_frames.
        """
        step = self.frames_per_latent
        if start % step or stop % step:
            raise ValueError(f"window: expected multiples of {step}, the frames of a latent, got {start} and {stop}")
        scene = self.scene.window(start, stop)
        cut = {name: tensor[start // step : stop // step] for name, tensor in self.latents.items()}
        return LatentClip(scene, cut, self.source)
