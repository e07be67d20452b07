"""Lens models: OpenCV's pinhole with rational and tangential distortion, and its fisheye. No parameters."""

from __future__ import annotations

import math

import torch

from gaia2.nn.embeddings import full_precision

_STEPS = 256


def project_points(
    points: torch.Tensor,
    intrinsics: torch.Tensor,
    distortion: torch.Tensor | None = None,
    distortion_model: torch.Tensor | None = None,
) -> torch.Tensor:
    """Project points through a lens, as OpenCV's `projectPoints` and `fisheye.projectPoints` do.

    Args:
        points: `(..., 3)` metres in the camera frame (x right, y down, z forward).
        intrinsics: `(..., 3, 3)` rows (fx skew cx), (0 fy cy), (0 0 1), in the unit that the result shall have.
            Leading axes broadcast against those of `points`.
        distortion: `(..., 8)` pinhole k1 k2 p1 p2 k3 k4 k5 k6, or fisheye k1..k4 and zeros; None is no distortion.
        distortion_model: `(...)` integer, 0 pinhole, 1 fisheye; None is pinhole.

    Returns:
        `(..., 2)` image x and y; NaN for points that are not in front of the camera.

    Example:
        >>> camera = torch.tensor([[700.0, 0, 480], [0, 700, 224], [0, 0, 1]])
        >>> project_points(torch.tensor([1.0, 0.5, 10.0]), camera).tolist()
        [550.0, 259.0]
    """
    points, intrinsics = full_precision(points), full_precision(intrinsics)
    depth = points[..., 2:]
    ideal = points[..., :2] / torch.where(depth > 0, depth, torch.nan)
    lens = ideal if distortion is None else _distort(ideal, full_precision(distortion), distortion_model)
    x, y = lens.unbind(-1)
    rows = intrinsics[..., :2, :]
    return rows[..., 0] * x[..., None] + rows[..., 1] * y[..., None] + rows[..., 2]


def intrinsic_matrix(intrinsics: torch.Tensor) -> torch.Tensor:
    """Return the matrices `(..., 3, 3)` of fx fy cx cy `(..., 4)`.

    Example:
        >>> intrinsic_matrix(torch.tensor([700.0, 701.0, 480.0, 224.0])).tolist()
        [[700.0, 0.0, 480.0], [0.0, 701.0, 224.0], [0.0, 0.0, 1.0]]
    """
    fx, fy, cx, cy = intrinsics.unbind(-1)
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], dim=-1).unflatten(-1, (3, 3))


def _distort(ideal: torch.Tensor, distortion: torch.Tensor, model: torch.Tensor | None) -> torch.Tensor:
    """Map ideal image points `(..., 2)` at depth 1 to where the lens puts them."""
    x, y = ideal.unbind(-1)
    _, _, p1, p2, *_ = distortion.unbind(-1)
    square = x * x + y * y
    scale = _pinhole_scale(square, distortion)
    tangential = torch.stack(
        [2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y], dim=-1
    )
    pinhole = ideal * scale[..., None] + tangential
    if model is None:
        return pinhole
    radius = square.sqrt()
    safe = radius.clamp(min=1e-9)
    fisheye = ideal * torch.where(radius > 1e-9, _fisheye_angle(safe.atan(), distortion) / safe, 1.0)[..., None]
    return torch.where((model == 1)[..., None], fisheye, pinhole)


def _pinhole_scale(square: torch.Tensor, distortion: torch.Tensor) -> torch.Tensor:
    k1, k2, _, _, k3, k4, k5, k6 = distortion.unbind(-1)
    return (1 + square * (k1 + square * (k2 + square * k3))) / (1 + square * (k4 + square * (k5 + square * k6)))


def _fisheye_angle(angle: torch.Tensor, distortion: torch.Tensor) -> torch.Tensor:
    k1, k2, k3, k4 = distortion[..., :4].unbind(-1)
    square = angle * angle
    return angle * (1 + square * (k1 + square * (k2 + square * (k3 + square * k4))))


def lens_limit(
    distortion: torch.Tensor, distortion_model: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return how far from the optical axis a lens model holds.

    Distortion polynomials are fitted inside the image. Further out they may turn back, so that a point far to the
    side would land in the middle of the image; what lies beyond the turning point is not seen.

    Args:
        distortion: `(..., 8)`, as for `project_points`.
        distortion_model: `(...)`, as for `project_points`.

    Returns:
        `limit (...)`, the largest valid ideal radius (tangent of the angle to the optical axis; infinite where the
        model holds up to 89.5 degrees), and the samples `ideal (steps)` and `seen (..., steps)` of the radius before
        and after the lens; `seen` does not fall, and is infinite beyond the limit.

    Example:
        >>> limit, _, _ = lens_limit(torch.tensor([0.04, -0.33, 0, 0, 0, 0, 0, 0]))
        >>> f"{limit.item():.2f}"
        '0.90'
    """
    distortion = full_precision(distortion)[..., None, :]
    angle = torch.linspace(0.0, math.radians(89.5), _STEPS, dtype=distortion.dtype, device=distortion.device)
    ideal = angle.tan()
    # Along the direction that tangential distortion shrinks most, it takes 3 |p| r^2 off the radius.
    shrink = 3 * ideal**2 * distortion[..., 2:4].norm(dim=-1)
    seen = ideal * _pinhole_scale(ideal**2, distortion)
    worst = seen - shrink
    if distortion_model is not None:
        fisheye = (distortion_model == 1)[..., None]
        seen = torch.where(fisheye, _fisheye_angle(angle, distortion), seen)
        worst = torch.where(fisheye, seen, worst)
    holds = torch.cat([torch.ones_like(worst[..., :1], dtype=torch.bool), worst.diff(dim=-1) > 0], dim=-1)
    holds = holds.cumprod(dim=-1).bool()
    last = holds.sum(dim=-1) - 1
    limit = torch.where(last == _STEPS - 1, torch.inf, ideal[last])
    return limit, ideal, seen.masked_fill(~holds, torch.inf)


def image_rays(points: torch.Tensor, matrix: torch.Tensor, ideal: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """Return the directions that points of the image look along: `project_points` backwards.

    Tangential distortion is left out: it is a few pixels at most.

    Args:
        points: `(p, 2)` image x and y, in the unit of `matrix`.
        matrix: Intrinsics `(..., 3, 3)`.
        ideal: Samples of the radius before the lens, from `lens_limit`.
        seen: Samples `(..., steps)` of the radius after the lens, from `lens_limit`.

    Returns:
        `(..., p, 3)` in the camera frame, of depth 1; beyond what the lens model holds for, its widest angle.

    Example:
        >>> camera = torch.tensor([[700.0, 0, 480], [0, 700, 224], [0, 0, 1]])
        >>> _, ideal, seen = lens_limit(torch.zeros(8))
        >>> image_rays(torch.tensor([[550.0, 259.0]]), camera, ideal, seen)
        tensor([[0.1000, 0.0500, 1.0000]])
    """
    y = (points[:, 1] - matrix[..., 1, 2, None]) / matrix[..., 1, 1, None]
    x = (points[:, 0] - matrix[..., 0, 2, None] - matrix[..., 0, 1, None] * y) / matrix[..., 0, 0, None]
    radius = torch.hypot(x, y)
    upper = torch.searchsorted(seen.contiguous(), radius.contiguous()).clamp(1, seen.shape[-1] - 1)
    below, above = seen.gather(-1, upper - 1), seen.gather(-1, upper)
    share = torch.where(above.isinf(), 0.0, (radius - below) / (above - below))
    undone = ideal[upper - 1] + share * (ideal[upper] - ideal[upper - 1])
    scale = undone / radius.clamp(min=1e-9)
    return torch.stack([x * scale, y * scale, torch.ones_like(x)], dim=-1)
