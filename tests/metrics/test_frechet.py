"""The Fréchet distance against closed forms, torchmetrics, and itself in parts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.metrics.frechet import FrechetStatistics, frechet_distance


def samples(mean: torch.Tensor, covariance: torch.Tensor, count: int, seed: int = 0) -> torch.Tensor:
    """Features whose mean and unbiased covariance are exactly these."""
    raw = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    raw = raw - raw.mean(dim=0)
    white = raw @ torch.linalg.inv(torch.linalg.cholesky(raw.T @ raw / (count - 1))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def random_covariance(d: int, seed: int) -> torch.Tensor:
    a = torch.randn(d, d + 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return a @ a.T / d


def test_known_gaussians() -> None:
    # for diagonal covariances the distance is |m1 - m2|^2 + sum (s1 - s2)^2
    m1, m2 = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.0, 3.0, 0.5]).double()
    s1, s2 = torch.tensor([1.0, 0.2, 3.0]).double(), torch.tensor([0.5, 2.0, 3.0]).double()
    got = frechet_distance(samples(m1, s1.square().diag(), 50), samples(m2, s2.square().diag(), 70, seed=1))
    want = float((m1 - m2).square().sum() + (s1 - s2).square().sum())
    assert math.isclose(got, want, rel_tol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_root_of_the_product(seed: int) -> None:
    """Against tr (C1 C2)^(1/2) by the eigenvalues of the product, which are real and not negative."""
    c1, c2 = random_covariance(6, seed), random_covariance(6, seed + 10)
    zero = torch.zeros(6, dtype=torch.float64)
    root = torch.linalg.eigvals(c1 @ c2).sqrt().real.sum()
    want = float(c1.trace() + c2.trace() - 2 * root)
    got = frechet_distance(samples(zero, c1, 40, seed), samples(zero, c2, 40, seed + 1))
    assert math.isclose(got, want, rel_tol=1e-6)


def test_agrees_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    a = torch.randn(300, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    b = 1.3 * torch.randn(200, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.2
    want = float(fid._compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov()))
    assert math.isclose(frechet_distance(a, b), want, rel_tol=1e-4)


def test_zero_for_identical_sets_of_any_rank() -> None:
    features = torch.randn(5, 40)  # rank 4 of 40
    assert frechet_distance(features, features.clone()) < 1e-9 * float(features.square().sum())


def test_rank_deficient_sets_in_different_planes() -> None:
    # variance 1 along x against variance 4 along y: nothing in common, so the roots' product is 0
    one = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]) / 2**0.5
    two = torch.tensor([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]]) / 2**0.5
    assert math.isclose(frechet_distance(one, two), 5.0, rel_tol=1e-6)


@pytest.mark.parametrize("counts", [(3, 5), (8, 40), (40, 41)])
def test_features_as_they_are_equal_their_statistics(counts: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    shape = torch.randn(12, 12, generator=generator).double()
    sets = [torch.randn(count, 12, generator=generator).double() @ shape for count in counts]
    whole = frechet_distance(*(FrechetStatistics.of(features) for features in sets))
    assert math.isclose(frechet_distance(*sets), whole, rel_tol=1e-9)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 59), max_size=5), offset=st.floats(-1e3, 1e3))
def test_parts_add_up_to_one_pass(cuts: list[int], offset: float) -> None:
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + offset
    edges = [0, *sorted(set(cuts)), 60]
    parts = [FrechetStatistics.of(features[a:b]) for a, b in itertools.pairwise(edges)]
    total = parts[-1]
    for part in parts[:-1]:
        total = FrechetStatistics.from_state_dict(part.state_dict()) + total
    assert total.count == 60
    torch.testing.assert_close(total.mean, features.mean(0), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(total.covariance, features.T.cov(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FrechetStatistics.of(torch.zeros(3)), r"features: expected \(i, d\)"),
        (lambda: FrechetStatistics.of(torch.tensor([[math.nan]])), "finite"),
        (lambda: frechet_distance(torch.zeros(3, 2), torch.zeros(3, 4)), "same number in both sets, got 2 and 4"),
        (lambda: FrechetStatistics.of(torch.zeros(1, 2)) + FrechetStatistics.of(torch.zeros(1, 3)), "one extractor"),
        (lambda: frechet_distance(torch.zeros(1, 2), torch.zeros(3, 2)), "at least 2 samples"),
        (
            lambda: frechet_distance(torch.zeros(3, 4), torch.zeros(3, 4), min_samples=5),
            "at least 5 samples in each set, got 3 and 3; a covariance of 4 features has full rank from 5",
        ),
    ],
)
def test_bad_input(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
