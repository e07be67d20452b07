"""Alignment of features with maps of what is there."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaia2.training.alignment import BlockOutput, MapAlignment


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
