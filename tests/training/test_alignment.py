"""Alignment of features with maps of what is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gaia2.training.alignment import BlockOutput, LeastSquares, MapAlignment


def test_the_loss_is_the_mean_squared_error_where_it_counts():
    alignment = MapAlignment(dim=3, num_maps=2, weight=0.5)
    features, maps = torch.randn(2, 4, 3), torch.rand(2, 4, 2)
    counts = torch.rand(2, 4) < 0.5
    error = (features @ alignment.head.weight.T + alignment.head.bias - maps).square().mean(dim=-1)
    assert alignment(features, maps).item() == pytest.approx(0.5 * error.mean().item(), rel=1e-5)
    assert alignment(features, maps, counts).item() == pytest.approx(0.5 * error[counts].mean().item(), rel=1e-5)


def test_features_of_a_mixed_precision_forward_are_taken():
    alignment = MapAlignment(dim=3, num_maps=2)
    features = torch.randn(2, 4, 3).bfloat16().requires_grad_()
    alignment(features, torch.rand(2, 4, 2)).backward()
    assert features.grad is not None
    assert features.grad.abs().sum() > 0


def test_a_block_is_listened_to_until_it_is_not():
    layer = nn.Linear(2, 3)
    hidden = BlockOutput(layer)
    out = layer(torch.ones(1, 2))
    assert hidden.value is out
    hidden.remove()
    layer(torch.ones(1, 2))
    assert hidden.value is None


def test_least_squares_is_the_solution_of_numpy_where_it_counts():
    features, maps = torch.randn(6, 40, 5), torch.rand(6, 40, 3)
    counts = torch.rand(6, 40) < 0.7
    fit = LeastSquares(dim=5, num_maps=3)
    for part in range(0, 6, 2):  # as batches give them
        fit.add(features[part : part + 2], maps[part : part + 2], counts[part : part + 2])
    weight, bias = fit.solve(ridge=0.0)
    rows = np.concatenate([features[counts].numpy(), np.ones((int(counts.sum()), 1))], axis=1)
    expected = np.linalg.lstsq(rows, maps[counts].numpy(), rcond=None)[0].T
    np.testing.assert_allclose(weight, expected[:, :-1], atol=1e-4)
    np.testing.assert_allclose(bias, expected[:, -1], atol=1e-4)


def test_features_that_say_nothing_have_small_weights_and_the_mean_remains():
    features, maps = torch.randn(50, 4), torch.full((50, 2), 7.0)
    features[:, 3] = features[:, 2]  # which of them is it? without a ridge there is no answer
    fit = LeastSquares(dim=4, num_maps=2)
    fit.add(features, maps)
    weight, bias = fit.solve()
    assert weight.abs().max() < 0.01
    torch.testing.assert_close(bias, torch.full((2,), 7.0), atol=0.01, rtol=0)


def test_a_solved_head_has_the_least_loss_there_is():
    features, maps = torch.randn(200, 4), torch.rand(200, 3)
    alignment = MapAlignment(dim=4, num_maps=3, weight=2.0)
    fit = LeastSquares(dim=4, num_maps=3)
    fit.add(features, maps)
    alignment.begin_with(*fit.solve(ridge=0.0))
    loss = alignment(features, maps)
    loss.backward()
    assert alignment.head.weight.grad is not None
    assert alignment.head.weight.grad.abs().max() < 1e-5
    assert loss < 2.0 * maps.var(dim=0).mean()
