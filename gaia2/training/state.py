"""All that a training needs to go on where it was: weights, optimizer, learning rate, averages and step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from gaia2.training.checkpoint import load_checkpoint, save_checkpoint


@dataclass
class TrainingState:
    """The parts of a training that change from step to step.

    Attributes:
        model: The model that is trained.
        optimizer: Its optimizer.
        schedule: The optimizer's learning rates.
        ema: The average of the model's weights.

    Example:
        >>> import tempfile
        >>> model = nn.Linear(2, 2)
        >>> optimizer = torch.optim.AdamW(model.parameters())
        >>> schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
        >>> state = TrainingState(model, optimizer, schedule, EMAModel(model.parameters()))
        >>> checkpoint = Path(tempfile.mkdtemp()) / "training.pt"
        >>> state.resume(checkpoint)
        0
        >>> state.save(checkpoint, step=7)
        >>> state.resume(checkpoint)
        7
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    ema: EMAModel

    def save(self, path: str | Path, step: int) -> None:
        """Write everything, with the number of steps that are done."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        save_checkpoint(path, {"step": step, **parts})

    def resume(self, path: str | Path, device: str | torch.device = "cpu") -> int:
        """Take up what `save` wrote, if there is such a file; gives the number of steps that are done."""
        if not Path(path).is_file():
            return 0
        saved = load_checkpoint(path, map_location=device)
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        return saved["step"]

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has its averaged weights."""
        self.ema.store(self.model.parameters())
        self.ema.copy_to(self.model.parameters())
        try:
            yield
        finally:
            self.ema.restore(self.model.parameters())

    def _parts(self) -> dict[str, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler | EMAModel]:
        return {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule, "ema": self.ema}
