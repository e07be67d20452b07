"""Context parallelism: the tokens lie sharded over time, and over space while the temporal attention runs.

Everything in a world model's block but the temporal attention is about one time, so it needs no communication.
diffusers shards and gathers at the ends of the model (`WorldModel._cp_plan`); here is the exchange in between. The
gradients of the weights are those of each process's own tokens: summed over the group, those of a single process.

Axes: b batch, t latent time, s the flattened cameras and grid, c channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from diffusers.models._modeling_parallel import gather_size_by_comm
from torch import nn


@dataclass(frozen=True)
class TimeShards:
    """How tokens `(b, t, s, c)` are cut over a group of processes.

    Attributes:
        group: The processes, each with a part of the times.
        times: Times of each process.
        cells: Length of s of each process, while it has all times.
    """

    group: dist.ProcessGroup
    times: list[int]
    cells: list[int]

    @classmethod
    def of(cls, attention: nn.Module, tokens: torch.Tensor) -> TimeShards | None:
        """The shards of `tokens (b, t, s, c)`, or None where `enable_parallelism` has not been called.

        The processes have equally many times, except in diffusers' modes "anything".
        """
        parallel = getattr(getattr(attention, "processor", None), "_parallel_config", None)
        config = None if parallel is None else parallel.context_parallel_config
        if config is None:
            return None
        group = config._flattened_mesh.get_group()
        size = dist.get_world_size(group)
        t, s = tokens.shape[1:3]
        times = [t] * size
        if config.ulysses_anything or config.ring_anything:
            times = gather_size_by_comm(t, group)
        return cls(group, times, [s // size + (rank < s % size) for rank in range(size)])

    def to_space(self, tokens: torch.Tensor) -> torch.Tensor:
        """From this process's times of all s to all times of its part of s."""
        return exchange(tokens, split=(2, self.cells), gather=(1, self.times), group=self.group)

    def to_time(self, tokens: torch.Tensor) -> torch.Tensor:
        """The way back."""
        return exchange(tokens, split=(1, self.times), gather=(2, self.cells), group=self.group)


def exchange(
    tokens: torch.Tensor, *, split: tuple[int, list[int]], gather: tuple[int, list[int]], group: dist.ProcessGroup
) -> torch.Tensor:
    """Send every process its part of an axis that is whole, and join what comes along the axis that was cut.

    Args:
        tokens: Any axes; differentiable.
        split: Axis to cut, and its length in each process afterwards.
        gather: Axis that is cut now, and its length in each process.
        group: The processes.

    Returns:
        The tokens, whole along `gather` and cut along `split`.
    """
    rank = dist.get_rank(group)
    parts = tokens.split(split[1], dim=split[0])
    shapes = []
    for length in gather[1]:
        shape = list(parts[rank].shape)
        shape[gather[0]] = length
        shapes.append(torch.Size(shape))
    received = funcol.all_to_all_single_autograd(
        torch.cat([part.flatten() for part in parts]),
        [shape.numel() for shape in shapes],
        [part.numel() for part in parts],
        group,
    )
    pieces = received.split([shape.numel() for shape in shapes])
    return torch.cat([piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True)], dim=gather[0])
