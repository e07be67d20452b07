"""The Fréchet distance between two sets of features (Heusel et al. 2017), gathered in parts.

Axes: i samples, d features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch


@dataclass(frozen=True)
class FrechetStatistics:
    """Number, mean and scatter of features: all that the distance needs. Parts add up to the whole.

    Attributes:
        count: Samples.
        mean: `(d,)` float64.
        scatter: `(d, d)` float64, sum over the samples of the outer products of their deviation from the mean.

    Example:
        >>> features = torch.randn(100, 4)
        >>> parts = [FrechetStatistics.of(part) for part in features.split(30)]
        >>> whole = FrechetStatistics.of(features)
        >>> bool(torch.allclose(sum(parts[1:], parts[0]).covariance, whole.covariance))
        True
    """

    count: int
    mean: torch.Tensor
    scatter: torch.Tensor

    @classmethod
    def of(cls, features: torch.Tensor) -> FrechetStatistics:
        """Statistics of features `(i, d)`, at least one.

        Raises:
            ValueError: If the axes are others, there is no sample, or a feature is not finite.
        """
        values = _checked(features)
        mean = values.mean(dim=0)
        centred = values - mean
        return cls(len(values), mean, centred.T @ centred)

    def __add__(self, other: FrechetStatistics) -> FrechetStatistics:
        """Statistics of both sets together (Chan et al. 1979).

        Raises:
            ValueError: If they have different numbers of features.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"features: expected the same number in both parts, got {len(self.mean)} and {len(other.mean)}; use "
                "one extractor"
            )
        count = self.count + other.count
        apart = other.mean - self.mean
        mean = self.mean + apart * (other.count / count)
        scatter = self.scatter + other.scatter + torch.outer(apart, apart) * (self.count * other.count / count)
        return FrechetStatistics(count, mean, scatter)

    @property
    def covariance(self) -> torch.Tensor:
        """Unbiased covariance `(d, d)`.

        Raises:
            ValueError: If there is one sample only.
        """
        if self.count < 2:
            raise ValueError(f"features: expected at least 2 samples for a covariance, got {self.count}; add more")
        return self.scatter / (self.count - 1)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The statistics as tensors, to be saved or sent to another process."""
        return {"count": torch.tensor(self.count), "mean": self.mean, "scatter": self.scatter}

    @classmethod
    def from_state_dict(cls, state: dict[str, torch.Tensor]) -> FrechetStatistics:
        """What `state_dict` gave."""
        return cls(int(state["count"]), state["mean"], state["scatter"])


def frechet_distance(
    first: FrechetStatistics | torch.Tensor, second: FrechetStatistics | torch.Tensor, *, min_samples: int | None = None
) -> float:
    """Squared Fréchet distance of two Gaussians with the mean and the covariance of two sets of features.

    `|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`. With factors `C = F F^T` the trace of the root is the sum of the
    singular values of `F1^T F2`, which is real and stable for covariances of any rank.

    Args:
        first: Statistics, or features `(i, d)`; of fewer samples than features, the latter are faster.
        second: Likewise.
        min_samples: Samples that each set must have; by default 2. A covariance of d features has full rank from d + 1
            samples on; the distance of smaller sets is defined, but biased upwards.

    Raises:
        ValueError: If the sets have different numbers of features, or too few samples.

    Example:
        >>> a = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(a, a + 3.0), 6)
        18.0
    """
    one, two = _Gaussian.of(first), _Gaussian.of(second)
    if one.mean.shape != two.mean.shape:
        raise ValueError(
            f"features: expected the same number in both sets, got {len(one.mean)} and {len(two.mean)}; use one "
            "extractor"
        )
    needed = 2 if min_samples is None else max(2, min_samples)
    if min(one.count, two.count) < needed:
        raise ValueError(
            f"features: expected at least {needed} samples in each set, got {one.count} and {two.count}; a covariance "
            f"of {len(one.mean)} features has full rank from {len(one.mean) + 1} samples on"
        )
    factors = one.make_factor(), two.make_factor()
    both = torch.linalg.svdvals(factors[0].T @ factors[1]).sum()
    variances = sum(factor.square().sum() for factor in factors)
    return max(0.0, float((one.mean - two.mean).square().sum() + variances - 2 * both))


@dataclass(frozen=True)
class _Gaussian:
    """A set: its number, its mean `(d,)`, and a factor `(d, rank)` of its covariance, made when it is asked for."""

    count: int
    mean: torch.Tensor
    make_factor: Callable[[], torch.Tensor]

    @classmethod
    def of(cls, given: FrechetStatistics | torch.Tensor) -> _Gaussian:
        if isinstance(given, torch.Tensor):
            values = _checked(given)
            if len(values) <= values.shape[1]:  # few samples are a factor as they are
                mean = values.mean(dim=0)
                return cls(len(values), mean, lambda: (values - mean).T / (len(values) - 1) ** 0.5)
            given = FrechetStatistics.of(values)
        return cls(given.count, given.mean, partial(_factor, given))


def _factor(statistics: FrechetStatistics) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(statistics.covariance)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


def _checked(features: torch.Tensor) -> torch.Tensor:
    if features.ndim != 2 or not features.numel():
        raise ValueError(f"features: expected (i, d) with at least one sample, got {tuple(features.shape)}")
    values = features.detach().to("cpu", torch.float64)
    if not values.isfinite().all():
        raise ValueError("features: expected finite numbers, got NaN or infinity; look at the images they are of")
    return values
