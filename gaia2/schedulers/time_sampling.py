"""The distribution of flow times in training (paper §2.2.4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch


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
        if not 0 <= self.secondary_probability <= 1:
            raise ValueError(f"secondary_probability: expected a value in [0, 1], got {self.secondary_probability}")

    def sample(
        self,
        batch_size: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """Draw flow times `(b,)` in (0, 1), float32."""
        normal = torch.randn(batch_size, generator=generator, device=device)
        secondary = torch.rand(batch_size, generator=generator, device=device) < self.secondary_probability
        logit = torch.where(secondary, self.secondary_mean + self.secondary_std * normal, self.mean + self.std * normal)
        return logit.sigmoid()
