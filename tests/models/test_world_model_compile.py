"""Compiled and eager agree: the blocks alone, the whole model, and an export."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from gaia2.models.world_model import WorldModel
from tests.models.test_world_model_diffusers import B, H, N, T, W, inputs
from tests.tiny import world_model

MASKS = {
    "known_mask": torch.rand(B, T, N, H, W, generator=torch.Generator().manual_seed(0)) < 0.5,
    "camera_mask": torch.tensor([[True, False], [True, True]]),
}


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def step(model: WorldModel) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    velocity = model(**inputs(torch.float64), **MASKS).sample
    velocity.square().mean().backward()
    return velocity.detach(), {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_blocks_and_eager_agree_forward_and_backward(backend: str) -> None:
    expected = step(world_model().double())
    model = world_model().double()
    model.compile_repeated_blocks(fullgraph=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        got = step(model)
    torch.testing.assert_close(got, expected, atol=1e-10, rtol=1e-7)


def test_two_blocks_are_one_graph() -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: list[torch.Tensor]) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    model = world_model(num_blocks=3).double()
    model.compile_repeated_blocks(fullgraph=True, backend=count)
    with torch.no_grad():
        for _ in range(2):
            model(**inputs(torch.float64), **MASKS)
    assert len(graphs) == 1


@torch.no_grad()
def test_blocks_are_one_graph_with_keys_and_values_made_beforehand() -> None:
    model, given = world_model(num_blocks=3).double(), inputs(torch.float64)
    given["conditioning"] = model.prepare(model.encode_conditioning(given["conditioning"]), grid=(H, W))
    expected = model(**given, **MASKS).sample
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            torch.testing.assert_close(model(**given, **MASKS).sample, expected, atol=1e-12, rtol=0)


@pytest.mark.slow
@torch.no_grad()
def test_the_whole_model_is_one_graph() -> None:
    model = world_model(num_blocks=1).double()
    expected = model(**inputs(torch.float64), **MASKS).sample
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            torch.testing.assert_close(compiled(**inputs(torch.float64), **MASKS).sample, expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_can_be_exported() -> None:
    model = world_model().double()
    expected = model(**inputs(torch.float64)).sample
    exported = torch.export.export(model, args=(), kwargs=inputs(torch.float64))
    torch.testing.assert_close(exported.module()(**inputs(torch.float64)).sample, expected, atol=1e-12, rtol=0)
