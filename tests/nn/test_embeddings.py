from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.nn.embeddings import (
    FourierFeatures,
    TimestepEmbedder,
    full_precision,
    learned_null,
    sinusoidal_embedding,
    spatial_position_embedding,
)


@settings(max_examples=30, deadline=None)
@given(position=st.floats(-1000, 1000), half=st.integers(1, 8), period=st.floats(10, 1e5))
def test_sinusoid_matches_the_formula(position: float, half: int, period: float) -> None:
    got = sinusoidal_embedding(torch.tensor([position], dtype=torch.float64), 2 * half, period)[0]
    angles = [position * period ** (-i / half) for i in range(half)]
    expected = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    torch.testing.assert_close(got, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_sinusoid_keeps_leading_axes_and_computes_in_float32() -> None:
    positions = torch.arange(6).reshape(2, 3)
    got = sinusoidal_embedding(positions, 4)
    assert got.shape == (2, 3, 4)
    assert got.dtype == torch.float32
    assert torch.equal(sinusoidal_embedding(positions.bfloat16(), 4), got)


def test_spatial_position_is_row_then_column_and_extends() -> None:
    grid = spatial_position_embedding(14, 30, 16, dtype=torch.float64)
    axis = sinusoidal_embedding(torch.arange(30, dtype=torch.float64), 8)
    for row, column in ((0, 0), (13, 2), (5, 29)):
        torch.testing.assert_close(grid[row, column], torch.cat([axis[row], axis[column]]))
    assert torch.equal(spatial_position_embedding(40, 60, 16, dtype=torch.float64)[:14, :30], grid)
    assert len(grid.flatten(0, 1).unique(dim=0)) == 14 * 30


def test_fourier_features_are_octaves() -> None:
    values = torch.tensor([-1.0, -0.3, 0.0, 0.7, 1.0], dtype=torch.float64)
    features = FourierFeatures(num_frequencies=4)(values)
    expected = torch.cat(
        [values[:, None]] + [f(2**i * math.pi * values)[:, None] for f in (torch.sin, torch.cos) for i in range(4)], 1
    )
    torch.testing.assert_close(features, expected, atol=1e-12, rtol=0)
    assert FourierFeatures(num_frequencies=4, include_input=False)(values).shape == (5, 8)
    assert FourierFeatures(num_frequencies=0).out_dim == 1


def test_timestep_embedder_is_an_mlp_on_the_scaled_sinusoid() -> None:
    embedder = TimestepEmbedder(dim=8, frequency_dim=16).double()
    tau = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    first, last = embedder.mlp[0], embedder.mlp[2]
    hidden = sinusoidal_embedding(1000 * tau, 16) @ first.weight.T + first.bias
    expected = hidden * torch.sigmoid(hidden) @ last.weight.T + last.bias
    torch.testing.assert_close(embedder(tau), expected)


def test_timestep_embedder_in_half_precision_tells_close_times_apart() -> None:
    embedder = TimestepEmbedder(dim=64).bfloat16()
    close = embedder(torch.tensor([0.5, 0.5005]))
    assert close.dtype == torch.bfloat16
    assert not torch.equal(close[0], close[1])


def test_paper_size_of_the_timestep_embedder() -> None:
    with torch.device("meta"):
        embedder = TimestepEmbedder(dim=4096)
    assert sum(p.numel() for p in embedder.parameters()) == 256 * 4096 + 4096 + 4096**2 + 4096


@pytest.mark.parametrize("dim", [0, 3, -2])
def test_sinusoid_refuses_odd_widths(dim: int) -> None:
    with pytest.raises(ValueError, match=rf"dim: expected a positive even number of channels, got {dim}"):
        sinusoidal_embedding(torch.zeros(1), dim)


def test_spatial_position_refuses_bad_sizes() -> None:
    with pytest.raises(ValueError, match="dim: expected a positive multiple of 4, got 6"):
        spatial_position_embedding(2, 3, 6)
    with pytest.raises(ValueError, match="height: expected a whole number from 1 to 65536, got 0; rows of the grid"):
        spatial_position_embedding(0, 3, 8)


def test_fourier_features_refuse_no_channels() -> None:
    with pytest.raises(ValueError, match="num_frequencies: expected at least 1, got 0"):
        FourierFeatures(num_frequencies=0, include_input=False)


def test_a_stand_in_has_the_scale_of_a_small_encoder_and_is_learned() -> None:
    torch.manual_seed(0)
    null = learned_null(100, 100)
    assert null.requires_grad
    assert null.std().item() == pytest.approx(0.2, rel=0.03)
    assert null.mean().item() == pytest.approx(0.0, abs=0.01)


def test_what_the_encodings_are_by_default() -> None:
    position = torch.tensor([3.0], dtype=torch.float64)
    assert torch.equal(sinusoidal_embedding(position, 6), sinusoidal_embedding(position, 6, max_period=10_000))
    assert FourierFeatures().out_dim == FourierFeatures()(position).shape[-1] == 21
    assert spatial_position_embedding(2, 3, 8).dtype == torch.float32
    assert spatial_position_embedding(2, 3, 8, dtype=torch.bfloat16).dtype == torch.bfloat16


def test_numbers_that_need_their_digits_become_float32() -> None:
    assert full_precision(torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert full_precision(torch.zeros(2, dtype=torch.int64)).dtype == torch.float32
    values = torch.zeros(2, dtype=torch.float64)
    assert full_precision(values) is values


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: sinusoidal_embedding(torch.zeros(1), 4, max_period=1.0), "max_period: expected a number above 1"),
        (lambda: sinusoidal_embedding(torch.zeros(1), 2.0), "dim: expected a whole number"),
        (lambda: sinusoidal_embedding(torch.zeros(1), 2**20 + 2), "dim: expected a whole number"),
        (lambda: sinusoidal_embedding([1.0], 4), "positions: expected real numbers as a torch.Tensor"),
        (lambda: sinusoidal_embedding(torch.ones(1).bool(), 4), "positions: expected real numbers as a torch.Tensor"),
        (lambda: FourierFeatures()(torch.zeros(1).cfloat()), "values: expected real numbers as a torch.Tensor"),
        (lambda: TimestepEmbedder(dim=4)(0.5), "tau: expected real numbers as a torch.Tensor"),
        (lambda: FourierFeatures(num_frequencies=-1), "num_frequencies: expected at least 1, got -1"),
        (lambda: FourierFeatures(num_frequencies=65), "num_frequencies: expected a whole number of at most 64, got 65"),
        (lambda: TimestepEmbedder(dim=4, frequency_dim=7), "frequency_dim: expected an even number, got 7"),
        (lambda: TimestepEmbedder(dim=0), "dim: expected a whole number from 1"),
        (lambda: spatial_position_embedding(2, 3, 0), "dim: expected a positive multiple of 4, got 0"),
        (lambda: spatial_position_embedding(2, 65_537, 4), "width: expected a whole number from 1 to 65536, got 65537"),
        (lambda: spatial_position_embedding(2, 3, 4.0), "dim: expected a whole number"),
    ],
)
def test_what_cannot_be_encoded_is_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()
