"""The ego's motion in coordinates along the road."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["fill_absent", "advance", "road_curvature", "to_road", "from_road", "lane_fit"]

_FLAT = 1e-6  # 1/m; a road this straight or straighter is computed as a circle of 1,000 km radius


def fill_absent(values: Tensor, default: Tensor) -> Tensor:
    """Replaces NaN by the nearest earlier value, else the nearest later one, else `default`.

    Args:
        values: `(b, tv)`.
        default: `(b,)`, for rows without any value.
    """
    steps = torch.arange(values.shape[1], device=values.device).expand_as(values)
    known = ~values.isnan()
    earlier = torch.where(known, steps, -1).cummax(dim=1).values
    later = torch.where(known, steps, values.shape[1]).flip(1).cummin(dim=1).values.flip(1)
    source = torch.where(earlier >= 0, earlier, later.clamp(max=values.shape[1] - 1))
    filled = values.gather(1, source)
    return torch.where(filled.isnan(), default[:, None], filled)


def advance(x: Tensor, y: Tensor, yaw: Tensor, length: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Moves poses by `length` metres along a circular arc (exact for constant curvature)."""
    turn = length * curvature
    chord = length * torch.sinc(turn / (2 * torch.pi))
    return x + chord * (yaw + turn / 2).cos(), y + chord * (yaw + turn / 2).sin(), yaw + turn


def road_curvature(curvature: Tensor, offset: Tensor) -> Tensor:
    """Curvature of the road's reference line from the ego's path beside it.

    Args:
        curvature: `(b, tv)` 1/m of the ego's path.
        offset: `(b,)` m, how far left of the reference line the ego drives.

    Returns:
        `(b,)` 1/m: the median of the path's curvature, limited to the [-0.03, 0.03] of a drivable street and moved
        from the ego's circle to the reference line's.
    """
    middle = curvature.quantile(0.5, dim=1).clamp(-0.03, 0.03)
    return middle / (1 + middle * offset).clamp(min=0.5)


def _bend(curvature: Tensor) -> Tensor:
    """The curvature kept away from zero, so that dividing by it is safe."""
    return torch.where(curvature.abs() < _FLAT, torch.full_like(curvature, _FLAT), curvature)


def to_road(x: Tensor, y: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates along and beside a circular arc that starts at the origin along x.

    Args:
        x, y: Points in metres, any shape.
        curvature: 1/m, broadcastable.

    Returns:
        S (m along the arc), d (m to its left) and the cosine and sine of the arc's direction there.
    """
    k = _bend(curvature)
    kx, ky = k * x, 1 - k * y
    q = (kx * kx + ky * ky).sqrt()
    d = (2 * y - k * (x * x + y * y)) / (1 + q)
    inverse = 1 / q.clamp(min=1e-6)
    return torch.atan2(kx, ky) / k, d, ky * inverse, kx * inverse


def from_road(s: Tensor, d: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The inverse of `to_road`: x, y (m) and the arc's heading (rad) at (s, d)."""
    angle = s * curvature
    chord = s * torch.sinc(angle / (2 * torch.pi))
    return (
        chord * (angle / 2).cos() - d * angle.sin(),
        chord * (angle / 2).sin() + d * angle.cos(),
        angle,
    )


def lane_fit(x: Tensor, y: Tensor, curvature: Tensor) -> tuple[Tensor, Tensor]:
    """The start offset and heading that keep a path closest to the middle of a lane of constant curvature.

    Args:
        x, y: `(b, tv)` the path, starting at the origin along x.
        curvature: `(b,)` 1/m of the lane.

    Returns:
        Offset (m to the left of the lane's middle) and heading (rad left of the lane's direction) at the start, `(b,)`;
        small: at most 1.2 m and 0.3 rad.
    """
    s, d, _, _ = to_road(x, y, curvature[:, None])
    centred = s - s.mean(1, keepdim=True)
    slope = (centred * d).sum(1) / (centred.square().sum(1) + 25.0)
    middle = d.mean(1) - slope * s.mean(1)
    return -middle.clamp(-1.2, 1.2), -slope.clamp(-0.3, 0.3)
