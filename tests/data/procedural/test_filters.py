"""Area-averaged patterns against numerical averages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.procedural.filters import blobs, edge, pulse, stripe, wrap


def average(function, x: float, footprint: float) -> float:
    samples = x + footprint * ((np.arange(20_000) + 0.5) / 20_000 - 0.5)
    return float(function(samples).mean())


place = st.floats(-6, 6)
wide = st.floats(0.05, 4)


@settings(max_examples=50, deadline=None)
@given(place, wide)
def test_edge(x, footprint):
    expected = average(lambda v: v > 0, x, footprint)
    assert float(edge(torch.tensor(x), torch.tensor(footprint))) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(place, st.floats(0.05, 3), wide)
def test_stripe(x, width, footprint):
    expected = average(lambda v: np.abs(v) < width / 2, x, footprint)
    assert float(stripe(torch.tensor(x), width, torch.tensor(footprint))) == pytest.approx(expected, abs=1e-3)


@settings(max_examples=50, deadline=None)
@given(place, st.floats(0.05, 0.95), wide)
def test_pulse(x, duty, footprint):
    expected = average(lambda v: v - np.floor(v) < duty, x, footprint)
    assert float(pulse(torch.tensor(x), duty, torch.tensor(footprint))) == pytest.approx(expected, abs=2e-3)


def test_texture_fades_when_a_pixel_sees_many_waves():
    x, y = torch.rand(500) * 100, torch.rand(500) * 20
    waves = ((2.0, 1.5, 1.0), (3.1, -2.0, 1.0))
    sharp = blobs(x, y, torch.full_like(x, 0.05), torch.full_like(x, 0.05), waves)
    far = blobs(x, y, torch.full_like(x, 4.0), torch.full_like(x, 0.3), waves)
    assert float(sharp.std()) > 0.8
    assert float(far.std()) < 0.05 * float(sharp.std())


def test_wrap():
    x = torch.linspace(-500, 500, 301)
    wrapped = wrap(x, 216.0)
    assert float(wrapped.abs().max()) <= 108.001
    turns = (x - wrapped) / 216.0
    torch.testing.assert_close(turns, turns.round(), rtol=0, atol=1e-4)
