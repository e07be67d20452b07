"""`ProceduralWorld`: driving scenes from seeds, and images of any scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gaia2._checks import real_number, refuse, true_or_false, whole_number
from gaia2.data.clip import Clip
from gaia2.data.procedural.lanes import lane_lines
from gaia2.data.procedural.masks import PixelMasks
from gaia2.data.procedural.random_rigs import MAX_CAMERAS, random_rig
from gaia2.data.procedural.rays import pixel_grid
from gaia2.data.procedural.render import prepare, render_images
from gaia2.data.procedural.shade import shade_images
from gaia2.data.procedural.solids import Hits, trace
from gaia2.data.procedural.traffic import sample_scenes
from gaia2.scene import CameraRig, Scene, named_rig

__all__ = ["ProceduralWorld"]

_FUSE: dict[str, Any] = {"realize_reads_threshold": 100}  # one loop over the boxes, storing nothing for each of them
_EAGER_RAYS = 33_000  # rays at a time: the box test's tensors then stay in the processor's cache
_COMPILED_RAYS = 140_000
_CUDA_RAYS = 6_000_000
MAX_SIDE, MAX_FRAMES, MAX_RAYS = 8192, 1_000_000, 1024


class ProceduralWorld:
    """A ray-cast driving world in batched torch.

    Streets with lanes, markings, kerbs, junctions, crossings and traffic lights, buildings, trees and street lamps,
    road users as shaded boxes, four times of day and five kinds of weather, seen by any `CameraRig`. All images of a
    batch (clips, frames, cameras) are rays of one tensor program.

    Args:
        rig: Name of a rig (see `gaia2.scene.named_rigs`), a `CameraRig`, or "random" for another one in each scene,
            see `random_rig`; used by `sample_scenes`.
        image_size: (height, width) of the images in pixels; rigs are cropped and scaled to it by `CameraRig.fit`.
        num_frames: Frames of the sampled scenes.
        frame_rates: Frame rates (1/s) to choose from for sampled scenes.
        rig_jitter: Whether sampled scenes have slightly moved, turned and zoomed cameras.
        rays: Rays of a pixel: 1 is fast, 2 is smooth, 4 is smoother.
        device: Where to render.
        num_cameras: Cameras of random rigs, 1 to 6.
        compile: Whether to compile the picture program with `torch.compile`: slow at first use, then several times
            faster. Its images may differ from those of the uncompiled program by a rounding step.

    Raises:
        ValueError: For a size, number of frames, frame rate or supersampling that is not positive.

    Example:
        >>> world = ProceduralWorld(rig="front", image_size=(16, 32), num_frames=3, rays=1)
        >>> clip = world.sample([7])[0]
        >>> clip.frames.shape, str(clip.frames.dtype)
        ((3, 1, 3, 16, 32), 'uint8')
        >>> rainy = world.render([clip.scene.replace(weather="rain")], seeds=[7])
        >>> tuple(rainy.shape)
        (1, 3, 1, 3, 16, 32)
    """

    def __init__(
        self,
        rig: str | CameraRig = "surround",
        image_size: tuple[int, int] = (64, 128),
        num_frames: int = 24,
        frame_rates: Sequence[float] = (10.0,),
        rig_jitter: bool = True,
        rays: int = 2,
        num_cameras: int = 5,
        device: str | torch.device = "cpu",
        compile: bool = False,
    ) -> None:
        if not isinstance(image_size, tuple | list | np.ndarray) or len(image_size) != 2:
            raise refuse("image_size", "(height, width) in pixels", image_size, "use such as (64, 128)")
        height, width = (whole_number("image_size", side, 1, MAX_SIDE, "use such as (64, 128)") for side in image_size)
        whole_number("num_frames", num_frames, 1, MAX_FRAMES, "use such as 24")
        if not isinstance(frame_rates, tuple | list | np.ndarray) or not len(frame_rates):
            raise refuse("frame_rates", "positive rates in 1/s", frame_rates, "use such as (10.0,)")
        for rate in frame_rates:
            real_number("frame_rates", rate, 1e-3, 1e4, what="positive rates in 1/s", hint="use such as (10.0,)")
        for name, value in (("rig_jitter", rig_jitter), ("compile", compile)):
            true_or_false(name, value)
        whole_number("rays", rays, 1, MAX_RAYS, "use 2")
        whole_number("num_cameras", num_cameras, 1, MAX_CAMERAS)
        if not isinstance(rig, str | CameraRig):
            raise refuse("rig", "a CameraRig, the name of one, or 'random'", rig)
        pixel_grid((1, 1), rays)  # checks the rays
        self.image_size = (height, width)
        self.num_frames = int(num_frames)
        self.frame_rates = tuple(float(rate) for rate in frame_rates)
        self.rig: CameraRig | None = None
        self.num_cameras = int(num_cameras)
        if rig == "random":
            random_rig(0, self.num_cameras, self.image_size)  # checks the number
        else:
            self.rig = (named_rig(rig) if isinstance(rig, str) else rig).fit(image_size=self.image_size)
            self.num_cameras = self.rig.num_cameras
        self.rig_jitter = bool(rig_jitter)
        self.rays = int(rays)
        self.device = _as_device(device)
        self.compile = bool(compile)
        self._trace: Callable[..., Hits] = trace
        self._shade: Callable[..., Tensor] = shade_images
        if self.compile:
            self._trace = torch.compile(trace, dynamic=False, fullgraph=True, options=_FUSE)
            self._shade = torch.compile(shade_images, dynamic=False, fullgraph=True)

    def sample_scenes(self, seeds: Sequence[int] | Tensor) -> list[Scene]:
        """Scenes with traffic, one for each seed.

        Args:
            seeds: Integers; a seed always gives the same scene.

        Returns:
            Scenes with all metadata set. Boxes of up to 15 road users are exact for the ego's motion.
        """
        keys = self._seeds(seeds)
        if self.rig is None:
            rigs = [random_rig(key, self.num_cameras, self.image_size) for key in keys.tolist()]
        else:
            rigs = [self.rig] * len(keys)
        return sample_scenes(
            keys,
            rigs,
            num_frames=self.num_frames,
            frame_rates=self.frame_rates,
            jitter=self.rig_jitter and self.rig is not None,
        )

    @torch.no_grad()
    def render(
        self, scenes: Sequence[Scene], seeds: Sequence[int] | Tensor, cameras: Sequence[int] | Tensor | None = None
    ) -> Tensor:
        """Images of any scenes.

        Args:
            scenes: B scenes with the same number of frames and of cameras. Metadata, speed or curvature that a scene
                leaves open is chosen by its seed.
            seeds: B integers, deciding everything that a scene does not say: buildings, trees, colours, the ego's lane.
            cameras: For each scene the index of the one camera to render; None renders all.

        Returns:
            `(b, tv, n, 3, hv, wv)` uint8, n = 1 with `cameras`; on the world's device.

        Raises:
            ValueError: If the numbers of scenes, seeds and cameras differ, scenes disagree in shape, or a camera index
                is out of range.
        """
        keys = self._seeds(seeds)
        self._check_scenes(scenes, keys)
        chosen = None if cameras is None else self._whole_numbers("cameras", cameras)
        if chosen is not None:
            count = scenes[0].rig.num_cameras
            if chosen.shape != (len(scenes),) or int(chosen.min()) < 0 or int(chosen.max()) >= count:
                raise ValueError(
                    f"cameras: expected {len(scenes)} indices in 0..{count - 1}, got {chosen.tolist()}; "
                    "give one camera index for each scene"
                )
        return self._render(scenes, keys, chosen)[0]

    @torch.no_grad()
    def render_with_masks(
        self, scenes: Sequence[Scene], seeds: Sequence[int] | Tensor, stride: int = 1
    ) -> tuple[Tensor, PixelMasks]:
        """Images of all cameras, and what their pixels show.

        Args:
            scenes: As for `render`.
            seeds: As for `render`.
            stride: Every so many frames, from frame `stride // 2` on, have masks.

        Returns:
            The images of `render`, and masks with axes `(b, tm, n, hv, wv)`.

        Raises:
            ValueError: As `render`, or if the stride is not positive.
        """
        whole_number("stride", stride, 1, MAX_FRAMES, "1 gives masks of all frames")
        keys = self._seeds(seeds)
        self._check_scenes(scenes, keys)
        images, masks = self._render(list(scenes), keys, None, stride)
        assert masks is not None
        return images, masks

    def lane_lines(
        self,
        scenes: Sequence[Scene],
        seeds: Sequence[int] | Tensor,
        *,
        reach: tuple[float, float] = (-10.0, 50.0),
        points: int = 16,
    ) -> np.ndarray:
        """The lines that bound the lanes of any scenes' streets, as the ego sees them in each frame.

        Args:
            scenes: As for `render`.
            seeds: As for `render`.
            reach: Metres along the road from the ego to the first and the last point.
            points: Points of a line, evenly spaced along the road.

        Returns:
            `(b, tv, k, p, 2)` float64: x (forward) and y (left) on the ground in the ego frame, metres. There are k = 7
            lines, from the far side of the road to the ego's; NaN where a street has fewer.

        Raises:
            ValueError: As `render`, or if there are fewer than 2 points.

        Example:
            >>> world = ProceduralWorld(rig="front", num_frames=8)
            >>> lines = world.lane_lines(world.sample_scenes([3]), [3])
            >>> lines.shape, int(np.isfinite(lines[0, 0, :, 0, 0]).sum())  # a street of 3 lanes
            ((1, 8, 7, 16, 2), 4)
        """
        if points < 2:
            raise ValueError(f"points: expected at least 2, got {points}; a line has two ends")
        keys = self._seeds(seeds)
        self._check_scenes(scenes, keys)
        return lane_lines(list(scenes), keys, reach=reach, points=points).cpu().numpy()

    def describe(self) -> dict[str, Any]:
        """What the clips of a seed depend on, as JSON values."""
        return {
            "rig": "random" if self.rig is None else self.rig.to_dict(),
            "num_cameras": self.num_cameras,
            "image_size": list(self.image_size),
            "num_frames": self.num_frames,
            "frame_rates": list(self.frame_rates),
            "rig_jitter": self.rig_jitter,
            "rays": self.rays,
        }

    def _render(
        self, scenes: Sequence[Scene], keys: Tensor, chosen: Tensor | None, mask_stride: int = 0
    ) -> tuple[Tensor, PixelMasks | None]:
        tables = prepare(scenes, keys, chosen, self.image_size, self.rays)
        return render_images(
            tables, self._trace, self._shade, self.image_size, self.rays, self._chunk(), self.compile, mask_stride
        )

    def sample(self, seeds: Sequence[int] | Tensor) -> list[Clip]:
        """Scenes from seeds with their images.

        Args:
            seeds: Integers; a seed always gives the same clip.

        Returns:
            One clip for each seed; frames `(tv, n, 3, hv, wv)` uint8 in host memory.
        """
        keys = self._seeds(seeds)
        scenes = self.sample_scenes(keys)
        frames = self.render(scenes, keys).cpu().numpy()
        pairs = zip(scenes, frames, keys.tolist(), strict=True)
        return [
            Clip(scene=scene, frames=np.ascontiguousarray(video), source=f"procedural/{key}")
            for scene, video, key in pairs
        ]

    def _check_scenes(self, scenes: Sequence[Scene], keys: Tensor) -> None:
        if not isinstance(scenes, list | tuple) or not all(isinstance(scene, Scene) for scene in scenes):
            raise refuse("scenes", "Scenes in a list", scenes)
        if len(scenes) != len(keys):
            raise ValueError(
                f"seeds: expected one for each of the {len(scenes)} scenes, got {len(keys)}; "
                "give as many seeds as scenes"
            )
        shapes = {(scene.num_frames, scene.rig.num_cameras) for scene in scenes}
        if len(shapes) != 1:
            raise ValueError(
                f"scenes: expected the same number of frames and cameras in all, got (tv, n) = {sorted(shapes)}; "
                "render them in separate calls"
            )

    def _chunk(self) -> int:
        rays = self.image_size[0] * self.image_size[1] * self.rays
        budget = _CUDA_RAYS if self.device.type == "cuda" else _COMPILED_RAYS if self.compile else _EAGER_RAYS
        return max(1, budget // rays)

    def _seeds(self, seeds: Sequence[int] | Tensor) -> Tensor:
        keys = self._whole_numbers("seeds", seeds)
        if not keys.numel():
            raise ValueError("seeds: expected at least one integer, got none; give one integer for each scene")
        return keys

    def _whole_numbers(self, name: str, values: Sequence[int] | Tensor) -> Tensor:
        hint = "give one integer for each scene"
        try:
            numbers = torch.as_tensor(values, device=self.device)
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise refuse(name, "a list of integers", values, hint) from None
        whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
        if numbers.ndim != 1 or (numbers.numel() and not whole):
            raise refuse(name, "a list of integers", values, hint)
        return numbers.to(torch.int64)


def _as_device(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError):
        raise refuse("device", "torch's name of a device, such as cpu or cuda:0", device) from None
