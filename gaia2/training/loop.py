"""The loop around the steps of a training: it resumes, logs, saves, and ends in good order."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tqdm import tqdm

from gaia2._checkpoint import save_checkpoint
from gaia2._files import replacing
from gaia2.training.learner import Learner
from gaia2.training.logging import ScalarLog
from gaia2.training.options import TrainingOptions
from gaia2.training.ranks import Ranks
from gaia2.training.run_checkpoints import Checkpoint, RunCheckpoints
from gaia2.training.sampling import step_generator


@dataclass
class TrainingLoop:
    """The numbers of the steps that are left, one after the other.

    It begins where the newest whole checkpoint ends, saves every `save_every` steps, and at SIGTERM or when the time is
    over it saves, says how to go on, and exits with status 0. A step whose loss or gradient is not finite
    (`is_spoilt`) sends it back to the last checkpoint; at the second time it ends with an explanation. What a step does
    has to be a function of its number, so that a run that was interrupted ends with the same weights.

    Attributes:
        title: Name of the training.
        options: Its options.
        learners: All that changes, by name.
        ranks: The processes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> options = TrainingOptions(out=Path(tempfile.mkdtemp()), steps=3, batch_size=1)
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> learner = Learner(torch.nn.ModuleDict({"model": model}), optimizer, rate=lambda done: 1.0)
        >>> loop = TrainingLoop("doctest", options, {"model": learner})
        >>> for step in loop:
        ...     loss = model(torch.ones(1, 1)).square().sum()
        ...     loss.backward()
        ...     if not loop.is_spoilt(step, loss=loss.item(), norm=learner.clip()):
        ...         _ = learner.step(step)
        >>> loop.checkpoints.newest().step
        3
    """

    title: str
    options: TrainingOptions
    learners: Mapping[str, Learner]
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self) -> None:
        options = self.options
        self.checkpoints = RunCheckpoints(
            options.out / "checkpoints", self.ranks, keep_last=options.keep_last, keep_every=options.keep_every
        )
        self.log: ScalarLog | None = None
        self.bar: tqdm | None = None
        self._resumed: int | None = None
        self._spoilt_at: int | None = None
        self._went_back = False
        self._stopping: str | None = None
        self._deadline = math.inf if options.minutes is None else time.monotonic() + 60 * options.minutes
        self._saved = -1

    def __iter__(self) -> Iterator[int]:
        step = self.resume()
        if self.ranks.is_main:
            with replacing(self.options.out / "recipe.json") as unfinished:
                unfinished.write_text(json.dumps(self.options.to_json(), indent=2))
        self.bar = tqdm(desc=self.title, initial=step, total=self.options.steps, disable=not self.ranks.is_main)
        with _sigterm_asks(self), self.bar:
            while step < self.options.steps:
                if self.ranks.any(self._should_stop()):
                    self._stop(step)
                torch.manual_seed(int(torch.randint(2**62, (), generator=step_generator(self.options.seed, step + 1))))
                yield step + 1
                if self._spoilt_at is not None:
                    step = self._go_back()
                    continue
                step += 1
                self.bar.update()
                if step % self.options.save_every == 0 or step == self.options.steps:
                    self._save(step)
            self.checkpoints.finish()

    def resume(self) -> int:
        """Take up the newest whole checkpoint, if there is one; gives the steps that are done. Iterating does so too.

        Raises:
            ValueError: If it is of another training, or was begun with other options.
        """
        if self._resumed is not None:
            return self._resumed
        newest = self.checkpoints.newest()
        self._resumed = 0
        if newest is not None:
            self._check_learners(newest)
            self.options.check_unchanged(newest.facts["options"], newest.path)
            self._resumed = self._take_up(newest)
        self._open_log(self._resumed)
        if newest is not None:
            self.say(f"{self.title}: goes on after step {newest.step}, from {newest.path}")
        return self._resumed

    def is_due(self, step: int, every: int) -> bool:
        """Whether something that is done every so many steps, and at the end, is done after this one."""
        return step % every == 0 or step == self.options.steps

    def is_spoilt(
        self, step: int, *, loss: float, norm: float, batch: Mapping[str, torch.Tensor] | None = None
    ) -> bool:
        """Whether a loss or a gradient is not finite; then the step must not be taken, and the loop goes back.

        Args:
            step: The step.
            loss: Its loss.
            norm: The norm of its gradient, the same in all ranks.
            batch: What it was computed from; written to the folder `spoilt`.
        """
        if not self.ranks.any(not (math.isfinite(loss) and math.isfinite(norm))):
            return False
        self._spoilt_at = step
        names = {name: learner.not_finite() for name, learner in self.learners.items()}
        self._trace = self.options.out / "spoilt" / f"step-{step:09d}-rank-{self.ranks.rank}.pt"
        facts = {"step": step, "seed": self.options.seed, "loss": loss, "norm": norm, "gradients": names}
        save_checkpoint(self._trace, {**facts, "batch": {k: v.detach().cpu() for k, v in (batch or {}).items()}})
        return True

    def write(self, step: int, scalars: Mapping[str, float], *, shown: Mapping[str, float] | None = None) -> None:
        """Log scalars.

        Args:
            step: The step.
            scalars: For the log, TensorBoard, and the progress bar.
            shown: Figures of the machine, for TensorBoard only: the log is the same in every run.
        """
        if self.log is not None:
            self.log.write(step, dict(scalars), shown=shown)

    def say(self, text: str) -> None:
        """Print a line, in one rank, above the progress bar."""
        if self.ranks.is_main:
            tqdm.write(text)

    def _check_learners(self, checkpoint: Checkpoint) -> None:
        saved = checkpoint.facts["learners"]
        if saved.keys() != self.learners.keys():
            raise ValueError(
                f"{checkpoint.path}: expected a checkpoint of this training, with {', '.join(sorted(self.learners))}, "
                f"got one with {', '.join(sorted(saved))}; give each training a folder of its own"
            )

    def _take_up(self, checkpoint: Checkpoint) -> int:
        saved = checkpoint.facts["learners"]
        for name, learner in self.learners.items():
            difference = learner.differences(saved[name])
            if difference is not None:
                raise ValueError(
                    f"{checkpoint.path}: {difference}; go on with the options that it was begun with, or give another "
                    "folder"
                )
        self.checkpoints.load(checkpoint, self._tensors())
        self._saved = checkpoint.step
        for name, learner in self.learners.items():
            learner.take_up(saved[name])
        return checkpoint.step

    def _open_log(self, step: int) -> None:
        if self.ranks.is_main:
            self.log = ScalarLog(self.options.out, start=step)

    def _tensors(self) -> dict[str, torch.Tensor]:
        parts = {name: learner.tensors() for name, learner in self.learners.items()}
        return {f"{name}/{key}": value for name, part in parts.items() for key, value in part.items()}

    def _save(self, step: int) -> None:
        facts = {name: learner.facts() for name, learner in self.learners.items()}
        self.checkpoints.save(step, self._tensors(), {"options": self.options.to_json(), "learners": facts})
        self._saved = step

    def _should_stop(self) -> bool:
        if self._stopping is None and time.monotonic() > self._deadline:
            self._stopping = f"the {self.options.minutes:g} minutes are over"
        return self._stopping is not None

    def _stop(self, step: int) -> None:
        if step and step != self._saved:
            self._save(step)
        self.checkpoints.finish()
        reason = self._stopping or "another rank was told to stop"
        self.say(
            f"{self.title}: {reason}; {step} of {self.options.steps} steps are done and saved in {self.options.out}. "
            "Start it again with the same words to go on"
        )
        raise SystemExit(0)

    def _go_back(self) -> int:
        at, self._spoilt_at = self._spoilt_at, None
        self.checkpoints.finish()
        newest = None if self._went_back else self.checkpoints.newest()
        where = f"step {at}: the loss or its gradient is not finite; the batch, and the names of what is not, are in "
        where += f"{self._trace}"
        if newest is None:
            again = "after going back to the last checkpoint once" if self._went_back else "before the first checkpoint"
            raise RuntimeError(
                f"{where}. It ends here, {again}. Look at that batch; a smaller learning rate, --precision fp32 or "
                "data without the example may mend it. Checkpoints are as they were"
            )
        self._went_back = True
        self.say(f"{where}. Back to the checkpoint of step {newest.step}, once")
        step = self._take_up(newest)
        self._open_log(step)
        if self.bar is not None:
            self.bar.n = step
        return step


def samples_sum(names: Sequence[object], ranks: Ranks) -> int:
    """A number for the log that says which samples a step has seen, in all ranks, in whatever order.

    Example:
        >>> samples_sum(["a", "b"], Ranks()) == samples_sum(["b", "a"], Ranks()) != samples_sum(["a", "c"], Ranks())
        True
    """
    return int(ranks.sum(float(sum(zlib.crc32(repr(name).encode()) for name in names)))[0])


@contextmanager
def _sigterm_asks(loop: TrainingLoop) -> Iterator[None]:
    """Within the block, SIGTERM asks a loop to stop after the step; in the main thread, where signals arrive."""

    def ask(number: int, frame: Any) -> None:
        loop._stopping = "it was told to stop (SIGTERM)"

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
