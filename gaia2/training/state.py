"""All that a training needs to go on where it was: weights, optimizers, learning rates, averages, step and chance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.training_utils import EMAModel
from torch import nn

from gaia2.training.checkpoint import load_checkpoint, save_checkpoint


class Stateful(Protocol):
    """Anything with a state that can be saved and taken up again."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any: ...  # noqa: D102


@dataclass
class TrainingState:
    """The parts of a training that change from step to step.

    Which examples a step sees is a function of the step (see `SeededBatches`), so the step is the data's position too.

    Attributes:
        model: The model that is trained.
        optimizer: Its optimizer.
        schedule: The optimizer's learning rates.
        ema: The average of the model's weights.
        others: Further parts by name, for example a discriminator and its optimizer.

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
    others: Mapping[str, Stateful] = field(default_factory=dict)

    def save(self, path: str | Path, step: int) -> None:
        """Write everything, with the number of steps that are done."""
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        random = {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}
        save_checkpoint(path, {"step": step, "configs": self._configs(), "random": random, **parts})

    def resume(self, path: str | Path, device: str | torch.device = "cpu") -> int:
        """Take up what `save` wrote, if there is such a file; gives the number of steps that are done.

        Raises:
            ValueError: If the file is damaged, of another recipe, or of models with another config. Nothing has been
                taken up or written then.
        """
        if not Path(path).is_file():
            return 0
        saved = load_checkpoint(path, map_location=device)
        self._check(path, saved)
        for name, part in self._parts().items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"]["cpu"].cpu())
        if len(saved["random"]["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in saved["random"]["cuda"]])
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

    def _parts(self) -> dict[str, Stateful]:
        own: dict[str, Stateful] = {
            "model": self.model,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "ema": self.ema,
        }
        return {**own, **self.others}

    def _configs(self) -> dict[str, dict[str, Any]]:
        """Class and arguments of each part that has a config, as JSON values."""
        configs = {}
        for name, part in self._parts().items():
            if hasattr(part, "config"):
                given = {key: value for key, value in part.config.items() if not key.startswith("_")}
                configs[name] = json.loads(json.dumps({"class": type(part).__name__, **given}))
        return configs

    def _check(self, path: str | Path, saved: dict[str, Any]) -> None:
        expected = {"step", "configs", "random", *self._parts()}
        if saved.keys() != expected:
            raise ValueError(
                f"{path}: expected a checkpoint of this training, with {', '.join(sorted(expected))}, got one with "
                f"{', '.join(sorted(saved))}; give each training a folder of its own"
            )
        for name, own in self._configs().items():
            other = saved["configs"].get(name, {})
            keys = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
            if keys:
                wanted, got = (", ".join(f"{key}={c.get(key)!r}" for key in keys) for c in (own, other))
                raise ValueError(
                    f"{path}: expected a checkpoint of a {name} with {wanted}, got one with {got}; go on with the "
                    "options that it was begun with, or give another folder"
                )
