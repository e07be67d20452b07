from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.losses.flow_matching import flow_matching_loss

SHAPE = (2, 3, 2, 2, 4, 5)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), known=st.booleans(), cameras=st.booleans())
def test_is_the_mean_over_the_tokens_that_count(seed: int, known: bool, cameras: bool) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    known_mask = rng.random(SHAPE[:-1]) < 0.5 if known else np.zeros(SHAPE[:-1], bool)
    camera_mask = rng.random(SHAPE[:1] + SHAPE[2:3]) < 0.7 if cameras else np.ones((2, 2), bool)
    counts = ~known_mask & camera_mask[:, None, :, None, None]
    errors = ((predicted.astype(float) - target) ** 2)[counts]
    got = flow_matching_loss(
        torch.tensor(predicted),
        torch.tensor(target),
        torch.tensor(known_mask) if known else None,
        torch.tensor(camera_mask) if cameras else None,
    )
    assert got.shape == ()
    assert float(got) == pytest.approx(errors.mean() if errors.size else 0.0, rel=1e-5)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_weights_make_it_a_weighted_mean(seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.normal(size=(2, *SHAPE))
    weight, known = rng.uniform(0.5, 4.0, SHAPE[:-1]), rng.random(SHAPE[:-1]) < 0.3
    expected = np.average(((predicted - target) ** 2).mean(axis=-1)[~known], weights=weight[~known])
    got = flow_matching_loss(*map(torch.tensor, (predicted, target, known)), weight=torch.tensor(weight))
    assert float(got) == pytest.approx(expected)


def test_tokens_that_do_not_count_have_no_gradient() -> None:
    predicted = torch.randn(SHAPE, requires_grad=True)
    known_mask, camera_mask = torch.rand(SHAPE[:-1]) < 0.5, torch.tensor([[True, False], [True, True]])
    flow_matching_loss(predicted, torch.zeros(SHAPE), known_mask, camera_mask).backward()
    counts = ~known_mask & camera_mask[:, None, :, None, None]
    assert torch.equal((predicted.grad != 0).any(dim=-1), counts)


def test_nothing_to_denoise() -> None:
    predicted = torch.randn(SHAPE, requires_grad=True)
    loss = flow_matching_loss(predicted, torch.zeros(SHAPE), torch.ones(SHAPE[:-1]).bool())
    loss.backward()
    assert loss.item() == 0
    assert (predicted.grad == 0).all()


def test_half_precision_is_compared_in_float32() -> None:
    predicted = torch.full(SHAPE, 300.0, dtype=torch.float16)  # its square overflows float16
    assert flow_matching_loss(predicted, torch.zeros(SHAPE)).item() == pytest.approx(90_000.0)


def test_double_precision_stays() -> None:
    predicted = torch.full(SHAPE, 1 + 1e-12, dtype=torch.float64)
    assert flow_matching_loss(predicted, torch.ones(SHAPE, dtype=torch.float64)).item() == pytest.approx(
        1e-24, rel=1e-3
    )


def test_nan_where_nothing_counts_does_no_harm() -> None:
    predicted, target = torch.randn(SHAPE, requires_grad=True), torch.zeros(SHAPE)
    known_mask, camera_mask = torch.rand(SHAPE[:-1]) < 0.5, torch.tensor([[True, False], [True, True]])
    broken = torch.where((known_mask | ~camera_mask[:, None, :, None, None])[..., None], torch.nan, target)
    loss = flow_matching_loss(predicted, broken, known_mask, camera_mask)
    assert torch.equal(loss, flow_matching_loss(predicted, target, known_mask, camera_mask))
    loss.backward()
    assert predicted.grad.isfinite().all()


def test_weights_of_which_none_counts_give_nothing() -> None:
    predicted = torch.randn(SHAPE, requires_grad=True)
    for weight, known in ((torch.zeros(SHAPE[:-1]), None), (torch.ones(SHAPE[:-1]), torch.ones(SHAPE[:-1]).bool())):
        loss = flow_matching_loss(predicted, torch.zeros(SHAPE), known, weight=weight)
        assert loss.item() == 0
        (gradient,) = torch.autograd.grad(loss, predicted)
        assert not gradient.any()


def test_small_weights_weigh_as_large_ones() -> None:
    predicted, weight = torch.randn(SHAPE), torch.rand(SHAPE[:-1]) + 0.5
    expected = flow_matching_loss(predicted, torch.zeros(SHAPE), weight=weight)
    torch.testing.assert_close(flow_matching_loss(predicted, torch.zeros(SHAPE), weight=1e-20 * weight), expected)


def test_a_weight_of_a_camera_that_is_not_there_does_not_count() -> None:
    predicted, weight = torch.randn(SHAPE), torch.rand(SHAPE[:-1])
    camera_mask = torch.tensor([[True, False], [True, True]])
    counts = camera_mask[:, None, :, None, None].expand(SHAPE[:-1])
    error = predicted.square().mean(dim=-1)
    got = flow_matching_loss(predicted, torch.zeros(SHAPE), camera_mask=camera_mask, weight=weight)
    torch.testing.assert_close(got, (weight * error)[counts].sum() / weight[counts].sum())
