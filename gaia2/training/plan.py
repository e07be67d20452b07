"""What a training will cost, before anything is allocated: memory by rank, time, disk (`--plan`)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from gaia2.training.cost import ForwardCost
from gaia2.training.model_costs import ModelCost
from gaia2.training.options import Checkpointing, TrainingOptions

GIGABYTE = 10**9
GpuName = Literal["a100-40", "a100-80", "h100", "h200", "b200"]


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU, by its maker's figures.

    Attributes:
        memory: Bytes.
        flops: Dense bfloat16 operations a second.
        inside: Bytes a second to another GPU of the same machine, one way.
        outside: Bytes a second to one of another machine, one way.
    """

    memory: float
    flops: float
    inside: float
    outside: float


GPUS: dict[GpuName, Gpu] = {
    "a100-40": Gpu(40e9, 312e12, 300e9, 25e9),
    "a100-80": Gpu(80e9, 312e12, 300e9, 25e9),
    "h100": Gpu(80e9, 989e12, 450e9, 50e9),
    "h200": Gpu(141e9, 989e12, 450e9, 50e9),
    "b200": Gpu(180e9, 2250e12, 900e9, 50e9),
}
RESERVED = 0.1
"""Share of the memory that the driver, communication buffers and fragmentation take."""
MODES: tuple[Checkpointing, ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class Workload:
    """What is to be trained, and how it is divided.

    Attributes:
        name: Of the model.
        parameters: Weights that are trained.
        largest_unit: Weights that are gathered at once, those of the largest block or of all that is in no block.
        cost: Of the forward pass of one sample.
        tokens: Of one sample.
        batch_size: Samples a step, in all.
        steps: Steps.
        micro_batch_size: Samples that a rank computes at once; None is all of its own.
        ranks: Processes.
        shard_ranks: Ranks that share a copy of the weights.
        context_ranks: Ranks that share a sample.
        ranks_per_machine: GPUs of a machine.
        checkpointing: Mode of activation checkpointing.
        gpu: Kind of GPU.
        checkpoints: Checkpoints that are kept, and the one that is being written.
        latent_bytes: Bytes on disk of the latents of an hour of driving.
        hours: Hours of driving.
        frozen: Weights that are held and not trained.
        frozen_saved: Whether they are in the checkpoints.
        averaged: Trained weights that have an average.
        second: Cost of a second pass of each sample, when the first one's activations are free again.
        uncounted: What the plan leaves out, in words.
    """

    name: str
    parameters: int
    largest_unit: int
    cost: ForwardCost
    tokens: int
    batch_size: int
    steps: int
    micro_batch_size: int | None
    ranks: int
    shard_ranks: int
    context_ranks: int
    checkpointing: Checkpointing
    gpu: GpuName
    checkpoints: int
    latent_bytes: float = 0.0
    hours: float = 0.0
    ranks_per_machine: int = 8
    frozen: int = 0
    frozen_saved: bool = True
    averaged: int = 0
    second: ForwardCost | None = None
    uncounted: str = ""

    @property
    def passes(self) -> tuple[ForwardCost, ...]:
        """What a sample goes through, one after the other."""
        return (self.cost,) if self.second is None else (self.cost, self.second)

    @property
    def sample_flops(self) -> float:
        """Operations of a sample, forward and backward, when nothing is computed again."""
        return sum(one.flops + one.backward_flops for one in self.passes)

    @property
    def samples(self) -> int:
        """Samples that a rank computes at once."""
        own = self.batch_size * self.context_ranks // self.ranks
        return min(own, self.micro_batch_size or own)

    @property
    def micro_batches(self) -> int:
        """Forward passes of a rank in a step."""
        return -(-self.batch_size * self.context_ranks // (self.ranks * self.samples))

    def memory(self, mode: Checkpointing) -> dict[str, float]:
        """Bytes of a rank by what they are for."""
        own = self.parameters / self.shard_ranks
        sharded = self.shard_ranks > 1
        share = self.samples / self.context_ranks
        return {
            "weights (fp32)": 4 * (own + self.frozen / self.shard_ranks),
            "gradients (fp32)": 4 * own,
            "AdamW's moments (fp32)": 8 * own,
            "average (fp32)": 4 * self.averaged / self.shard_ranks,
            # bf16 weights of one block and of the next, its bf16 gradients, and these in fp32 on their way
            "gathered blocks": (2 + 2 + 2 + 4) * self.largest_unit if sharded else 0.0,
            "copies of the weights (bf16)": 0.0 if sharded else 2 * (self.parameters + self.frozen),
            "activations": share * max(_kept_bytes(one, mode) for one in self.passes),
        }

    def step_flops(self, mode: Checkpointing) -> float:
        """Operations of a step, over all ranks: forward, backward, and what is computed again."""
        again = {"none": 0.0}
        again["selective"] = sum(one.selective_flops for one in self.passes)
        again["full"] = sum(one.block_flops for one in self.passes)
        return self.batch_size * (self.sample_flops + again[mode])

    def floor(self, mode: Checkpointing) -> float:
        """Seconds of a step if every GPU did nothing but products, at its maker's rate."""
        return self.step_flops(mode) / (self.ranks * GPUS[self.gpu].flops)

    def exchange(self) -> float:
        """Seconds of a step in which weights and gradients are on their way, if nothing hides them."""
        if self.shard_ranks == 1 and self.ranks == 1:
            return 0.0
        gpu = GPUS[self.gpu]
        speed = gpu.inside if self.shard_ranks <= self.ranks_per_machine else gpu.outside
        share = (self.shard_ranks - 1) / self.shard_ranks
        sharded = self.micro_batches * share * self.parameters * (2 + 2 + 4) / speed
        replicas = self.ranks // self.shard_ranks
        ring = 2 * (replicas - 1) / replicas * 4 * self.parameters / self.shard_ranks
        return sharded + ring / gpu.outside

    def refusal(self) -> str | None:
        """Why it cannot fit, and what would make it; None if it fits."""
        room = GPUS[self.gpu].memory * (1 - RESERVED)
        need = sum(self.memory(self.checkpointing).values())
        if need <= room:
            return None
        remedies = []
        full = sum(self.memory("full").values())
        if self.checkpointing != "full" and full <= room:
            remedies.append("--activation-checkpointing full")
        if self.samples > 1:
            remedies.append("--micro-batch-size 1")
        state = sum(value for name, value in self.memory("full").items() if "fp32" in name)
        if state > room / 2:
            remedies.append(f"about {int(-(-self.ranks * state // (room / 2)))} ranks that share the weights")
        return (
            f"it needs {need / GIGABYTE:.1f} GB a rank, and a {self.gpu} has {room / GIGABYTE:.1f} GB free; try "
            f"{', or '.join(remedies) or 'a GPU with more memory, or --context-ranks'}"
        )

    def table(self) -> str:
        """The plan, to be read."""
        gpu, mode, none = GPUS[self.gpu], self.checkpointing, self.sample_flops
        lines = [
            f"{self.name} on {self.ranks} x {self.gpu}, {self.shard_ranks} of which share a copy of the weights",
            "",
            f"parameters             {_billions(self.parameters)}"
            + (f" trained, {_billions(self.frozen)} frozen" if self.frozen else ""),
            f"tokens                 {self.tokens:,} a sample, {self.tokens * self.batch_size:,} a step",
            f"operations             {sum(one.flops for one in self.passes) / 1e12:.4g} TFLOP forward, "
            f"{none / 1e12:.4g} a sample with the backward pass, "
            f"{self.step_flops(mode) / 1e12:.4g} a step with what is computed again",
            f"samples of a rank      {self.samples} at once, {self.micro_batches} times a step",
            "",
            f"{'memory of a rank, GB, by checkpointing':<40}" + "".join(f"{name:>12}" for name in MODES),
        ]
        memories = [self.memory(other) for other in MODES]
        for name in memories[0]:
            lines.append(f"  {name:<38}" + "".join(f"{m[name] / GIGABYTE:>12.2f}" for m in memories))
        totals = "".join(f"{sum(m.values()) / GIGABYTE:>12.2f}" for m in memories)
        lines += [
            f"  {'together':<38}{totals}",
            f"  {'of':<38}{gpu.memory * (1 - RESERVED) / GIGABYTE:>12.2f} without what the driver takes",
            "",
            f"step, products alone   {self.floor(mode):.3f} s at {gpu.flops / 1e12:.0f} TFLOP/s; "
            f"{none * self.batch_size / (self.ranks * gpu.flops) / 0.4:.3f} s at 40% utilisation",
            f"step, exchange alone   {self.exchange():.3f} s, of which computing hides a part",
            f"schedule               {self.steps:,} steps: {self.floor(mode) * self.steps / 3600:,.1f} hours at least; "
            f"{none * self.batch_size / (self.ranks * gpu.flops) / 0.4 * self.steps / 3600:,.1f} at 40% utilisation",
            f"checkpoint             {self.checkpoint_bytes / GIGABYTE:.1f} GB, {self.checkpoints} of them "
            f"{self.checkpoints * self.checkpoint_bytes / GIGABYTE:,.1f} GB",
        ]
        if self.latent_bytes:
            lines.append(
                f"latents                {self.latent_bytes / GIGABYTE:.2f} GB an hour of driving, "
                f"{self.hours:g} hours {self.hours * self.latent_bytes / GIGABYTE:,.0f} GB"
            )
        if self.uncounted:
            lines.append(f"not counted            {self.uncounted}")
        refusal = self.refusal()
        return "\n".join([*lines, "", "it fits" if refusal is None else f"it does not fit: {refusal}"])

    @property
    def checkpoint_bytes(self) -> float:
        """Weights, moments and average of all ranks together."""
        return self.parameters * (4 + 8) + 4 * self.averaged + (4 * self.frozen if self.frozen_saved else 0)


def _kept_bytes(cost: ForwardCost, mode: Checkpointing) -> int:
    """Bytes that a pass keeps for its backward pass, at most at once."""
    inside = {"none": cost.block_bytes, "selective": cost.selective_bytes, "full": cost.input_bytes}[mode]
    return inside + cost.outside_bytes + (0 if mode == "none" else cost.largest_block_bytes)


def _billions(number: int) -> str:
    """A number of weights, to be read.

    Example:
        >>> _billions(8_447_910_464), _billions(344_064)
        ('8.448 billion', '0.344 million')
    """
    return f"{number / 1e9:.3f} billion" if number >= 1e8 else f"{number / 1e6:.3f} million"


@dataclass(frozen=True, kw_only=True)
class PlannedOptions(TrainingOptions):
    """Options of a training that can be planned."""

    plan: bool = False
    """Print what the run will cost, and do nothing; needs no data, no GPU and little memory."""
    plan_ranks: int | None = None
    """GPUs of the plan; those that torchrun has started, or one, if not given."""
    plan_gpu: GpuName = "h100"
    """Kind of GPU of the plan."""
    plan_hours: float = 1000.0
    """Hours of driving whose latents are to be kept."""

    @property
    def num_ranks(self) -> int:
        """Ranks of the plan."""
        return self.plan_ranks or int(os.environ.get("WORLD_SIZE", 1))

    def workload(
        self,
        name: str,
        cost: ModelCost,
        *,
        seconds: float,
        keeps_latents: bool,
        frozen_saved: bool = True,
        uncounted: str = "",
    ) -> Workload:
        """What the plan is of.

        Args:
            name: Of the model.
            cost: Of one sample.
            seconds: Of driving in one sample.
            keeps_latents: Whether the training reads latents from disk.
            frozen_saved: Whether weights that are not trained are in the checkpoints.
            uncounted: What the cost leaves out, in words.

        Raises:
            ValueError: If the ranks cannot be divided as the options say.
        """
        ranks = self.num_ranks
        shards = self.shard_ranks or ranks
        for option, value in (("shard_ranks", shards), ("context_ranks", self.context_ranks)):
            if ranks % value:
                raise ValueError(f"{option}: expected a divisor of the {ranks} ranks, got {value}")
        if self.batch_size * self.context_ranks % ranks:
            raise ValueError(
                f"batch_size: expected a multiple of the {ranks // self.context_ranks} ranks that share it, got "
                f"{self.batch_size}"
            )
        return Workload(
            name=name,
            parameters=cost.parameters,
            largest_unit=cost.largest_unit,
            cost=cost.forward,
            tokens=cost.tokens,
            batch_size=self.batch_size,
            steps=self.steps,
            micro_batch_size=self.micro_batch_size,
            ranks=ranks,
            shard_ranks=shards,
            context_ranks=self.context_ranks,
            checkpointing=self.activation_checkpointing,
            gpu=self.plan_gpu,
            checkpoints=self.keep_last + 1,
            latent_bytes=cost.latent_bytes * 3600 / seconds if keeps_latents else 0.0,
            hours=self.plan_hours,
            frozen=cost.frozen,
            frozen_saved=frozen_saved,
            averaged=cost.parameters if cost.averaged is None else cost.averaged,
            second=cost.second,
            uncounted=uncounted,
        )


def print_plan(workload: Workload) -> int:
    """Print a plan; gives the status to end with, 2 if it cannot fit."""
    print(workload.table())
    return 0 if workload.refusal() is None else 2
