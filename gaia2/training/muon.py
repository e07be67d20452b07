"""The Muon optimizer (Jordan 2024): momentum whose matrices are made orthogonal."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: steep at 0, so that small singular values grow fast
PORTION = 2**25  # numbers of the weights whose updates are in memory at a time
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
            for some in _portions([p for p in group["params"] if p.grad is not None]):
                momenta = [self._momentum(parameter, group["momentum"]) for parameter in some]
                for parameter, update in zip(some, _orthogonal_of_all(momenta), strict=True):
                    out, into, *kernel = parameter.shape
                    rate = group["lr"] * math.sqrt(max(1, out / into) / math.prod(kernel))
                    weight = _local(parameter)
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(_local(update), alpha=-rate)
        return loss

    def _momentum(self, parameter: nn.Parameter, momentum: float) -> torch.Tensor:
        """Nesterov's momentum of a parameter, and its gradient taken into it."""
        gradient, state = parameter.grad, self.state[parameter]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _portions(parameters: list[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """The parameters in portions of about `PORTION` numbers, so that memory does not grow with the model."""
    portion: list[nn.Parameter] = []
    for parameter in parameters:
        if portion and sum(p.numel() for p in portion) + parameter.numel() > PORTION:
            yield portion
            portion = []
        portion.append(parameter)
    if portion:
        yield portion


def _orthogonal_of_all(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """As `orthogonalize`, of several weights; where they are sharded, the ranks share the work.

    Each rank gathers the weights, makes some of them orthogonal, gives these to the others and keeps its own shards of
    all.
    """
    if not isinstance(weights[0], DTensor):
        return _orthogonal_alike(weights)
    mesh = weights[0].device_mesh
    whole = [weight.full_tensor() for weight in weights]  # type: ignore[attr-defined]
    by_size = sorted(range(len(whole)), key=lambda index: whole[index].numel(), reverse=True)
    shares = [by_size[rank :: mesh.size()] for rank in range(mesh.size())]
    own = _orthogonal_alike([whole[index] for index in shares[_number_in(mesh)]])
    made = _exchange(own, [[whole[index].shape for index in share] for share in shares], mesh, whole[0].device)
    updates = dict(zip((index for share in shares for index in share), made, strict=True))
    return [
        DTensor.from_local(updates[index], mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(
            mesh,
            weight.placements,  # type: ignore[attr-defined]
        )
        for index, weight in enumerate(weights)
    ]


def _number_in(mesh: DeviceMesh) -> int:
    """This rank's place in a mesh, its last axis counted first."""
    place, coordinate = 0, mesh.get_coordinate()
    assert coordinate is not None
    for axis, number in enumerate(coordinate):
        place = place * mesh.size(axis) + number
    return place


def _exchange(
    own: Sequence[torch.Tensor], shapes: list[list[torch.Size]], mesh: DeviceMesh, device: torch.device
) -> Iterator[torch.Tensor]:
    """The tensors of all ranks, rank by rank, from this rank's `own`; `shapes` has all ranks'."""
    length = max(sum(map(math.prod, share)) for share in shapes)
    everything = torch.zeros(length, dtype=torch.bfloat16, device=device)
    if own:
        joined = torch.cat([tensor.flatten() for tensor in own])
        everything[: len(joined)] = joined
    for axis in reversed(range(mesh.ndim)):
        gathered = everything.new_empty(mesh.size(axis) * len(everything))
        dist.all_gather_into_tensor(gathered, everything, group=mesh.get_group(axis))
        everything = gathered
    for share, part in zip(shapes, everything.split(length), strict=True):
        start = 0
        for shape in share:
            yield part[start : start + math.prod(shape)].view(shape)
            start += math.prod(shape)


def orthogonalize(weight: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Nearest orthogonal matrix, roughly: singular values become 0.7 to 1.2 by Newton and Schulz's iteration.

    Args:
        weight: `(out, in, ...)`; a matrix for each place along the further axes.
        steps: Iterations.

    Returns:
        The same axes, bfloat16.
    """
    return _orthogonal_alike([weight], steps)[0]


def _orthogonal_alike(weights: Sequence[torch.Tensor], steps: int = 5) -> list[torch.Tensor]:
    """As `orthogonalize`, of several weights: all matrices of the same shape are one batch, which is much faster."""
    alike = defaultdict(list)
    for index, weight in enumerate(weights):
        alike[weight.shape[:2]].append(index)
    made: dict[int, torch.Tensor] = {}
    for indices in alike.values():
        taps = [
            weights[index].bfloat16().flatten(2) if weights[index].ndim > 2 else weights[index].bfloat16()[..., None]
            for index in indices
        ]
        batch = _orthogonal(torch.cat([tap.permute(2, 0, 1) for tap in taps]), steps)
        for index, own in zip(indices, batch.split([tap.shape[2] for tap in taps]), strict=True):
            made[index] = own.permute(1, 2, 0).reshape(weights[index].shape)
    return [made[index] for index in range(len(weights))]


def _orthogonal(matrices: torch.Tensor, steps: int) -> torch.Tensor:
    """Of matrices `(b, out, in)`."""
    a, b, c = QUINTIC
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True).clamp(
        min=1e-7
    )  # no singular value above 1: converges
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
