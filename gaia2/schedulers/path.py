"""The straight path between noise and data, and its velocity (paper Eq. 1 and 2).

`tau = 1` is data, `tau = 0` is noise.
"""

from __future__ import annotations

import torch

from gaia2._checks import refuse
from gaia2.nn.shapes import check_like


def interpolate(x: torch.Tensor, eps: torch.Tensor, tau: torch.Tensor) -> torch.Tensor:
    """`x_tau = tau x + (1 - tau) eps` (paper Eq. 1).

    Args:
        x: Data, any axes.
        eps: Noise, the same axes.
        tau: Flow time in [0, 1]; broadcasts from the left, so `(b,)` serves `(b, ...)`.

    Example:
        >>> interpolate(torch.ones(2, 3), torch.zeros(2, 3), torch.tensor([0.0, 0.25]))[:, 0]
        tensor([0.0000, 0.2500])
    """
    check_like("eps", eps, "x", x)
    if not isinstance(tau, torch.Tensor) or tau.shape != x.shape[: tau.dim()]:
        axes = f"the first axes of x, {tuple(x.shape)}, as a torch.Tensor"
        raise refuse("tau", axes, tuple(tau.shape) if isinstance(tau, torch.Tensor) else tau)
    tau = tau.reshape(tau.shape + (1,) * (x.dim() - tau.dim()))
    return tau * x + (1 - tau) * eps


def velocity(x: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
    """`v = x - eps`, the derivative of the path by tau (paper Eq. 2).

    Example:
        >>> velocity(torch.tensor(3.0), torch.tensor(1.0))
        tensor(2.)
    """
    check_like("eps", eps, "x", x)
    return x - eps
