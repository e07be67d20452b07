"""Camera geometry cell by cell: where each cell of the latent grid looks. Ours, not of the paper.

Axes: b batch, n cameras, h w latent grid, p rays of a cell, c channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.action import symlog
from gaia2.conditioning.camera import CameraCondition
from gaia2.conditioning.condition import Condition, Conditioning, Key, needed_grid
from gaia2.conditioning.lens import image_rays, intrinsic_matrix, lens_limit
from gaia2.nn.embeddings import compute_dtype, full_precision
from gaia2.nn.shapes import check_axes

RAYS = 2
"""Rays of a cell along each axis."""

REACH = 80.0
"""Metres at which rays that meet no ground end."""

GROUND_SCALE, TILT_SCALE = 0.5, 4.0


class RayMapEncoder(nn.Module):
    """Embed, for each cell, the directions that it looks along and where they meet the ground.

    One vector a camera, as the paper has it, leaves it to the network to find out which row is the horizon and which
    cell sees the lane ahead. The rays say it: any rig then looks like any other to a cell that sees the same.

    Args:
        dim: Channels of the embedding.

    Example:
        >>> encoder = RayMapEncoder(dim=8)
        >>> intrinsics = torch.tensor([0.75, 1.5, 0.5, 0.5]).expand(2, 5, 4)
        >>> encoder(intrinsics, torch.eye(4).expand(2, 5, 4, 4), grid=(4, 8)).shape
        torch.Size([2, 5, 4, 8, 8])
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(6 * RAYS**2 + 3, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(
        self,
        intrinsics: torch.Tensor,
        extrinsics: torch.Tensor,
        distortion: torch.Tensor | None = None,
        distortion_model: torch.Tensor | None = None,
        *,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """Embed the cells of cameras.

        Args:
            intrinsics: `(b, n, 4)` fx / w, fy / h, cx / w, cy / h.
            extrinsics: `(b, n, 4, 4)` camera (x right, y down, z forward) to ego (x forward, y left, z up), metres.
            distortion: `(b, n, 8)`, see `CameraEncoder`; None is none.
            distortion_model: `(b, n)` integer, 0 pinhole, 1 fisheye; None is pinhole.
            grid: Rows and columns h, w.

        Returns:
            `(b, n, h, w, c)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        check_axes("intrinsics", intrinsics, "b n k", k=4, hint="give fx / w, fy / h, cx / w, cy / h of each camera")
        b, n = intrinsics.shape[:2]
        check_axes("extrinsics", extrinsics, "b n i j", b=b, n=n, i=4, j=4)
        direction, mount = rays_of_cells(intrinsics, extrinsics, distortion, distortion_model, grid)
        height = mount[..., 2:].clamp(min=0.1)
        falls = (-direction[..., 2:]).clamp(min=1e-6)
        ground = (mount[..., :2] + height / falls * direction[..., :2]).clamp(-REACH, REACH)
        features = torch.cat(
            [
                direction,
                (TILT_SCALE * direction[..., 2:]).tanh(),
                symlog(ground, GROUND_SCALE, REACH),
            ],
            dim=-1,
        )
        features = rearrange(features, "b n h w p f -> b n h w (p f)")
        mounts = (mount / 2).expand(*features.shape[:-1], 1, 3)[..., 0, :]
        return self.mlp(torch.cat([features, mounts], dim=-1).to(compute_dtype(self.mlp[0])))


def rays_of_cells(
    intrinsics: torch.Tensor,
    extrinsics: torch.Tensor,
    distortion: torch.Tensor | None,
    distortion_model: torch.Tensor | None,
    grid: tuple[int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit directions in the ego frame `(b, n, h, w, p, 3)` and the cameras' places `(b, n, 1, 1, 1, 3)` in metres."""
    matrix, pose = intrinsic_matrix(full_precision(intrinsics)), full_precision(extrinsics)
    lens = matrix.new_zeros(*matrix.shape[:2], 8) if distortion is None else full_precision(distortion)
    h, w = grid
    rows = (torch.arange(h * RAYS, device=matrix.device, dtype=matrix.dtype) + 0.5) / (h * RAYS)
    columns = (torch.arange(w * RAYS, device=matrix.device, dtype=matrix.dtype) + 0.5) / (w * RAYS)
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    points = rearrange(torch.stack([u, v], dim=-1), "(h i) (w j) k -> (h w i j) k", i=RAYS, j=RAYS)
    _, ideal, seen = lens_limit(lens, distortion_model)
    rays = image_rays(points, matrix, ideal, seen)
    rays = rays / rays.norm(dim=-1, keepdim=True)
    rays = rays @ pose[..., :3, :3].mT
    rays = rearrange(rays, "b n (h w p) k -> b n h w p k", h=h, w=w)
    return rays, rearrange(pose[..., :3, 3], "b n k -> b n 1 1 1 k")


class RayMapCondition(Condition):
    """Where each cell looks, from the cameras' geometry."""

    name = "ray_map"
    enters = "position"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """None of its own."""
        return {}

    def make_encoder(self, dim: int) -> RayMapEncoder:
        """A `RayMapEncoder`."""
        return RayMapEncoder(dim=dim)

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> torch.Tensor:
        """The same at all times."""
        rays = encoder(*(given.get(key) for key in CameraCondition().keys), grid=needed_grid(grid))
        return rearrange(rays, "b n h w c -> b 1 n h w c")
