"""The Muon optimizer (Jordan 2024): momentum whose matrices are made orthogonal."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: steep at 0, so that small singular values grow fast
SMALLEST_SIDE = 16  # rows or columns below which a matrix has too few directions to be worth it


def suits_muon(parameter: torch.Tensor) -> bool:
    """Whether Muon suits a parameter: a weight matrix, or a convolution's, that is not narrow as one that reads RGB."""
    return parameter.ndim >= 2 and min(parameter.shape[:2]) >= SMALLEST_SIDE


class Muon(Optimizer):
    """Replaces the momentum of a weight matrix by the nearest orthogonal matrix; all its directions learn at one pace.

    A convolution is a matrix for each tap of its kernel.

    Args:
        params: Weights with two axes (out, in) or, of convolutions, more; or groups of them, as torch takes them.
        lr: Learning rate; the size of an update's singular values. It is `sqrt(out / in)` times that for a matrix that
            is taller than wide, and is shared by the taps of a kernel, `1 / sqrt(taps)` for each.
        weight_decay: Decoupled decay.
        momentum: Of Nesterov's kind.

    Raises:
        ValueError: If a parameter has fewer than two axes.

    Example:
        >>> weight = nn.Parameter(torch.zeros(16, 32))
        >>> weight.grad = torch.randn(16, 32)
        >>> Muon([weight], lr=1.0).step()
        >>> bool((torch.linalg.svdvals(weight.detach()) - 1).abs().max() < 0.5)
        True
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum))
        for parameter in (p for group in self.param_groups for p in group["params"]):
            if parameter.ndim < 2:
                raise ValueError(f"params: expected two axes or more, got {tuple(parameter.shape)}; use AdamW for it")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step; gives what `closure` gives, which is called first."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in (p for p in group["params"] if p.grad is not None):
                out, into, *kernel = parameter.shape
                update = _orthogonal_whole(self._momentum(parameter, group["momentum"]))
                rate = group["lr"] * math.sqrt(max(1, out / into) / math.prod(kernel))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-rate)
        return loss

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> torch.Tensor:
        """Nesterov's momentum of a parameter, and its gradient taken into it."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def _orthogonal_whole(weight: torch.Tensor) -> torch.Tensor:
    """As `orthogonalize`; of a weight that is sharded, each rank gathers the whole and keeps its part of the result."""
    if not isinstance(weight, DTensor):
        return orthogonalize(weight)
    mesh, placements = weight.device_mesh, weight.placements
    whole = orthogonalize(weight.full_tensor())
    return DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(mesh, placements)


def orthogonalize(weight: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest orthogonal matrix, roughly: singular values become 0.7 to 1.2 by Newton and Schulz's iteration.

    Args:
        weight: `(out, in, ...)`; a matrix for each place along the further axes.
        steps: Iterations.

    Returns:
        The same axes, bfloat16.
    """
    matrices = weight.bfloat16().flatten(2) if weight.ndim > 2 else weight.bfloat16()[..., None]
    return torch.stack([_orthogonal(matrix, steps) for matrix in matrices.unbind(-1)], dim=-1).view(weight.shape)


def _orthogonal(matrix: torch.Tensor, steps: int) -> torch.Tensor:
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / x.norm().clamp(min=1e-7)  # no singular value above 1, from where the iteration converges
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
