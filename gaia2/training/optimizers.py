"""The optimizers of the recipes: AdamW as in the paper, or Muon, which trains small models in fewer steps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import filterfalse
from typing import Any, Literal

import torch
from torch import nn

from gaia2.training.muon import Muon, suits_muon

OptimizerName = Literal["adamw", "muon"]


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices and convolutions of a model, AdamW for everything else, behind one optimizer.

    Args:
        model: The model whose trainable parameters are optimized.
        learning_rate: Of AdamW, for biases, norms and narrow weights.
        matrix_learning_rate: Of Muon, see `suits_muon`.
        weight_decay: Of both.
        betas: Of AdamW.

    Example:
        >>> model = nn.Linear(16, 16)
        >>> optimizer = MuonAdamW(model, learning_rate=1e-3, matrix_learning_rate=1e-2, weight_decay=0.1)
        >>> model(torch.ones(1, 16)).sum().backward()
        >>> optimizer.step()
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.01, 0.001]
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        learning_rate: float,
        matrix_learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> None:
        trainable = [p for p in model.parameters() if p.requires_grad]
        matrices, others = filter(suits_muon, trainable), filterfalse(suits_muon, trainable)
        self.parts = (  # as groups, which may be empty
            Muon([{"params": list(matrices)}], lr=matrix_learning_rate, weight_decay=weight_decay),
            adamw([{"params": list(others)}], lr=learning_rate, betas=betas, weight_decay=weight_decay),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], defaults={})
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Step both; gives what `closure` gives, which is called first."""
        with torch.enable_grad():
            loss = None if closure is None else closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The state of both."""
        return {"muon": self.parts[0].state_dict(), "adamw": self.parts[1].state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the state of both."""
        for name, part in zip(("muon", "adamw"), self.parts, strict=True):
            part.load_state_dict(state_dict[name])
        self.param_groups = [group for part in self.parts for group in part.param_groups]


adamw = partial(torch.optim.AdamW, fused=True)
"""AdamW whose step is one call for all parameters."""


def make_optimizer(
    model: nn.Module,
    name: OptimizerName,
    *,
    learning_rate: float,
    matrix_learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
) -> torch.optim.Optimizer:
    """Optimizer of a model's trainable parameters.

    Args:
        model: The model.
        name: "adamw" (paper §4) or "muon".
        learning_rate: Rate of AdamW.
        matrix_learning_rate: Rate of Muon, for weight matrices; unused with "adamw".
        weight_decay: Decay of all parameters.
        betas: Of AdamW (paper: 0.9 and 0.95 for the tokenizer, 0.9 and 0.99 for the world model).
    """
    if name == "adamw":
        trainable = [p for p in model.parameters() if p.requires_grad]
        return adamw([{"params": trainable}], lr=learning_rate, betas=betas, weight_decay=weight_decay)
    if name != "muon":
        raise ValueError(f"name: expected 'adamw' or 'muon', got {name!r}")
    return MuonAdamW(
        model,
        learning_rate=learning_rate,
        matrix_learning_rate=matrix_learning_rate,
        weight_decay=weight_decay,
        betas=betas,
    )


def parameter_states(optimizer: torch.optim.Optimizer) -> dict[torch.Tensor, dict[str, torch.Tensor]]:
    """The state of each parameter, made as the first step would make it where it is not there yet.

    Raises:
        ValueError: If the optimizer is not of this file or AdamW, so that its state is not known.
    """
    if isinstance(optimizer, MuonAdamW):
        return {key: value for part in optimizer.parts for key, value in parameter_states(part).items()}
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        state = optimizer.state[parameter]
        if state:
            continue
        if isinstance(optimizer, Muon):
            state["momentum"] = torch.zeros_like(parameter)
        elif type(optimizer) is torch.optim.AdamW:
            fused = optimizer.defaults["fused"] or optimizer.defaults["capturable"]
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device if fused else "cpu")
            state |= {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
        else:
            raise ValueError(f"optimizer: expected AdamW, Muon or MuonAdamW, got {type(optimizer).__name__}")
    return {p: optimizer.state[p] for group in optimizer.param_groups for p in group["params"]}
