"""Context parallelism over two processes on the CPU against one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers import ContextParallelConfig
from diffusers.models._modeling_parallel import ParallelConfig

from gaia2.losses.flow_matching import flow_matching_loss
from gaia2.models.world_model import WorldModel
from gaia2.nn.attention import Attention
from gaia2.nn.blocks import over_time
from tests.tiny import conditioning, world_model

B, N, H, W, C = 2, 3, 1, 3, 4
RANKS = 2


def case(t: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return dict(
        hidden_states=torch.randn(B, t, N, H, W, C, generator=generator, dtype=torch.float64),
        timestep=torch.tensor([0.2, 0.7], dtype=torch.float64),
        conditioning=conditioning(B, t, N),
        known_mask=torch.rand(B, t, N, H, W, generator=generator) < 0.4,
        camera_mask=torch.tensor([[True, False, True], [True, True, True]]),
    )


def step(model: WorldModel, given: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Velocity and gradients of the loss."""
    velocity = model(**given).sample
    target = torch.linspace(-1, 1, velocity.numel(), dtype=torch.float64).reshape(velocity.shape)
    flow_matching_loss(velocity, target, given["known_mask"], given["camera_mask"]).backward()
    return velocity.detach(), {name: p.grad for name, p in model.named_parameters()}


def join(rank: int, rendezvous: str) -> None:
    """Become one process of two."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    torch.accelerator.device_count = lambda: 1  # diffusers divides by it


def shared_step(rank: int, rendezvous: str, out: str, given: dict[str, Any]) -> None:
    join(rank, rendezvous)
    model = world_model().double()
    model.enable_gradient_checkpointing()
    model.enable_parallelism(config=ContextParallelConfig(ulysses_degree=RANKS))
    lengths = set()
    model.transformer_blocks[1].register_forward_hook(lambda _, args, __: lengths.add(args[0].shape[1]))
    velocity, gradients = step(model, given)
    for gradient in gradients.values():
        dist.all_reduce(gradient)
    torch.save((velocity, gradients, lengths), f"{out}{rank}")

    with pytest.raises(
        ValueError, match=r"hidden_states: expected latent times in a multiple of the 2 processes .*got 3"
    ):
        model(**case(3))
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    given = case(4)
    velocity, gradients = step(world_model().double(), given)
    mp.spawn(shared_step, args=(str(tmp_path / "meeting"), str(tmp_path / "result"), given), nprocs=RANKS)
    for rank in range(RANKS):
        got_velocity, got_gradients, lengths = torch.load(tmp_path / f"result{rank}", weights_only=True)
        assert lengths == {2}
        torch.testing.assert_close(got_velocity, velocity, atol=1e-12, rtol=0)
        torch.testing.assert_close(got_gradients, gradients, atol=1e-12, rtol=1e-9)


def temporal(tokens: torch.Tensor, attention: Attention) -> tuple[torch.Tensor, ...]:
    """Output of the attention over time, and the gradients of the tokens and of a weight."""
    tokens = tokens.clone().requires_grad_()
    out = over_time(attention, tokens)
    out.sin().sum().backward()
    assert attention.to_v.weight.grad is not None
    return out.detach(), tokens.grad, attention.to_v.weight.grad


def uneven_step(rank: int, rendezvous: str, out: str, tokens: torch.Tensor, times: list[int]) -> None:
    join(rank, rendezvous)
    attention = small_attention()
    config = ContextParallelConfig(ulysses_degree=RANKS, ulysses_anything=True)
    mesh = dist.init_device_mesh("cpu", (1, RANKS), mesh_dim_names=("ring", "ulysses"))
    config.setup(rank, RANKS, torch.device("cpu"), mesh)
    attention.processor._parallel_config = ParallelConfig(context_parallel_config=config)
    results = temporal(tokens.split(times, dim=1)[rank], attention)
    dist.all_reduce(results[2])
    torch.save(results, f"{out}{rank}")
    dist.destroy_process_group()


def small_attention() -> Attention:
    torch.manual_seed(0)
    return Attention(dim=4, num_heads=1).double()


def test_times_and_cells_need_not_be_even(tmp_path: Path) -> None:
    tokens, times = case(5)["hidden_states"], [3, 2]
    out, gradient, weight = temporal(tokens, small_attention())
    args = (str(tmp_path / "meeting"), str(tmp_path / "result"), tokens, times)
    mp.spawn(uneven_step, args=args, nprocs=RANKS)
    for rank in range(RANKS):
        got = torch.load(tmp_path / f"result{rank}", weights_only=True)
        expected = (out.split(times, dim=1)[rank], gradient.split(times, dim=1)[rank], weight)
        torch.testing.assert_close(got, expected, atol=1e-12, rtol=0)
