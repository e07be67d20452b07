"""The ground cell by cell, where it is now and where it was as the window began. Ours, not of the paper.

Axes: b batch, t latent time, n cameras, h w latent grid, p rays of a cell, f features, c channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

import torch
from einops import rearrange
from torch import nn

from gaia2.conditioning.camera import CameraCondition
from gaia2.conditioning.condition import Condition, Conditioning, Key, needed_grid
from gaia2.conditioning.projection import turn
from gaia2.conditioning.ray_map import RAYS, rays_of_cells
from gaia2.nn.embeddings import compute_dtype, full_precision
from gaia2.nn.shapes import check_axes

WAVELENGTHS = (3.0, 6.0, 12.0, 24.0, 48.0)
"""Metres; lanes are 3 to 4 wide."""

METRES = 10.0
"""Driven metres that count as 1."""


class GroundMapEncoder(nn.Module):
    """Embed which ground each cell sees: in the ego frame of its time, and in that of the window's first time.

    Speed and curvature enter the adaptive layer norm as numbers, as the paper has it, and the network has to find out
    what they move where. The map says it: the ego vehicle's way, summed up over the latent times, tells where the
    ground of a cell was when the window began. Cells that see the same ground at different times then have the same
    part of their embedding in common, and what is painted on the ground (lane marks) stands at equal sines everywhere.

    Places on the ground are sines of several wavelengths, each times its mean over the part of the ground that a ray
    stands for, as in integrated positional encoding: where a ray sees more than a wavelength it says nothing. The last
    layer begins with zeros, so that a trained model which is given the map is at first the model that it was.

    Args:
        dim: Channels of the embedding.

    Example:
        >>> encoder = GroundMapEncoder(dim=8)
        >>> intrinsics = torch.tensor([0.75, 1.5, 0.5, 0.5]).expand(2, 5, 4)
        >>> action = torch.full((2, 3), 8.0), torch.zeros(2, 3), torch.tensor([0.0, 0.8, 1.6])[:, None].expand(2, 3, 5)
        >>> encoder(*action, intrinsics, torch.eye(4).expand(2, 5, 4, 4), grid=(4, 8)).shape
        torch.Size([2, 3, 5, 4, 8, 8])
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        last = nn.Linear(dim, dim)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.Linear(RAYS**2 * 8 * len(WAVELENGTHS) + 5, dim), nn.SiLU(), last)

    def forward(
        self,
        speed: torch.Tensor,
        curvature: torch.Tensor,
        timestamps: torch.Tensor,
        intrinsics: torch.Tensor,
        extrinsics: torch.Tensor,
        distortion: torch.Tensor | None = None,
        distortion_model: torch.Tensor | None = None,
        *,
        grid: tuple[int, int],
    ) -> torch.Tensor:
        """Embed the cells.

        Args:
            speed: `(b, t)` m/s; NaN where absent, then the way from there on is unknown.
            curvature: `(b, t)` 1/m, positive for a left turn; NaN where absent, likewise.
            timestamps: `(b, t, n)` seconds.
            intrinsics: `(b, n, 4)` fx / w, fy / h, cx / w, cy / h.
            extrinsics: `(b, n, 4, 4)` camera (x right, y down, z forward) to ego (x forward, y left, z up), metres.
            distortion: `(b, n, 8)`, see `CameraEncoder`; None is none.
            distortion_model: `(b, n)` integer, 0 pinhole, 1 fisheye; None is pinhole.
            grid: Rows and columns h, w.

        Returns:
            `(b, t, n, h, w, c)`.

        Raises:
            ValueError: If a shape does not fit.
        """
        cameras = (intrinsics, extrinsics, distortion, distortion_model)
        return self.mlp(
            ground_features(speed, curvature, timestamps, *cameras, grid=grid).to(compute_dtype(self.mlp[0]))
        )


def ground_features(
    speed: torch.Tensor,
    curvature: torch.Tensor,
    timestamps: torch.Tensor,
    intrinsics: torch.Tensor,
    extrinsics: torch.Tensor,
    distortion: torch.Tensor | None = None,
    distortion_model: torch.Tensor | None = None,
    *,
    grid: tuple[int, int],
) -> torch.Tensor:
    """What `GroundMapEncoder` embeds, see there.

    Returns:
        `(b, t, n, h, w, f)`: for each ray `ground_waves` now, then in the frame of the first time; then driven x and
        y over `METRES`, sine and cosine of the yaw, and 1. The last two parts are 0 where the way is unknown.
    """
    check_axes("timestamps", timestamps, "b t n")
    b, t, n = timestamps.shape
    check_axes("speed", speed, "b t", b=b, t=t)
    check_axes("curvature", curvature, "b t", b=b, t=t)
    check_axes("intrinsics", intrinsics, "b n k", b=b, n=n, k=4)
    check_axes("extrinsics", extrinsics, "b n i j", b=b, n=n, i=4, j=4)
    pose = driven(full_precision(speed), full_precision(curvature), full_precision(timestamps))  # (b, t, n, 3)
    known = pose.isfinite().all(dim=-1, keepdim=True)
    pose = torch.where(known, pose, 0.0)
    x, y, yaw = pose.split(1, dim=-1)
    way = torch.cat([x / METRES, y / METRES, yaw.sin(), yaw.cos() * known, known.to(pose.dtype)], dim=-1)

    directions, mount = rays_of_cells(intrinsics, extrinsics, distortion, distortion_model, grid)
    directions, mount = directions[:, None], mount[:, None]  # (b, 1, n, h, w, p, 3) and (b, 1, n, 1, 1, 1, 3)
    angle = 1 / (full_precision(intrinsics)[..., 0] * grid[1] * RAYS)  # between two rays
    angle = rearrange(angle, "b n -> b 1 n 1 1 1")
    now = ground_waves(directions, mount, angle)
    x, y, yaw = rearrange(pose, "b t n k -> k b t n 1 1 1")
    start = torch.stack([x, y, torch.zeros_like(x)], dim=-1)
    first = ground_waves(turn(directions, yaw), turn(mount, yaw) + start, angle)
    first = first * rearrange(known, "b t n 1 -> b t n 1 1 1 1")
    ground = rearrange(torch.cat([now.expand_as(first), first], dim=-1), "b t n h w p f -> b t n h w (p f)")
    way = rearrange(way, "b t n f -> b t n 1 1 f").expand(*ground.shape[:-1], -1)
    return torch.cat([ground, way], dim=-1)


def ground_waves(directions: torch.Tensor, mount: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Sines of where rays meet the ground z = 0, each times its mean over the ground around.

    The ground of a ray is taken for a normal distribution about the point that it meets, half of `angle` to each
    side, longer along the ray by as much as it is flat.

    Args:
        directions: Unit vectors `(..., 3)`, z up.
        mount: `(..., 3)` metres, where the rays begin.
        angle: `(...)` radians between rays.

    Returns:
        `(..., f)`: sines of x, cosines of x, sines of y, cosines of y, for each wavelength; zero for rays that do not
        fall.

    Example:
        >>> down = torch.tensor([0.0, 0.0, -1.0])
        >>> ground_waves(down, torch.tensor([0.75, 0.0, 1.0]), torch.tensor(0.0))[:1]  # a quarter of the shortest wave
        tensor([1.])
    """
    wave = 2 * math.pi / directions.new_tensor(WAVELENGTHS)
    height = mount[..., 2].clamp(min=0.1)
    falls = (-directions[..., 2]).clamp(min=1e-3)
    reach = height / falls  # along the ray
    across = (reach * angle / 2) ** 2
    along = across / falls**2
    level = directions[..., :2]
    ahead = level**2 / (level**2).sum(dim=-1, keepdim=True).clamp(min=1e-12)
    spread = ahead * along[..., None] + (1 - ahead) * across[..., None]  # variances of x and y
    place = mount[..., :2] + reach[..., None] * level
    phase = place[..., None] * wave
    there = (directions[..., 2] < -1e-3)[..., None, None]
    weight = torch.exp(-0.5 * spread[..., None] * wave**2) * there
    return torch.cat([phase.sin() * weight, phase.cos() * weight], dim=-1).flatten(-2)


def driven(speed: torch.Tensor, curvature: torch.Tensor, timestamps: torch.Tensor) -> torch.Tensor:
    """The ego vehicle's pose at each latent time, in its frame at the first one: arcs from one time to the next.

    Args:
        speed: `(b, t)` m/s.
        curvature: `(b, t)` 1/m.
        timestamps: `(b, t, n)` seconds.

    Returns:
        `(b, t, n, 3)` x, y in metres, yaw in radians; NaN from the first unknown action on.

    Example:
        >>> times = torch.tensor([[[0.0], [1.0], [2.0]]])
        >>> speed, curvature = torch.full((1, 3), 5 * math.pi), torch.full((1, 3), 0.1)  # half a circle in two seconds
        >>> driven(speed, curvature, times)[0, 2, 0].numpy().round(3)
        array([ 0.   , 20.   ,  3.142], dtype=float32)
    """
    means = [(values[:, 1:] + values[:, :-1])[..., None] / 2 for values in (speed, curvature)]
    length = means[0] * timestamps.diff(dim=1)
    turned = length * means[1]
    yaw = nn.functional.pad(turned.cumsum(dim=1), (0, 0, 1, 0))
    chord = length * torch.sinc(turned / (2 * math.pi))  # sin(turned / 2) / (turned / 2)
    heading = yaw[:, :-1] + turned / 2
    steps = torch.stack([chord * heading.cos(), chord * heading.sin()], dim=-1)
    place = nn.functional.pad(steps.cumsum(dim=1), (0, 0, 0, 0, 1, 0))
    unknown = (speed + curvature)[:, :1, None, None] * 0  # one latent time alone has no way to drive
    return torch.cat([place, yaw[..., None]], dim=-1) + unknown


class GroundMapCondition(Condition):
    """Which ground each cell sees, from the cameras' geometry and the ego vehicle's way."""

    name = "ground_map"
    enters = "position"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """None of its own."""
        return {}

    def make_encoder(self, dim: int) -> GroundMapEncoder:
        """A `GroundMapEncoder`."""
        return GroundMapEncoder(dim=dim)

    def encode(self, encoder: nn.Module, given: Conditioning, grid: tuple[int, int] | None) -> torch.Tensor:
        """Of action, times and cameras."""
        cameras = (given.get(key) for key in CameraCondition().keys)
        return encoder(given["speed"], given["curvature"], given["timestamps"], *cameras, grid=needed_grid(grid))
