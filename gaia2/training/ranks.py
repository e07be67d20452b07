"""The processes of a training, as torchrun starts them: who has which samples, which weights and which times.

Ranks in a row share the latent times of a sample (context parallelism); groups of ranks in a row share one copy of the
weights (FSDP2), and if there are several such groups, each has a replica (HSDP).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh


@dataclass(frozen=True)
class Ranks:
    """This process among all.

    Attributes:
        device: Where it computes.
        rank: Its number.
        world: How many there are.
        context: Ranks that share the latent times of a sample.
        weights: Mesh over which weights are sharded: one axis, or replicas and shards; None for one process.
        times: Mesh with axes data, ring and ulysses for context parallelism; None without it.
        files: Group for what checkpoints have to agree on, beside the training.

    Example:
        >>> Ranks().samples(8), Ranks(rank=3, world=4).samples(8), Ranks(rank=3, world=4, context=2).samples(8)
        (range(0, 8), range(6, 8), range(4, 8))
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    world: int = 1
    context: int = 1
    weights: DeviceMesh | None = None
    times: DeviceMesh | None = None
    files: dist.ProcessGroup | None = None

    @property
    def is_main(self) -> bool:
        """Whether this one writes the log."""
        return self.rank == 0

    @property
    def data_rank(self) -> int:
        """Its number among those that have different samples."""
        return self.rank // self.context

    @property
    def data_ranks(self) -> int:
        """How many have different samples."""
        return self.world // self.context

    def samples(self, batch_size: int) -> range:
        """Its samples of a step's.

        Raises:
            ValueError: If the samples cannot be divided evenly.
        """
        if batch_size % self.data_ranks:
            raise ValueError(
                f"batch_size: expected a multiple of the {self.data_ranks} ranks that share it, got {batch_size}; "
                f"take {-(-batch_size // self.data_ranks) * self.data_ranks}, or another number of ranks"
            )
        size = batch_size // self.data_ranks
        return range(self.data_rank * size, (self.data_rank + 1) * size)

    def sum(self, *values: float | torch.Tensor) -> list[float]:
        """Sums over the ranks that have different samples; the same in all ranks."""
        numbers = [torch.as_tensor(value, dtype=torch.float64, device=self.device) for value in values]
        return self.total(torch.stack(numbers)).tolist()

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over the ranks that have different samples; the same in all ranks."""
        values = values.to(self.device, copy=True)
        if self.world > 1:
            dist.all_reduce(values)
        return values / self.context

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any rank."""
        return self.sum(float(flag))[0] > 0 if self.world > 1 else flag

    def barrier(self) -> None:
        """Wait for all."""
        if self.world > 1:
            dist.barrier(group=self.files)


@contextmanager
def join_ranks(
    device: str, *, shard_ranks: int | None = None, context_ranks: int = 1, timeout_minutes: float = 10.0
) -> Iterator[Ranks]:
    """Become one of the processes that torchrun started, or the only one.

    Args:
        device: `cpu` or `cuda`; under torchrun, each process takes its own GPU.
        shard_ranks: Ranks that share a copy of the weights; None is all.
        context_ranks: Ranks that share the latent times of a sample.
        timeout_minutes: How long to wait for a rank that does not answer.

    Raises:
        ValueError: If the numbers do not divide the number of processes.
    """
    world = int(os.environ.get("WORLD_SIZE", 1))
    given = dist.is_initialized()
    if given:
        world = dist.get_world_size()
    for name, value in (("shard_ranks", shard_ranks or world), ("context_ranks", context_ranks)):
        if world % value:
            raise ValueError(f"{name}: expected a divisor of the {world} processes, got {value}; start others")
    place = torch.device(device)
    if world == 1:
        yield Ranks(device=place)
        return
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(place)
    if not given:
        backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
    yield Ranks(
        device=place,
        rank=dist.get_rank(),
        world=world,
        context=context_ranks,
        weights=_weights_mesh(place.type, world, shard_ranks or world),
        times=_times_mesh(place.type, world, context_ranks),
        files=dist.new_group(backend="gloo", timeout=timedelta(minutes=timeout_minutes)),
    )
    if not given:  # after an error there is nobody to say goodbye to: torchrun ends the other processes
        dist.destroy_process_group()


def _weights_mesh(device: str, world: int, shards: int) -> DeviceMesh:
    if shards == world:
        return init_device_mesh(device, (world,), mesh_dim_names=("shard",))
    return init_device_mesh(device, (world // shards, shards), mesh_dim_names=("replicate", "shard"))


def _times_mesh(device: str, world: int, context: int) -> DeviceMesh | None:
    if context == 1:
        return None
    return init_device_mesh(device, (world // context, 1, context), mesh_dim_names=("data", "ring", "ulysses"))
