"""Options of a training: a frozen dataclass on the command line, whose preset sets every number of the paper (§4)."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
import tyro

from gaia2.training.precision import Precision

PresetName = Literal["mini", "paper"]
Checkpointing = Literal["none", "selective", "full"]


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What all trainings share; the defaults are those of the mini preset, on one CPU process."""

    PAPER: ClassVar[dict[str, Any]] = {}
    """The numbers of the preset `paper`."""
    REQUIRED: ClassVar[tuple[str, ...]] = ("out",)
    """Options without a default."""
    FREE: ClassVar[tuple[str, ...]] = (
        "out", "steps", "validate_every", "save_every", "log_every", "keep_last", "keep_every", "minutes", "workers",
        "compile", "device", "micro_batch_size", "activation_checkpointing", "shard_ranks", "context_ranks",
        "timeout_minutes", "accept_changes", "precision", "plan", "plan_ranks", "plan_gpu", "plan_hours",
    )  # fmt: skip
    """Options that may differ when a run goes on: they change where and how fast it runs, or how long."""

    out: Path
    """Folder for checkpoints, logs and the trained model."""
    preset: PresetName = "mini"
    """Size of the models; `paper` also makes the paper's numbers the defaults of all other options."""
    steps: int
    """Optimiser steps."""
    batch_size: int
    """Samples a step, over all ranks and micro-batches together."""
    micro_batch_size: int | None = None
    """Samples that a rank computes at once; the gradients of its share of a step are accumulated. None is all."""
    weight_decay: float = 0.1
    """Weight decay (paper: 0.1)."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm (paper: 1.0)."""
    validate_every: int = 250
    """Steps between validations."""
    save_every: int = 250
    """Steps between checkpoints."""
    log_every: int = 10
    """Steps between lines of the log."""
    keep_last: int = 2
    """Checkpoints that are kept; older ones are removed."""
    keep_every: int | None = None
    """Checkpoints of every so many steps are kept for good."""
    minutes: float | None = None
    """Time budget: after so many minutes it saves and ends, with status 0; the same words go on."""
    workers: int = 0
    """Processes that load data."""
    activation_checkpointing: Checkpointing = "none"
    """Compute activations of the blocks twice rather than keep them: `full`, or `selective`, which keeps the results
    of attention and of every other matrix product."""
    compile: bool = False
    """Compile the models' blocks with torch.compile."""
    precision: Precision = "auto"
    """Number format of matrix products; `auto` is bf16 on GPUs and CPUs with matrix units for it, else fp32."""
    shard_ranks: int | None = None
    """Ranks that share one copy of the weights (FSDP2); other groups of ranks hold replicas (HSDP). None is all."""
    context_ranks: int = 1
    """Ranks that share the latent times of a sample (context parallelism); world model only."""
    timeout_minutes: float = 10.0
    """After so many minutes in which a rank does not answer the job ends with an error."""
    accept_changes: tuple[str, ...] = ()
    """Options that may differ from those which the run in `out` was begun with."""
    seed: int = 0
    """Seed of weights, batches and noise."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train."""

    @classmethod
    def of(cls, preset: PresetName, **given: Any) -> Self:
        """The options of a preset, with some given in place of its own."""
        return cls(**({"mini": {}, "paper": cls.PAPER}[preset] | {"preset": preset} | given))

    @classmethod
    def from_command_line(cls, description: str | None, args: Sequence[str] | None = None) -> Self:
        """Read the options; those that are not given are the preset's."""

        @dataclass(frozen=True)
        class Chosen:
            preset: Annotated[str, tyro.conf.arg(help="")] = "mini"

        args = sys.argv[1:] if args is None else args
        chosen, _ = tyro.cli(Chosen, args=args, return_unknown_args=True, add_help=False)
        preset: PresetName = "paper" if chosen.preset == "paper" else "mini"  # the second reading refuses others
        missing = Path("none") if "--plan" in args else tyro.MISSING  # a plan reads and writes nothing
        default = cls.of(preset, **dict.fromkeys(cls.REQUIRED, missing))
        return tyro.cli(cls, args=args, default=default, description=description)

    def __post_init__(self) -> None:
        """Refuse numbers that no training can have; those of a command line that is incomplete are left alone."""
        positive = (
            "steps", "batch_size", "micro_batch_size", "validate_every", "save_every", "log_every", "keep_last",
            "keep_every", "shard_ranks", "context_ranks", "minutes", "timeout_minutes", "max_grad_norm",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if isinstance(value, int | float) and not value > 0:
                raise ValueError(f"{name}: expected a positive number, got {value}")

    def to_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return json.loads(json.dumps(asdict(self), default=str))

    def check_unchanged(self, saved: Mapping[str, Any], where: Path) -> None:
        """Refuse to go on with a run that was begun with other options.

        Args:
            saved: `to_json` of the options that it was begun with.
            where: The run's checkpoint, for the message.

        Raises:
            ValueError: If an option differs that changes what is learnt. More `steps` may be asked for; the learning
                rate then follows the schedule of the new number.
        """
        own = self.to_json()
        free = {*self.FREE, *self.accept_changes}
        names = [field.name for field in fields(self) if field.name not in free]
        changed = [name for name in names if name in saved and own[name] != saved[name]]
        if changed:
            was, now = (", ".join(f"{name}={options[name]!r}" for name in changed) for options in (saved, own))
            raise ValueError(
                f"{where}: expected the options that the run was begun with, {was}, got {now}; give those, give "
                f"another folder, or accept them with --accept-changes {' '.join(changed)}"
            )
