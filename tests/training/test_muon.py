from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gaia2.training.muon import Muon, orthogonalize, suits_muon


def stepped(weight: torch.Tensor, gradients: list[torch.Tensor], **options: float) -> torch.Tensor:
    parameter = nn.Parameter(weight.clone())
    optimizer = Muon([parameter], **options)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(32, 20), (20, 32), (24, 24)])
def test_a_matrix_steps_as_with_the_muon_of_torch(shape: tuple[int, int]) -> None:
    weight, gradients = normal(*shape), [normal(*shape, seed=i) for i in (1, 2, 3)]
    theirs = nn.Parameter(weight.clone())
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1)
    for gradient in gradients:
        theirs.grad = gradient.clone()
        reference.step()
    ours = stepped(weight, gradients, lr=0.02, weight_decay=0.1)
    assert not torch.equal(ours, weight)
    assert torch.allclose(ours, theirs.detach(), atol=2e-4)


@pytest.mark.parametrize("shape", [(32, 20), (20, 32)])
def test_orthogonalize_keeps_singular_vectors_and_evens_out_values(shape: tuple[int, int]) -> None:
    u, values, vt = torch.linalg.svd(normal(*shape), full_matrices=False)
    assert values.max() > 3 * values.min()
    core = u.mT @ orthogonalize(u @ values.diag() @ vt).float() @ vt.mT
    assert core.diagonal().min() > 0.6
    assert core.diagonal().max() < 1.3
    assert (core - core.diagonal().diag()).abs().max() < 0.05


def test_a_convolution_is_a_matrix_for_each_tap() -> None:
    weight, gradient = normal(24, 20, 1, 3, 3), normal(24, 20, 1, 3, 3, seed=1)
    moved = stepped(weight, [gradient], lr=0.1, weight_decay=0.0) - weight
    for row in range(3):
        for column in range(3):
            tap = (slice(None), slice(None), 0, row, column)
            alone = stepped(weight[tap], [gradient[tap]], lr=0.1 / math.sqrt(9), weight_decay=0.0) - weight[tap]
            assert torch.allclose(moved[tap], alone, atol=1e-4)


def test_what_suits_muon() -> None:
    assert suits_muon(torch.zeros(16, 32))
    assert suits_muon(torch.zeros(32, 16, 1, 3, 3))
    assert not suits_muon(torch.zeros(64))
    assert not suits_muon(torch.zeros(160, 3, 2, 4, 4))
    assert not suits_muon(torch.zeros(32, 2))


def test_a_vector_is_turned_down() -> None:
    with pytest.raises(ValueError, match=r"params: expected two axes or more, got \(7,\); use AdamW for it"):
        Muon([nn.Parameter(torch.zeros(7))], lr=0.1)


def test_a_parameter_without_gradient_rests() -> None:
    parameter = nn.Parameter(torch.ones(16, 16))
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(parameter.detach(), torch.ones(16, 16))
