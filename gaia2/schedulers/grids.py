"""Grids of flow times for the solvers of sampling: named ones and a user's own (paper §5, Inference Noise Schedule)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gaia2._checks import one_of, real_number, refuse, shown, whole_number
from gaia2.schedulers.linear_quadratic import MAX_STEPS, linear_quadratic_schedule

GRIDS = ("linear_quadratic", "linear", "shifted")
"""Names that `flow_grid` knows."""


def flow_grid(
    name: str,
    num_steps: int,
    *,
    threshold_noise: float = 0.025,
    linear_steps: int | None = None,
    shift: float = 3.0,
) -> torch.Tensor:
    """Flow times of a named grid.

    * "linear_quadratic": see `linear_quadratic_schedule`; the paper's.
    * "linear": even steps.
    * "shifted": even steps whose noise levels `1 - tau` become `shift (1 - tau) / (1 + (shift - 1)(1 - tau))`, which
      spends more steps near the noise for a shift above 1.

    Args:
        name: One of `GRIDS`.
        num_steps: Steps, at least 1.
        threshold_noise: For "linear_quadratic".
        linear_steps: For "linear_quadratic".
        shift: For "shifted", above 0.

    Returns:
        `num_steps + 1` values of tau in float64, from 0 to 1, strictly rising.

    Raises:
        ValueError: If the name is unknown or a number is out of range.

    Example:
        >>> flow_grid("shifted", 2, shift=3.0)
        tensor([0.0000, 0.2500, 1.0000], dtype=torch.float64)
    """
    one_of("grid", name, GRIDS)
    whole_number("num_inference_steps", num_steps, 1, MAX_STEPS)
    if name == "linear_quadratic":
        return linear_quadratic_schedule(num_steps, threshold_noise, linear_steps)
    even = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    if name == "linear":
        return even
    check_shift(shift)
    return even / (shift - (shift - 1) * even)


def check_shift(shift: float) -> None:
    """Check the shift of the grid "shifted".

    Raises:
        ValueError: If it is no number above 0.
    """
    real_number("shift", shift, above=0, below=1e6, hint="1 is no shift")


def custom_grid(timesteps: Sequence[float] | torch.Tensor) -> torch.Tensor:
    """Check a user's own flow times; the end, 1, is added where it is not there.

    Args:
        timesteps: Rising flow times in [0, 1], the first below 1: where each step begins.

    Returns:
        The grid in float64, ending with 1.

    Raises:
        ValueError: If there is none, or they do not rise within [0, 1].

    Example:
        >>> custom_grid([0.0, 0.5])
        tensor([0.0000, 0.5000, 1.0000], dtype=torch.float64)
    """
    try:
        times = torch.as_tensor(timesteps, dtype=torch.float64, device="cpu").reshape(-1)
    except (TypeError, ValueError, RuntimeError):
        raise refuse("timesteps", "flow times that rise from 0 (noise) to below 1 (data)", timesteps) from None
    if times.numel() and times[-1] < 1:
        times = torch.cat([times, times.new_ones(1)])
    if times.numel() < 2 or not (times[0] >= 0 and times[-1] == 1 and (times.diff() > 0).all()):
        raise ValueError(
            f"timesteps: expected flow times that rise from 0 (noise) or later to below 1 (data), got "
            f"{shown(times.tolist())}; sigmas become flow times as 1 - sigma"
        )
    return times
