from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2.training.muon import Muon
from gaia2.training.optimizers import MuonAdamW, make_optimizer

RATES = dict(learning_rate=1e-2, matrix_learning_rate=3e-2, weight_decay=0.1)


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv1d(2, 6, 3, padding=1), nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 16))


def backward(network: nn.Module, step: int) -> None:
    x = torch.randn(7, 2, 4, generator=torch.Generator().manual_seed(step))
    network.zero_grad(set_to_none=True)
    network(x).square().sum().backward()


def weights(network: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in network.parameters()]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(map(torch.equal, one, other))


def test_muon_takes_the_matrices_and_adamw_the_rest() -> None:
    together, apart = model(), model()
    optimizer = make_optimizer(together, "muon", **RATES)
    assert isinstance(optimizer, MuonAdamW)
    matrices = [p for p in apart.parameters() if p.ndim == 2]
    others = [p for p in apart.parameters() if p.ndim != 2]
    assert [p.shape for p in matrices] == [(16, 24)]
    parts = (
        Muon(matrices, lr=3e-2, weight_decay=0.1),
        torch.optim.AdamW(others, lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
    )
    before = weights(together)
    for step in range(4):
        backward(together, step)
        backward(apart, step)
        optimizer.step()
        for part in parts:
            part.step()
    assert equal(weights(together), weights(apart))
    assert not any(map(torch.equal, weights(together), before))


def test_a_schedule_scales_both_rates() -> None:
    scheduled, by_hand = model(), model()
    optimizer, twin = make_optimizer(scheduled, "muon", **RATES), make_optimizer(by_hand, "muon", **RATES)
    schedule = LambdaLR(optimizer, lambda step: 1 / (step + 1))
    for step in range(4):
        assert schedule.get_last_lr() == pytest.approx([3e-2 / (step + 1), 1e-2 / (step + 1)])
        for part, rate in zip(twin.parts, (3e-2, 1e-2), strict=True):
            part.param_groups[0]["lr"] = rate * (1 / (step + 1))
        for network in (scheduled, by_hand):
            backward(network, step)
        optimizer.step()
        twin.step()
        schedule.step()
    assert equal(weights(scheduled), weights(by_hand))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_goes_on_from_disk_as_if_it_had_not_stopped(name: str, tmp_path: Path) -> None:
    def start() -> tuple[nn.Module, torch.optim.Optimizer, LambdaLR]:
        network = model()
        optimizer = make_optimizer(network, name, **RATES)
        return network, optimizer, LambdaLR(optimizer, lambda step: 1 / (step + 1))

    def train(parts: tuple[nn.Module, torch.optim.Optimizer, LambdaLR], steps: range) -> None:
        network, optimizer, schedule = parts
        for step in steps:
            backward(network, step)
            optimizer.step()
            schedule.step()

    straight, stopped, resumed = start(), start(), start()
    train(straight, range(6))
    train(stopped, range(3))
    save_checkpoint(tmp_path / "state.pt", dict(enumerate(part.state_dict() for part in stopped)))
    saved = load_checkpoint(tmp_path / "state.pt")
    for i, part in enumerate(resumed):
        part.load_state_dict(saved[i])
    train(resumed, range(3, 6))
    assert equal(weights(straight[0]), weights(resumed[0]))
    assert straight[2].get_last_lr() == resumed[2].get_last_lr() == [g["lr"] for g in resumed[1].param_groups]


def test_frozen_parameters_are_left_alone() -> None:
    for name in ("adamw", "muon"):
        network = model()
        network.append(nn.Linear(16, 16))
        network[-1].requires_grad_(False)
        before = weights(network[-1])
        optimizer = make_optimizer(network, name, **RATES)
        backward(network, 0)
        optimizer.step()
        assert equal(weights(network[-1]), before)


def test_a_closure_is_called_once_and_its_loss_returned() -> None:
    network, twin = model(), model()
    calls = []

    def closure() -> float:
        calls.append(1)
        backward(network, 0)
        return 2.5

    with torch.no_grad():
        assert make_optimizer(network, "muon", **RATES).step(closure) == 2.5
    backward(twin, 0)
    make_optimizer(twin, "muon", **RATES).step()
    assert len(calls) == 1
    assert equal(weights(network), weights(twin))


@pytest.mark.parametrize("network", [nn.Linear(4, 4), nn.Linear(16, 16, bias=False)])
def test_either_part_may_have_nothing_to_do(network: nn.Module) -> None:
    before = weights(network)
    optimizer = make_optimizer(network, "muon", **RATES)
    network(torch.ones(1, network.in_features)).sum().backward()
    optimizer.step()
    assert not any(map(torch.equal, weights(network), before))


def test_zero_grad_clears_both() -> None:
    network = model()
    optimizer = make_optimizer(network, "muon", **RATES)
    backward(network, 0)
    optimizer.zero_grad()
    assert all(p.grad is None for p in network.parameters())
