"""The moving average of a model's weights, which is what is used after training (paper §4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.distributed.tensor import DTensor


class WeightAverage:
    """Exponential moving average of a model's parameters that are trained, sharded as they are.

    The first step's weights are taken as they are; n steps later the decay is the smaller of `decay` and
    (1 + n) / (10 + n), so that the average forgets the random weights of the beginning. diffusers' `EMAModel` does
    the same, but knows nothing of shards.

    Args:
        model: The model, sharded or not.
        decay: Decay a step (paper: 0.9999).

    Raises:
        ValueError: If `decay` is not in [0, 1).

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> average = WeightAverage(model, decay=0.9)
        >>> for value in (1.0, 2.0):
        ...     _ = nn.init.constant_(model.weight, value)
        ...     average.step()
        >>> round(average.weights["weight"].item(), 3)  # 2 / 11 of the first, 9 / 11 of the second
        1.818
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number from 0 to below 1, got {decay}")
        self.decay = decay
        self.steps = 0
        self.parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
        self.weights = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def step(self) -> None:
        """Take the weights of a training step into the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps)) if self.steps else 0.0
        self.steps += 1
        torch._foreach_lerp_(_local(self.weights.values()), _local(self.parameters.values()), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for own, other in zip(_local(self.weights.values()), _local(self.parameters.values()), strict=True):
            kept = own.clone()
            own.copy_(other)
            other.copy_(kept)


def _local(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """This rank's parts of tensors."""
    return [tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach() for tensor in tensors]
