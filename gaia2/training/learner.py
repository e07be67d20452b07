"""A model in training: its optimizer, its learning rate as a function of the step, the average of its weights."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from diffusers.configuration_utils import ConfigMixin
from torch import nn
from torch.distributed.tensor import DTensor

from gaia2.training.average import WeightAverage
from gaia2.training.optimizers import parameter_states

LEARNT = ("trained_conditions", "trained_range")
"""Entries of a config that training writes: they come from the checkpoint, and need not be the same."""


@dataclass
class Learner:
    """All of a training that changes from step to step, for one optimizer.

    Attributes:
        modules: What is trained, by name; `model` is the one that is averaged and exported.
        optimizer: Of all their trainable parameters. Each group's rate at the beginning is its base rate.
        rate: From the steps that are done to the factor of the base rates.
        max_grad_norm: Gradients are clipped to this norm.
        average: Of the weights of `model`, or None.
        base: What the weights that are not trained were read from, for example their hash: they stay out of the
            checkpoints, and a run goes on with the same only. None keeps them in the checkpoints.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> optimizer = torch.optim.AdamW(model.parameters(), lr=0.5)
        >>> learner = Learner(nn.ModuleDict({"model": model}), optimizer, rate=lambda done: 1 / (1 + done))
        >>> model(torch.ones(1, 2)).sum().backward()
        >>> norm = learner.clip()
        >>> learner.step(2)
        0.25
    """

    modules: nn.ModuleDict
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    max_grad_norm: float = 1.0
    average: WeightAverage | None = None
    base: str | None = None
    base_rates: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.base_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.names: dict[torch.Tensor, str] = {value: name for name, value in self.modules.named_parameters()}
        self.parameters = [p for group in self.optimizer.param_groups for p in group["params"]]

    @property
    def model(self) -> nn.Module:
        """The model that is averaged and exported."""
        return self.modules["model"]

    def clip(self) -> float:
        """Clip the gradients, over all ranks; gives their norm before."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    def step(self, step: int) -> float:
        """Take training step `step`, counted from 1; gives the learning rate of the last group."""
        factor = self.rate(step - 1)
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = base * factor
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.step()
        return self.optimizer.param_groups[-1]["lr"]

    def not_finite(self) -> list[str]:
        """Names of the parameters whose gradients are not finite in this rank."""
        named = {self.names[p]: p.grad for p in self.parameters if p.grad is not None}
        local = {name: grad.to_local() if isinstance(grad, DTensor) else grad for name, grad in named.items()}
        return [name for name, grad in local.items() if not bool(grad.isfinite().all())]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything to be saved, by name: weights and buffers, averaged weights, and the optimizer's state.

        The tensors are the training's own: what is copied into them is taken up. A model that is not trained in part
        keeps those weights too, so that a checkpoint is whole, unless they come from `base`.
        """
        trained = {name for name, value in self.modules.named_parameters() if value.requires_grad}
        kept = self.modules.state_dict().items()
        state = {f"weights/{name}": value for name, value in kept if self.base is None or name in trained}
        if self.average is not None:
            state |= {f"average/{name}": value for name, value in self.average.weights.items()}
        for parameter, values in parameter_states(self.optimizer).items():
            state |= {f"optimizer/{self.names[parameter]}/{key}": value for key, value in values.items()}
        return state

    def facts(self) -> dict[str, Any]:
        """What else is to be saved, as JSON values."""
        steps = None if self.average is None else self.average.steps
        return {"averaged_steps": steps, "configs": self._configs(), "base": self.base}

    def take_up(self, facts: Mapping[str, Any]) -> None:
        """Go on with saved `facts`; the tensors have been copied in already."""
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.steps = facts["averaged_steps"]
        for name, module in self.modules.items():
            learnt = {key: value for key, value in facts["configs"].get(name, {}).items() if key in LEARNT}
            if learnt:
                cast("ConfigMixin", module).register_to_config(**learnt)

    def differences(self, facts: Mapping[str, Any]) -> str | None:
        """In what the configs of the modules, and what they begin from, differ from saved ones, in words, or None."""
        base = facts.get("base")
        if self.base != base:
            wanted, got = (
                "all weights" if one is None else f"what was trained beside the weights {one[:12]}"
                for one in (self.base, base)
            )
            return f"expected a checkpoint with {wanted}, got one with {got}"
        for name, own in self._configs().items():
            other = facts["configs"].get(name, {})
            keys = sorted(key for key in own.keys() | other.keys() if own.get(key) != other.get(key))
            keys = [key for key in keys if key not in LEARNT]
            if keys:
                wanted, got = (", ".join(f"{key}={c.get(key)!r}" for key in keys) for c in (own, other))
                return f"expected a checkpoint of a {name} with {wanted}, got one with {got}"
        return None

    def _configs(self) -> dict[str, dict[str, Any]]:
        """Class and arguments of each module that has a config, as JSON values."""
        configs = {}
        for name, module in self.modules.items():
            config: Any = getattr(module, "config", None)
            if config is not None:
                given = {key: value for key, value in config.items() if not key.startswith("_")}
                configs[name] = json.loads(json.dumps({"class": type(module).__name__.removeprefix("FSDP"), **given}))
        return configs
