"""The distribution of flow times in training (paper §2.2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from gaia2._checks import real_number, whole_number


@dataclass(frozen=True)
class BimodalLogitNormal:
    """Two logit-normal modes: most samples at low-to-moderate noise, some at nearly pure noise (paper §2.2.4).

    Attributes:
        mean: Mean of the logit of the primary mode.
        std: Its standard deviation.
        secondary_mean: Mean of the logit of the secondary mode, near `tau = 0`.
        secondary_std: Its standard deviation.
        secondary_probability: Share of the samples that come from the secondary mode, in [0, 1].

    Example:
        >>> tau = BimodalLogitNormal().sample(4, generator=torch.Generator().manual_seed(0))
        >>> tau.shape, bool(((0 < tau) & (tau < 1)).all())
        (torch.Size([4]), True)
    """

    mean: float = 0.5
    std: float = 1.4
    secondary_mean: float = -3.0
    secondary_std: float = 1.0
    secondary_probability: float = 0.2

    def __post_init__(self) -> None:
        for name in ("mean", "secondary_mean"):
            real_number(name, getattr(self, name), -1000, 1000, what="the logit of a flow time")
        for name in ("std", "secondary_std"):
            real_number(name, getattr(self, name), 0, 1000, what="a standard deviation")
        real_number("secondary_probability", self.secondary_probability, 0, 1, what="a share")

    def sample(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """Draw flow times `(b,)` in (0, 1), float32."""
        whole_number("batch_size", batch_size, 0, 10_000_000)
        normal = torch.randn(batch_size, generator=generator, device=device)
        secondary = torch.rand(batch_size, generator=generator, device=device) < self.secondary_probability
        logit = torch.where(secondary, self.secondary_mean + self.secondary_std * normal, self.mean + self.std * normal)
        return logit.sigmoid()
