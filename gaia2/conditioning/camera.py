"""Camera geometry: intrinsics, extrinsics and distortion as one vector per camera (paper §2.2.3, Camera Parameters)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn

from gaia2.nn.embeddings import compute_dtype, full_precision
from gaia2.nn.shapes import check_axes

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
