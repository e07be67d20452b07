"""Camera geometry: intrinsics, extrinsics and distortion as one vector per camera (paper §2.2.3, Camera Parameters)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.condition import Check, Condition, Conditioning, Key, LatentTimes
from gaia2.conditioning.projection import model_ids
from gaia2.nn.embeddings import compute_dtype, full_precision
from gaia2.nn.shapes import check_axes
from gaia2.scene import DISTORTION_MODELS, CameraRig, Scene

NUM_PINHOLE_COEFFICIENTS, NUM_FISHEYE_COEFFICIENTS, NUM_LENS_MODELS = 8, 4, 2


class CameraEncoder(nn.Module):
    """Embed the geometry of each camera: three linear encoders, summed (paper §2.2.3, Camera Parameters).

    The rotation enters as its first two columns, which are continuous and determine the third; the distortion
    coefficients of the two lens models have slots of their own, since k1 of one means something else in the other.

    Args:
        dim: Channels of the embedding.
        translation_scale: Metres that count as 1; mounts are within a few metres of the ego origin.

    Example:
        >>> encoder = CameraEncoder(dim=8)
        >>> encoder(torch.rand(2, 5, 4), torch.eye(4).expand(2, 5, 4, 4)).shape
        torch.Size([2, 5, 8])
    """

    def __init__(self, *, dim: int, translation_scale: float = 2.0) -> None:
        super().__init__()
        self.translation_scale = translation_scale
        self.intrinsics = nn.Linear(4, dim)
        self.extrinsics = nn.Linear(9, dim)
        self.distortion = nn.Linear(NUM_PINHOLE_COEFFICIENTS + NUM_FISHEYE_COEFFICIENTS + NUM_LENS_MODELS, dim)

    def forward(
        self,
        intrinsics: torch.Tensor,
        extrinsics: torch.Tensor,
        distortion: torch.Tensor | None = None,
        distortion_model: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Embed cameras.

        Args:
            intrinsics: `(b, n, 4)` fx / w, fy / h, cx / w, cy / h.
            extrinsics: `(b, n, 4, 4)` camera (x right, y down, z forward) to ego (x forward, y left, z up), metres.
            distortion: `(b, n, 8)` pinhole k1 k2 p1 p2 k3 k4 k5 k6, or fisheye k1..k4 and zeros; None is zeros.
            distortion_model: `(b, n)` integer, 0 pinhole, 1 fisheye; None is pinhole.

        Returns:
            `(b, n, c)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_axes("intrinsics", intrinsics, "b n k", k=4, hint="give fx / w, fy / h, cx / w, cy / h of each camera")
        b, n = intrinsics.shape[:2]
        check_axes("extrinsics", extrinsics, "b n i j", b=b, n=n, i=4, j=4)
        if distortion is None:
            distortion = intrinsics.new_zeros(b, n, 8)
        if distortion_model is None:
            distortion_model = torch.zeros(b, n, dtype=torch.int64, device=intrinsics.device)
        check_axes("distortion", distortion, "b n k", b=b, n=n, k=8, hint="pad with zeros")
        check_axes("distortion_model", distortion_model, "b n", b=b, n=n)

        dtype = compute_dtype(self.intrinsics)
        pose = full_precision(extrinsics)
        rotation = rearrange(pose[..., :3, :2], "b n i j -> b n (j i)")
        mount = torch.cat([rotation, pose[..., :3, 3] / self.translation_scale], dim=-1)
        fisheye = (distortion_model == 1)[..., None]
        lens = torch.cat(
            [
                distortion.masked_fill(fisheye, 0.0),
                distortion[..., :NUM_FISHEYE_COEFFICIENTS].masked_fill(~fisheye, 0.0),
                torch.cat([~fisheye, fisheye], dim=-1).to(distortion.dtype),
            ],
            dim=-1,
        )
        return (
            self.intrinsics(intrinsics.to(dtype)) + self.extrinsics(mount.to(dtype)) + self.distortion(lens.to(dtype))
        )


class CameraCondition(Condition):
    """The geometry of each camera; never left out, and a distortion that is not given is none."""

    name = "camera"
    enters = "position"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """`intrinsics (b, n, 4)`, `extrinsics (b, n, 4, 4)`, `distortion (b, n, 8)`, `distortion_model (b, n)`."""
        return {
            "intrinsics": Key("b n i", {"i": 4}, "camera", required=True, droppable=False),
            "extrinsics": Key("b n r s", {"r": 4, "s": 4}, "camera", required=True, droppable=False),
            "distortion": Key("b n d", {"d": 8}, "camera", droppable=False),
            "distortion_model": Key("b n", {}, "camera", integer=True, droppable=False),
        }

    def make_encoder(self, dim: int) -> CameraEncoder:
        """A `CameraEncoder`."""
        return CameraEncoder(dim=dim)

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> torch.Tensor:
        """The same for all times and cells."""
        return rearrange(encoder(*(given.get(key) for key in self.keys)), "b n c -> b 1 n 1 1 c")

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """Intrinsics as fractions of the image's size; the others as the rigs have them."""
        arrays = {
            "intrinsics": [_normalised_intrinsics(scene.rig) for scene in scenes],
            "extrinsics": [scene.rig.extrinsics for scene in scenes],
            "distortion": [scene.rig.distortion for scene in scenes],
            "distortion_model": [model_ids(scene.rig) for scene in scenes],
        }
        return {key: torch.from_numpy(np.stack(values)) for key, values in arrays.items()}

    def check_scene(self, scene: Scene) -> None:
        """Any rig will do."""

    def said_by(self, scene: Scene) -> Iterator[str]:
        """Always."""
        yield "camera"

    def masked_like(self, key: str, tensor: torch.Tensor) -> torch.Tensor:
        """A plain camera at the ego origin."""
        if key == "extrinsics":
            return torch.eye(4, dtype=tensor.dtype, device=tensor.device).expand_as(tensor)
        return torch.ones_like(tensor) if key == "intrinsics" else torch.zeros_like(tensor)

    def checks(self, given: Conditioning) -> list[Check]:
        """All must be finite, and the lens models known."""
        checks = super().checks({key: tensor for key, tensor in given.items() if key != "distortion_model"})
        if "distortion_model" in given:
            ids = given["distortion_model"]
            expected = " or ".join(f"{index} ({name})" for index, name in enumerate(DISTORTION_MODELS))
            checks.append(Check("distortion_model", expected, ids, (ids < 0) | (ids >= NUM_LENS_MODELS)))
        return checks

    def plausibility_checks(self, given: Conditioning) -> list[Check]:
        """Focal lengths must be positive."""
        if "intrinsics" not in given:
            return []
        focal = given["intrinsics"][..., :2]
        return [Check("intrinsics", "positive focal lengths fx / w and fy / h", focal, focal <= 0)]


def _normalised_intrinsics(rig: CameraRig) -> np.ndarray:
    """fx / w, fy / h, cx / w, cy / h of each camera, `(n, 4)`."""
    width_height = rig.image_size[:, ::-1]
    focal = np.diagonal(rig.intrinsics, axis1=1, axis2=2)[:, :2]
    return np.concatenate([focal / width_height, rig.intrinsics[:, :2, 2] / width_height], axis=1)
