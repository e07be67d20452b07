"""Seeded random numbers: independent of batch and order, uniform, and weighted as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.procedural.hashing import choose, uniform

MASK = (1 << 64) - 1


def splitmix(x: int) -> int:
    """SplitMix64's finaliser in Python's unbounded integers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def test_matches_unbounded_integers():
    import zlib

    gamma, seed, stream = 0x9E3779B97F4A7C15, 12345, "trees"
    start = splitmix((seed * gamma + zlib.crc32(stream.encode())) & MASK)
    expected = [(splitmix((start + (i + 1) * gamma) & MASK) >> 40) * 2.0**-24 for i in range(5)]
    assert uniform(torch.tensor([seed]), stream, 5)[0].tolist() == expected


def test_a_seed_gives_the_same_numbers_in_any_batch():
    seeds = torch.tensor([5, -3, 2**40, 0])
    together = uniform(seeds, "a", 7)
    alone = torch.cat([uniform(seeds[i : i + 1], "a", 7) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    torch.testing.assert_close(uniform(seeds, "a", 3), together[:, :3], rtol=0, atol=0)


def test_uniform_and_uncorrelated_across_seeds_and_streams():
    a, b = uniform(torch.arange(20_000), "a", 2), uniform(torch.arange(20_000), "b", 1)
    counts = np.histogram(a[:, 0].numpy(), bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 45  # chi square, 19 degrees of freedom, p > 0.0005
    table = np.corrcoef(torch.cat([a, b], dim=1).numpy().T)
    assert np.abs(table - np.eye(3)).max() < 0.03
    assert abs(np.corrcoef(a[1:, 0], a[:-1, 0])[0, 1]) < 0.03
    assert float(a.min()) >= 0
    assert float(a.max()) < 1


def test_choose_follows_the_weights():
    weights = (0.5, 0.0, 0.2, 0.3)
    index = choose((torch.arange(1000) + 0.5) / 1000, weights)
    assert torch.bincount(index, minlength=4).tolist() == pytest.approx([500, 0, 200, 300], abs=1)
    assert choose(torch.tensor([0.9999999]), (1.0, 1.0, 0.0)).tolist() == [1]
