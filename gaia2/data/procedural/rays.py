"""Viewing rays of any camera: the pixel grid through the inverse of the lens distortion."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gaia2._checks import whole_number

__all__ = ["pixel_grid", "undistort", "camera_rays"]

_PINHOLE_STEPS = 40
_FISHEYE_STEPS = 12


def pixel_grid(image_size: tuple[int, int], rays: int = 1, *, device: torch.device | str = "cpu") -> Tensor:
    """Centres of the (sub)pixels in image coordinates, where the first pixel covers [0, 1) x [0, 1).

    Args:
        image_size: (height, width) in pixels.
        rays: Points of a pixel: a square number for a grid, or 2 for two on its diagonal, which smooths upright and
            level edges alike.

    Returns:
        `(rays * hv * wv, 2)` float64, (u, v): all pixels row by row, for one point of the pixel after the other.

    Raises:
        ValueError: If the number of rays is neither 2 nor a square.
    """
    whole_number("rays", rays, 1, hint="use 2")
    side = math.isqrt(rays)
    if rays != 2 and side * side != rays:
        raise ValueError(f"rays: expected 1, 2, 4, 9 or another square number for each pixel, got {rays}; use 2")
    height, width = image_size
    if rays == 2:
        sub = torch.tensor([[0.25, 0.25], [0.75, 0.75]], dtype=torch.float64, device=device)
    else:
        steps = (torch.arange(side, dtype=torch.float64, device=device) + 0.5) / side
        sub = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).reshape(-1, 2)
    v, u = torch.meshgrid(
        torch.arange(height, dtype=torch.float64, device=device),
        torch.arange(width, dtype=torch.float64, device=device),
        indexing="ij",
    )
    return (torch.stack([u, v], dim=-1).reshape(-1, 2) + sub[:, None]).reshape(-1, 2)


def _undistort_pinhole(xy: Tensor, k: Tensor) -> Tensor:
    """OpenCV's rational model, inverted by its usual fixed-point iteration; `xy` (c, p, 2), `k` (c, 8)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = k[:, None, :].unbind(-1)
    xd, yd = xy.unbind(-1)
    x, y = xd, yd
    for _ in range(_PINHOLE_STEPS):
        r2 = x * x + y * y
        inverse = (1 + r2 * (k4 + r2 * (k5 + r2 * k6))) / (1 + r2 * (k1 + r2 * (k2 + r2 * k3)))
        inverse = torch.where(inverse > 0, inverse, 1.0).clamp(max=10.0)
        dx = 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        dy = p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        x, y = (xd - dx) * inverse, (yd - dy) * inverse
    return torch.stack([x, y, torch.ones_like(x)], dim=-1)


def _undistort_fisheye(xy: Tensor, k: Tensor) -> Tensor:
    """OpenCV's equidistant model, the angle by Newton steps; `xy` (c, p, 2), `k` (c, 8)."""
    k1, k2, k3, k4 = k[:, None, :4].unbind(-1)
    distorted = xy.norm(dim=-1)
    theta = distorted.clamp(max=torch.pi / 2)
    for _ in range(_FISHEYE_STEPS):
        a = theta * theta
        value = theta * (1 + a * (k1 + a * (k2 + a * (k3 + a * k4)))) - distorted
        slope = 1 + a * (3 * k1 + a * (5 * k2 + a * (7 * k3 + a * 9 * k4)))
        theta = (theta - value / torch.where(slope.abs() > 0.05, slope, 1.0)).clamp(0.0, torch.pi)
    scale = torch.where(distorted > 1e-9, theta.sin() / distorted.clamp(min=1e-9), 1.0)
    return torch.cat([xy * scale[..., None], theta.cos()[..., None]], dim=-1)


def undistort(points: Tensor, intrinsics: Tensor, distortion: Tensor, fisheye: Tensor) -> Tensor:
    """Directions in the camera frame that the lens images at the given points.

    Args:
        points: `(p, 2)` image coordinates (u, v) in pixels.
        intrinsics: `(c, 3, 3)` in pixels.
        distortion: `(c, 8)`; pinhole `k1 k2 p1 p2 k3 k4 k5 k6`, fisheye `k1 k2 k3 k4` then zeros.
        fisheye: `(c,)` bool, which model each camera has.

    Returns:
        `(c, p, 3)` unit vectors, x right, y down, z forward, float64.

    Example:
        >>> import torch
        >>> k = torch.tensor([[[100.0, 0, 64], [0, 100, 32], [0, 0, 1]]], dtype=torch.float64)
        >>> centre = torch.tensor([[64.0, 32.0]], dtype=torch.float64)
        >>> undistort(centre, k, torch.zeros(1, 8, dtype=torch.float64), torch.tensor([False])).tolist()
        [[[0.0, 0.0, 1.0]]]
    """
    k = intrinsics.to(torch.float64)
    y = (points[:, 1] - k[:, 1, 2, None]) / k[:, 1, 1, None]
    x = (points[:, 0] - k[:, 0, 2, None] - k[:, 0, 1, None] * y) / k[:, 0, 0, None]
    xy = torch.stack([x, y], dim=-1)
    distortion = distortion.to(torch.float64)
    direction = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)
    if bool((distortion[~fisheye] != 0).any()):
        direction = _undistort_pinhole(xy, distortion)
    if bool(fisheye.any()):
        direction = torch.where(fisheye[:, None, None], _undistort_fisheye(xy, distortion), direction)
    return direction / direction.norm(dim=-1, keepdim=True)


def camera_rays(
    image_size: tuple[int, int], intrinsics: Tensor, distortion: Tensor, fisheye: Tensor, rays: int = 1
) -> Tensor:
    """Viewing rays of all (sub)pixels of several cameras.

    Args:
        image_size: (height, width) that `intrinsics` refer to, the same for all cameras.
        intrinsics: `(c, 3, 3)` in pixels.
        distortion: `(c, 8)`.
        fisheye: `(c,)` bool.
        rays: Rays of a pixel, see `pixel_grid`.

    Returns:
        `(c, 3, p)` float32 unit vectors in the camera frame.
    """
    grid = pixel_grid(image_size, rays, device=intrinsics.device)
    directions = undistort(grid, intrinsics, distortion, fisheye)
    return directions.transpose(1, 2).to(torch.float32).contiguous()
