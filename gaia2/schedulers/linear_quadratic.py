"""The linear-quadratic schedule of flow times (paper §5; Movie Gen)."""

from __future__ import annotations

import torch

from gaia2._checks import real_number, whole_number

MAX_STEPS = 10_000


def linear_quadratic_schedule(
    num_steps: int, threshold_noise: float = 0.025, linear_steps: int | None = None
) -> torch.Tensor:
    """Flow times from noise to data: small even steps first, then growing ones.

    The first `linear_steps` steps are a prefix of a fine even grid, and end at `tau = threshold_noise`; the others
    follow the parabola that continues with the same slope and ends at 1.

    Args:
        num_steps: Steps of the solver, at least 1.
        threshold_noise: The flow time at which the parabola begins, in (0, 1).
        linear_steps: Steps before it; half of `num_steps`, rounded down, by default.

    Returns:
        `num_steps + 1` values of tau in float64, from 0 to 1, strictly rising.

    Raises:
        ValueError: If a number is out of range, or the parabola would overshoot 1 and come back to it.

    Example:
        >>> linear_quadratic_schedule(4, threshold_noise=0.1)
        tensor([0.0000, 0.0500, 0.1000, 0.3500, 1.0000], dtype=torch.float64)
    """
    whole_number("num_steps", num_steps, 1, MAX_STEPS)
    real_number("threshold_noise", threshold_noise, above=0, below=1, what="a flow time")
    linear_steps = num_steps // 2 if linear_steps is None else linear_steps
    whole_number("linear_steps", linear_steps, 0, num_steps - 1, hint=f"of num_steps={num_steps}")
    i = torch.arange(num_steps + 1, dtype=torch.float64)
    if linear_steps == 0:
        return (i / num_steps) ** 2
    slope = threshold_noise / linear_steps
    j, last = i - linear_steps, num_steps - linear_steps
    curvature = (1 - threshold_noise - slope * last) / last**2
    grid = torch.where(j <= 0, slope * i, threshold_noise + slope * j + curvature * j**2)
    grid[-1] = 1.0  # free of rounding
    if (grid.diff() <= 0).any():
        raise ValueError(
            f"linear_quadratic_schedule: expected a grid that rises from 0 to 1, got one that overshoots; lower "
            f"threshold_noise={threshold_noise} or raise linear_steps={linear_steps}"
        )
    return grid
