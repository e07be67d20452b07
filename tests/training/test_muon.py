from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from gaia2.training import muon
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


def test_sides_of_sixteen_are_wide_enough() -> None:
    assert suits_muon(torch.zeros(16, 16))
    assert not suits_muon(torch.zeros(15, 400))
    assert not suits_muon(torch.zeros(400, 15))
    assert suits_muon(torch.zeros(400, 16, 2))


def test_decay_and_momentum_are_by_default_those_of_torch() -> None:
    weight, gradients = normal(20, 24), [normal(20, 24, seed=i) for i in (1, 2, 3)]
    plain = stepped(weight, gradients, lr=0.1)
    assert torch.equal(plain, stepped(weight, gradients, lr=0.1, weight_decay=0.1, momentum=0.95))
    without = stepped(weight, gradients[:1], lr=0.1, weight_decay=0.0)
    decayed = stepped(weight, gradients[:1], lr=0.1, weight_decay=0.5)
    torch.testing.assert_close(without - decayed, 0.05 * weight, atol=1e-5, rtol=0)


def test_a_taller_matrix_takes_larger_steps() -> None:
    """An update of singular values of about 1, times the square root of out / in."""
    for shape, factor in (((64, 16), 2.0), ((16, 64), 1.0), ((16, 16), 1.0)):
        moved = stepped(torch.zeros(shape), [normal(*shape)], lr=1.0, weight_decay=0.0)
        assert torch.linalg.svdvals(moved).mean().item() == pytest.approx(factor, rel=0.25)


def test_weights_that_go_in_several_portions_step_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Portions hold up to so many numbers, and a larger weight alone; batches of a shape change nothing."""
    shapes = [(16, 20), (16, 20), (20, 16), (16, 20), (40, 40)]
    weights = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    gradients = [normal(*shape, seed=10 + i) for i, shape in enumerate(shapes)]
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    monkeypatch.setattr(muon, "PORTION", 640)
    assert [[p.numel() for p in some] for some in muon._portions(parameters)] == [[320, 320], [320, 320], [1600]]
    assert list(muon._portions([])) == []
    Muon(parameters, lr=0.1).step()
    for parameter, weight, gradient in zip(parameters, weights, gradients, strict=True):
        torch.testing.assert_close(parameter.detach(), stepped(weight, [gradient], lr=0.1), atol=1e-3, rtol=0)


def test_a_closure_is_called_first_and_with_gradients() -> None:
    parameter = nn.Parameter(normal(16, 16))
    optimizer = Muon([parameter], lr=0.1)

    def closure() -> float:
        loss = parameter.square().sum()
        loss.backward()
        return loss.item()

    before = parameter.detach().clone()
    assert optimizer.step(closure) == pytest.approx(before.square().sum().item())
    assert not torch.equal(parameter.detach(), before)
    assert optimizer.step() is None


def test_more_iterations_come_nearer_to_an_orthogonal_matrix() -> None:
    weight = torch.diag(torch.tensor([1.0, 0.1, 0.01, 0.003]))
    values = [orthogonalize(weight, steps).float().diagonal() for steps in (1, 5)]
    assert values[0][2] < 0.1  # one step multiplies a small value by not quite 3.4445
    assert values[1].min() > 0.3
    assert torch.equal(orthogonalize(weight), orthogonalize(weight, steps=5))


def test_nothing_is_made_of_nothing() -> None:
    assert not orthogonalize(torch.zeros(16, 16)).any()


@pytest.fixture
def one_rank(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def test_sharded_weights_step_as_whole_ones(one_rank: None) -> None:
    """On a mesh of one rank, in this process; test_distributed has more of them."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1, 1))
    shapes = (17, 20), (17, 20), (40, 16), (16, 16, 1, 3, 3)
    whole = [nn.Parameter(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]
    shared = [nn.Parameter(distribute_tensor(p.detach().clone(), mesh, [Replicate(), Shard(0)])) for p in whole]
    for i, (one, other) in enumerate(zip(whole, shared, strict=True)):
        one.grad = normal(*one.shape, seed=20 + i)
        other.grad = distribute_tensor(one.grad.clone(), mesh, [Replicate(), Shard(0)])
    for parameters in (whole, shared):
        Muon(parameters, lr=0.1).step()
    for one, other in zip(whole, shared, strict=True):
        assert other.placements == (Replicate(), Shard(0))
        torch.testing.assert_close(other.full_tensor(), one, atol=1e-6, rtol=0)


class Mesh:
    """What `_exchange` asks of a mesh, for one of its ranks."""

    def __init__(self, shape: tuple[int, ...], rank: int) -> None:
        self.shape, self.ndim, self.rank = shape, len(shape), rank
        self.place = tuple(int(i) for i in np.unravel_index(rank, shape))

    def size(self, axis: int) -> int:
        return self.shape[axis]

    def get_coordinate(self) -> tuple[int, ...]:
        return self.place

    def get_group(self, axis: int) -> tuple:
        """Those that differ from this rank along one axis alone, and this rank's place among them."""
        return (axis, *(i for other, i in enumerate(self.place) if other != axis)), self.place[axis]


@pytest.mark.parametrize("shape", [(2, 3), (3, 1), (1, 2)])
def test_each_rank_gets_what_all_have_made_in_the_order_of_the_ranks(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ranks are threads here, which meet where they gather; some have made nothing, and shares differ in size."""
    count = math.prod(shape)
    meshes = [Mesh(shape, rank) for rank in range(count)]
    assert [muon._number_in(mesh) for mesh in meshes] == list(range(count))
    made = [[normal(2, rank + 1, seed=rank), normal(3, 1)] if rank % 2 == 0 else [] for rank in range(count)]
    shapes = [[tensor.shape for tensor in own] for own in made]
    lock, tables = threading.Lock(), {}
    barriers = {}

    def gather(out: torch.Tensor, own: torch.Tensor, group: tuple) -> None:
        name, place = group
        with lock:
            tables.setdefault(name, {})[place] = own
            barrier = barriers.setdefault(name, threading.Barrier(shape[name[0]]))
        barrier.wait(timeout=30)
        out.copy_(torch.cat([tables[name][i] for i in range(shape[name[0]])]))

    monkeypatch.setattr(dist, "all_gather_into_tensor", gather)

    def exchange(rank: int) -> list[torch.Tensor]:
        return list(muon._exchange(made[rank], shapes, meshes[rank], torch.device("cpu")))

    with ThreadPoolExecutor(count) as pool:
        got = list(pool.map(exchange, range(count)))
    expected = [tensor.bfloat16() for own in made for tensor in own]
    for received in got:
        assert len(received) == len(expected)
        assert all(torch.equal(one, other) for one, other in zip(received, expected, strict=True))
