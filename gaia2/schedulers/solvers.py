"""Solvers of `dx / dtau = v`: one instance integrates one sample from the beginning of a grid to its end.

A step of the grid asks for `order` velocities. `advance` is called with each and gives the sample at which the next
one is wanted.
"""

from __future__ import annotations

import torch

MAX_STEP_RATIO = 4.0
"""How much longer than the step before a step may count in `AdamsBashforth2`'s extrapolation."""


class Euler:
    """`x + h v`, first order."""

    order = 1

    def advance(self, sample: torch.Tensor, velocity: torch.Tensor, width: float, *, is_last: bool) -> torch.Tensor:
        """Step from `sample` along `velocity` by `width`.

        Example:
            >>> Euler().advance(torch.zeros(1), torch.ones(1), 0.5, is_last=False)
            tensor([0.5000])
        """
        return sample + width * velocity


class Heun:
    """Euler to the end of the step, then again with the mean of the velocities at both of its ends: second order.

    The last step is Euler's, as in diffusers: a velocity at `tau = 1` is not defined.
    """

    order = 2

    def __init__(self) -> None:
        self._begin: tuple[torch.Tensor, torch.Tensor] | None = None

    def advance(self, sample: torch.Tensor, velocity: torch.Tensor, width: float, *, is_last: bool) -> torch.Tensor:
        """Step from `sample` along `velocity` by `width`; every second call ends the step that the first began.

        Example:
            >>> heun = Heun()
            >>> x = heun.advance(torch.zeros(1), torch.ones(1), 0.5, is_last=False)
            >>> heun.advance(x, 2 * torch.ones(1), 0.5, is_last=False)
            tensor([0.7500])
        """
        if self._begin is not None:
            start, first = self._begin
            self._begin = None
            return start + width * (first + velocity) / 2
        if not is_last:
            self._begin = sample, velocity
        return sample + width * velocity


class AdamsBashforth2:
    """Extrapolates the velocity linearly from this time and the one before: second order with one velocity a step.

    `x + h ((1 + r / 2) v - (r / 2) v_before)` with `r` the ratio of this step's width to that of the one before. The
    ratio counts at most `MAX_STEP_RATIO`, so that a jump of the grid does not magnify the network's errors; the first
    step is Euler's.
    """

    order = 1

    def __init__(self) -> None:
        self._before: tuple[torch.Tensor, float] | None = None

    def advance(self, sample: torch.Tensor, velocity: torch.Tensor, width: float, *, is_last: bool) -> torch.Tensor:
        """Step from `sample` along `velocity` by `width`.

        Example:
            >>> solver = AdamsBashforth2()
            >>> x = solver.advance(torch.zeros(1), torch.zeros(1), 0.5, is_last=False)
            >>> solver.advance(x, torch.ones(1), 0.5, is_last=True)
            tensor([0.7500])
        """
        slope = velocity
        if self._before is not None:
            before, width_before = self._before
            share = min(width / width_before, MAX_STEP_RATIO) / 2
            slope = velocity + share * (velocity - before)
        self._before = velocity, width
        return sample + width * slope


Solver = Euler | Heun | AdamsBashforth2
SOLVERS: dict[str, type[Solver]] = {"euler": Euler, "heun": Heun, "adams_bashforth": AdamsBashforth2}
"""Solvers by the names that `FlowMatchScheduler` takes."""
