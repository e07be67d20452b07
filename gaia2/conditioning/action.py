"""Ego action: speed and curvature, compressed by symlog and embedded (paper §2.2.3, Action)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gaia2._checks import real_number
from gaia2.conditioning.condition import Condition, Conditioning, Key, LatentTimes
from gaia2.nn.embeddings import full_precision, learned_null
from gaia2.nn.shapes import check_axes, check_last_axis
from gaia2.scene import Scene

SPEED_SCALE, SPEED_MAX = 3.6, 75.0
"""Symlog scale (m/s to km/h) and largest value in m/s."""

CURVATURE_SCALE, CURVATURE_MAX = 1000.0, 0.1
"""Symlog scale and largest value in 1/m."""


def symlog(y: torch.Tensor, scale: float, max_value: float) -> torch.Tensor:
    """Compress values of many magnitudes: `sign(y) log(1 + s |y|) / log(1 + s |y_max|)` (paper §2.2.3).

    Args:
        y: Values `(...)`.
        scale: `s`, positive; larger values stretch the small magnitudes.
        max_value: `y_max`, which maps to 1. Values beyond it are not clamped.

    Returns:
        `(...)`, in [-1, 1] for values up to `max_value`.

    Raises:
        ValueError: If `scale` or `max_value` is not positive.

    Example:
        >>> symlog(torch.tensor([-75.0, 0.0, 75.0]), 3.6, 75.0).tolist()
        [-1.0, 0.0, 1.0]
    """
    check_last_axis("y", y, rank=0)
    limit = _log_max(scale, max_value)
    return torch.sign(y) * torch.log1p(scale * y.abs()) / limit


def inverse_symlog(z: torch.Tensor, scale: float, max_value: float) -> torch.Tensor:
    """Undo `symlog`.

    Args:
        z: Compressed values `(...)`.
        scale: As for `symlog`.
        max_value: As for `symlog`.

    Returns:
        `(...)`, in the units of `max_value`.

    Raises:
        ValueError: If `scale` or `max_value` is not positive.

    Example:
        >>> round(inverse_symlog(torch.tensor(1.0), 1000.0, 0.1).item(), 4)
        0.1
    """
    check_last_axis("z", z, rank=0)
    return torch.sign(z) * torch.expm1(z.abs() * _log_max(scale, max_value)) / scale


def _log_max(scale: float, max_value: float) -> float:
    for name, value in (("scale", scale), ("max_value", max_value)):
        real_number(name, value, above=0, what="a positive number")
    return math.log1p(scale * max_value)


class ScalarLinear(nn.Module):
    """`nn.Linear(1, dim)`, weights and all, but not by type: quantizers cannot split a weight of one column.

    Args:
        dim: Channels.

    Example:
        >>> ScalarLinear(8)(torch.randn(2, 3, 1)).shape
        torch.Size([2, 3, 8])
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        like = nn.Linear(1, dim)
        self.weight, self.bias = like.weight, like.bias

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Map `(..., 1)` to `(..., c)`."""
        return functional.linear(values, self.weight, self.bias)


class ActionEncoder(nn.Module):
    """Embed speed and curvature (paper §2.2.3, Action): each through symlog and its own small MLP, then summed.

    An absent value, NaN, becomes the learned null of its own kind; standing still is data, not absence.

    Args:
        dim: Channels of the embedding.

    Example:
        >>> encoder = ActionEncoder(dim=8)
        >>> encoder(torch.tensor([[0.0, 12.5]]), torch.tensor([[float("nan"), -0.01]])).shape
        torch.Size([1, 2, 8])
    """

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.speed = nn.Sequential(ScalarLinear(dim), nn.SiLU(), nn.Linear(dim, dim))
        self.curvature = nn.Sequential(ScalarLinear(dim), nn.SiLU(), nn.Linear(dim, dim))
        self.speed_null = learned_null(dim)
        self.curvature_null = learned_null(dim)

    def forward(self, speed: torch.Tensor, curvature: torch.Tensor) -> torch.Tensor:
        """Embed the action of each latent time.

        Args:
            speed: `(b, t)` m/s; NaN where absent.
            curvature: `(b, t)` 1/m, positive for a left turn; NaN where absent.

        Returns:
            `(b, t, c)`.

        Raises:
            ValueError: If the two are not `(b, t)` of one size.
        """
        check_axes("speed", speed, "b t")
        check_axes("curvature", curvature, "b t", b=speed.shape[0], t=speed.shape[1])
        return self._embed(speed, SPEED_SCALE, SPEED_MAX, self.speed, self.speed_null) + self._embed(
            curvature, CURVATURE_SCALE, CURVATURE_MAX, self.curvature, self.curvature_null
        )

    @staticmethod
    def _embed(
        values: torch.Tensor, scale: float, max_value: float, mlp: nn.Module, null: torch.Tensor
    ) -> torch.Tensor:
        absent = values.isnan()
        compressed = symlog(full_precision(values.masked_fill(absent, 0.0)), scale, max_value)
        return torch.where(absent[..., None], null, mlp(compressed[..., None].to(null.dtype)))


class ActionCondition(Condition):
    """Speed and curvature of the ego vehicle, a number for each latent time."""

    name = "action"
    enters = "modulation"

    @cached_property
    def keys(self) -> Mapping[str, Key]:
        """`speed (b, t)` in m/s and `curvature (b, t)` in 1/m, positive to the left."""
        return {"speed": Key("b t"), "curvature": Key("b t")}

    def make_encoder(self, dim: int) -> ActionEncoder:
        """An `ActionEncoder`."""
        return ActionEncoder(dim=dim)

    def collate(self, scenes: Sequence[Scene], times: LatentTimes) -> Conditioning:
        """The mean over the frames of each latent, absent ones left out."""
        return {key: times.mean([getattr(scene, key) for scene in scenes]) for key in self.keys}

    def check_scene(self, scene: Scene) -> None:
        """Any speed and curvature will do."""

    def said_by(self, scene: Scene) -> Iterator[str]:
        """Those that are there in any frame."""
        return (key for key in self.keys if not np.isnan(getattr(scene, key)).all())
