from __future__ import annotations

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from gaia2.training.average import WeightAverage


@pytest.mark.parametrize("decay", [0.5, 0.9999])
def test_averages_as_diffusers_does(decay: float) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    model[1].requires_grad_(False)
    ours, theirs = WeightAverage(model, decay), EMAModel(model.parameters(), decay=decay)
    for _ in range(5):
        with torch.no_grad():
            for parameter in model[0].parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.step()
        theirs.step(model.parameters())
    for one, other in zip(ours.weights.values(), theirs.shadow_params[:2], strict=True):
        torch.testing.assert_close(one, other)
    assert ours.steps == theirs.optimization_step


def test_averaged_weights_are_there_within_the_block_only() -> None:
    model = nn.Linear(3, 2)
    average = WeightAverage(model, 0.9)
    with torch.no_grad():
        model.weight.add_(1.0)
    own, averaged = model.weight.clone(), average.weights["weight"].clone()

    def inspect_and_fail() -> None:
        with average.applied():
            assert torch.equal(model.weight, averaged)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        inspect_and_fail()
    assert torch.equal(model.weight, own)
    assert torch.equal(average.weights["weight"], averaged)


def test_bad_decay() -> None:
    with pytest.raises(ValueError, match=r"decay: expected a number from 0 to below 1, got 1.0"):
        WeightAverage(nn.Linear(1, 1), 1.0)
