"""`Clip`: a scene with the frames that its cameras took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaia2.data.source import Source
from gaia2.scene import Scene

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Clip"]


@dataclass(frozen=True, eq=False)
class Clip:
    """A multi-camera video and the scene that describes it. Frozen; the frames are not copied.

    Args:
        scene: What the frames show; tv frames of n cameras, all of one image size.
        frames: uint8 (tv, n, 3, hv, wv), RGB, a torch tensor or a numpy array.
        source: Where the clip comes from; a string stands for the `Source` of a dataset of that name.

    Raises:
        ValueError: The frames are not uint8, or their shape is not that of the scene and its rig.

    Example:
        >>> import numpy as np
        >>> scene = Scene.create(rig="front", num_frames=8)
        >>> clip = Clip(scene, np.zeros((8, 1, 3, 448, 960), dtype=np.uint8), source="black")
        >>> clip.window(0, 4).num_frames
        4
    """

    scene: Scene
    frames: torch.Tensor | np.ndarray
    source: Source

    def __init__(self, scene: Scene, frames: torch.Tensor | np.ndarray, source: Source | str = "") -> None:
        object.__setattr__(self, "scene", scene)
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "source", source if isinstance(source, Source) else Source(source))
        self._check()

    def _check(self) -> None:
        if not isinstance(self.scene, Scene):
            raise ValueError(f"scene: expected a Scene, got {type(self.scene).__name__}")
        dtype = str(getattr(self.frames, "dtype", type(self.frames).__name__)).removeprefix("torch.")
        if dtype != "uint8":
            raise ValueError(
                f"frames: expected a uint8 tensor or array (tv, n, 3, hv, wv), got {dtype}; floats from 0 to 1 become "
                "uint8 by (frames * 255).round()"
            )
        rig = self.scene.rig
        if (rig.image_size != rig.image_size[0]).any():
            sizes = sorted({(int(height), int(width)) for height, width in rig.image_size})
            raise ValueError(
                f"scene.rig: expected one image size for all cameras of a clip, got {sizes}; use "
                "rig.fit(image_size=(height, width))"
            )
        height, width = rig.image_size[0].tolist()
        expected = (self.scene.num_frames, rig.num_cameras, 3, height, width)
        if tuple(self.frames.shape) != expected:
            raise ValueError(
                f"frames: expected (tv={expected[0]}, n={expected[1]}, 3, hv={height}, wv={width}) as the scene says, "
                f"got {tuple(self.frames.shape)}; cut the scene with window(), or use rig.fit(image_size=(hv, wv))"
            )

    @property
    def num_frames(self) -> int:
        """Number of frames tv."""
        return self.scene.num_frames

    def window(self, start: int, stop: int) -> Clip:
        """Return frames `start` to `stop`, the last one left out.

        Raises:
            ValueError: Not 0 <= start < stop <= num_frames.
        """
        return Clip(self.scene.window(start, stop), self.frames[start:stop], self.source)
