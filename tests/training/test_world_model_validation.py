from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from gaia2.schedulers.time_sampling import BimodalLogitNormal
from gaia2.training.world_model_validation import TAU_EDGES, spread_flow_times, validate_world_model

T, N, H, W, C = 3, 2, 4, 6, 5


class Knows(nn.Module):
    """Gives the velocity of data that are all `value`, plus an error that depends on the flow time."""

    def __init__(self, value: float, error: float = 0.0) -> None:
        super().__init__()
        self.value, self.error = value, error
        self.shown: list[dict[str, Any]] = []

    def forward(self, noisy: torch.Tensor, tau: torch.Tensor, conditioning: Any, known_mask: torch.Tensor) -> Any:
        self.shown.append(dict(noisy=noisy, tau=tau, known=known_mask, conditioning=conditioning))
        time = tau.reshape(-1, 1, 1, 1, 1, 1)
        eps = (noisy - time * self.value) / (1 - time)
        return SimpleNamespace(sample=self.value - eps + self.error * time)


def batches(count: int, size: int, value: float = 2.0) -> list[Any]:
    rows = [range(first, min(first + size, count)) for first in range(0, count, size)]
    given = [{"timestamps": torch.zeros(len(r), T, N), "speed": torch.ones(len(r), T)} for r in rows]
    return [(r, (torch.full((len(r), T, N, H, W, C), value), g)) for r, g in zip(rows, given, strict=True)]


def mean(like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, 2.0)


def test_one_who_knows_the_data_has_no_loss_in_any_task() -> None:
    losses = validate_world_model(Knows(2.0), batches(12, 5), 12, mean)
    assert {"loss", "ratio", "context", "inpainting"} < losses.keys()
    assert all(value == pytest.approx(0.0, abs=1e-4) for value in losses.values())


def test_the_loss_is_the_error_of_each_flow_time() -> None:
    """An error of tau makes the loss of a bucket the mean of tau squared in it."""
    count = 64
    taus = spread_flow_times(count)
    losses = validate_world_model(Knows(2.0, error=1.0), batches(count, 16), count, mean)
    assert losses["loss"] == pytest.approx(taus.square().mean().item(), rel=1e-3)
    for low, high in pairwise(TAU_EDGES):
        inside = taus[(taus > low) & (taus <= high)]
        assert losses[f"tau_{low:g}_{high:g}"] == pytest.approx(inside.square().mean().item(), rel=1e-3)
    assert losses["ratio"] == pytest.approx(losses["loss"], rel=0.05)  # the mean velocity leaves the noise, of power 1


def test_the_same_noise_whatever_the_batches_and_nothing_is_left_out() -> None:
    one, other = Knows(2.0), Knows(2.0)
    validate_world_model(one, batches(6, 6), 6, mean)
    validate_world_model(other, batches(6, 2), 6, mean)
    scratch = one.shown[0]
    torch.testing.assert_close(scratch["noisy"], torch.cat([shown["noisy"] for shown in other.shown[::3]]))
    torch.testing.assert_close(scratch["tau"], torch.cat([shown["tau"] for shown in other.shown[::3]]))
    assert not scratch["known"].any()
    assert one.shown[1]["known"][:, 0].all()  # context
    assert not one.shown[1]["known"][:, -1].any()
    assert all((shown["conditioning"]["speed"] == 1).all() for shown in one.shown)


def test_a_batch_that_only_keeps_other_ranks_company_does_not_count() -> None:
    alone = validate_world_model(Knows(2.0, error=1.0), batches(4, 2), 4, mean)
    company = [*batches(4, 2), (range(0), batches(1, 1, value=7.0)[0][1])]
    assert validate_world_model(Knows(2.0, error=1.0), company, 4, mean) == pytest.approx(alone)


def test_flow_times_are_spread_over_the_papers_distribution() -> None:
    drawn = BimodalLogitNormal().sample(200_000, generator=torch.Generator().manual_seed(0)).sort().values
    spread = spread_flow_times(200).sort().values
    shares = (torch.arange(200) + 0.5) / 200
    torch.testing.assert_close(spread, drawn[(shares * len(drawn)).long()], atol=0.01, rtol=0)
