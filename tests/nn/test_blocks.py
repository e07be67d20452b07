from __future__ import annotations

import itertools
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaia2.nn.attention import Attention
from gaia2.nn.blocks import (
    SpaceTimeBlock,
    SpatialBlock,
    TemporalBlock,
    WorldModelBlock,
    over_cameras_and_space,
    over_condition,
    over_space,
    over_time,
)
from gaia2.nn.embeddings import spatial_position_embedding
from gaia2.nn.mlp import MLP
from tests.tiny import perturb

DIM = 8
B, T, N, H, W, K = 2, 3, 2, 2, 3, 4
PARTS = {"spatial": 1e-1, "temporal": 1e-2, "cross": 1e-3}


@pytest.fixture
def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(dim=DIM, num_heads=2).double()


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_over_space_sees_one_frame(attention: Attention) -> None:
    tokens = random(B, T, H, W, DIM)
    got = over_space(attention, tokens)
    for b, t in itertools.product(range(B), range(T)):
        alone = attention(tokens[b, t].reshape(1, H * W, DIM))
        torch.testing.assert_close(got[b, t], alone.reshape(H, W, DIM))


def test_over_time_sees_one_cell(attention: Attention) -> None:
    tokens = random(B, T, N, H, W, DIM)
    got = over_time(attention, tokens)
    for b, n, h, w in itertools.product(range(B), range(N), range(H), range(W)):
        torch.testing.assert_close(got[b, :, n, h, w], attention(tokens[b : b + 1, :, n, h, w])[0])


@pytest.mark.parametrize("masked", [False, True])
def test_over_cameras_and_space_sees_one_time(attention: Attention, masked: bool) -> None:
    tokens = random(B, T, N, H, W, DIM)
    camera_mask = torch.tensor([[True, False], [False, True]]) if masked else None
    got = over_cameras_and_space(attention, tokens, camera_mask)
    for b, t in itertools.product(range(B), range(T)):
        queries = tokens[b, t].reshape(1, N * H * W, DIM)
        seen = tokens[b, t] if camera_mask is None else tokens[b, t, camera_mask[b]]
        alone = attention(queries, context=seen.reshape(1, -1, DIM))
        torch.testing.assert_close(got[b, t], alone.reshape(N, H, W, DIM))


@pytest.mark.parametrize("masked", [False, True])
def test_over_condition_sees_the_tokens_of_its_time_and_camera(attention: Attention, masked: bool) -> None:
    tokens, condition = random(B, T, N, H, W, DIM), random(B, T, N, K, DIM)
    mask = (torch.rand(B, T, N, K) < 0.5) | (torch.arange(K) == 1) if masked else None
    got = over_condition(attention, tokens, condition, mask)
    for b, t, n in itertools.product(range(B), range(T), range(N)):
        there = condition[b, t, n] if mask is None else condition[b, t, n, mask[b, t, n]]
        alone = attention(tokens[b, t, n].reshape(1, H * W, DIM), context=there[None])
        torch.testing.assert_close(got[b, t, n], alone.reshape(H, W, DIM))


@pytest.mark.parametrize(
    ("block", "factor"), [(SpatialBlock, 12), (TemporalBlock, 12), (SpaceTimeBlock, 16), (WorldModelBlock, 22)]
)
def test_weights_are_those_of_the_papers_count(block: type[nn.Module], factor: int) -> None:
    weights = sum(p.numel() for p in block(dim=16, num_heads=4).parameters() if p.dim() == 2)
    assert weights == factor * 16**2


def test_spatial_block_keeps_frames_apart() -> None:
    block = SpatialBlock(dim=DIM, num_heads=2).double()
    tokens = random(B, T, H, W, DIM).requires_grad_()
    (gradient,) = torch.autograd.grad(block(tokens)[0, 1].square().sum(), tokens)
    touched = gradient.abs().amax(dim=(2, 3, 4)) > 0
    assert touched.tolist() == [[False, True, False], [False] * T]
    assert (gradient[0, 1].abs().amax(dim=-1) > 0).all()


def test_spatial_block_is_its_parts() -> None:
    block = SpatialBlock(dim=DIM, num_heads=2).double()
    x = random(B, T, H, W, DIM)
    attended = x + block.spatial_attention(block.norm_spatial(x).reshape(B * T, H * W, DIM)).reshape(x.shape)
    torch.testing.assert_close(block(x), attended + block.mlp(block.norm_mlp(attended)))


def test_temporal_block_keeps_cells_apart() -> None:
    block = TemporalBlock(dim=DIM, num_heads=2).double()
    tokens = random(B, T, N, H, W, DIM).requires_grad_()
    (gradient,) = torch.autograd.grad(block(tokens)[0, 1, 1, 0, 2].square().sum(), tokens)
    touched = gradient.abs().amax(dim=-1) > 0
    assert touched[0, :, 1, 0, 2].all()
    assert touched.sum() == T


def test_temporal_block_is_its_parts() -> None:
    block = TemporalBlock(dim=DIM, num_heads=2).double()
    x = random(B, T, H, W, DIM)
    attended = x + over_time(block.temporal_attention, block.norm_temporal(x))
    torch.testing.assert_close(block(x), attended + block.mlp(block.norm_mlp(attended)))


def test_space_time_block_is_its_parts_in_order() -> None:
    block = SpaceTimeBlock(dim=DIM, num_heads=2).double()
    x = random(B, T, H, W, DIM)
    y = x + over_space(block.spatial_attention, block.norm_spatial(x))
    y = y + over_time(block.temporal_attention, block.norm_temporal(y))
    torch.testing.assert_close(block(x), y + block.mlp(block.norm_mlp(y)))


class Mean(nn.Module):
    """An attention that weighs all tokens alike."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.mean(dim=1, keepdim=True).expand_as(tokens)


class Gate(nn.Module):
    def __init__(self, *, dim: int, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.ratio * tokens.sigmoid()


@pytest.mark.parametrize(
    ("block", "attentions", "axes"),
    [
        (SpatialBlock, ["spatial_attention"], [(2, 3)]),
        (TemporalBlock, ["temporal_attention"], [(1,)]),
        (SpaceTimeBlock, ["spatial_attention", "temporal_attention"], [(2, 3), (1,)]),
    ],
)
def test_parts_can_be_swapped(block: type[nn.Module], attentions: list[str], axes: list[tuple[int, ...]]) -> None:
    swaps = dict.fromkeys(attentions, Mean)
    swapped = block(dim=DIM, num_heads=2, mlp_ratio=3.0, mlp=Gate, norm=lambda dim: nn.Identity(), **swaps)
    x = random(B, T, H, W, DIM)
    y = x
    for over in axes:
        y = y + y.mean(dim=over, keepdim=True)
    torch.testing.assert_close(swapped(x), y + 3.0 * y.sigmoid())
    assert not list(swapped.parameters())
    assert getattr(swapped, attentions[0]).num_heads == 2


def test_swapping_one_part_leaves_the_names_of_the_others() -> None:
    plain, swapped = (
        SpaceTimeBlock(dim=DIM, num_heads=2, norm=norm).state_dict() for norm in (nn.LayerNorm, nn.RMSNorm)
    )
    assert swapped.keys() == {name for name in plain if not (name.startswith("norm_") and name.endswith("bias"))}


@settings(max_examples=10, deadline=None)
@given(t=st.integers(1, 4), h=st.integers(1, 6), w=st.integers(1, 6))
def test_blocks_take_any_grid_and_their_positions_extend(t: int, h: int, w: int) -> None:
    torch.manual_seed(0)
    block = SpaceTimeBlock(dim=DIM, num_heads=2).double()
    trained = spatial_position_embedding(H, W, DIM, dtype=torch.float64)
    larger = spatial_position_embedding(max(h, H), max(w, W), DIM, dtype=torch.float64)
    assert torch.equal(larger[:H, :W], trained)
    assert block(random(1, t, h, w, DIM) + larger[:h, :w]).shape == (1, t, h, w, DIM)


def test_space_time_block_sees_everything_of_its_sample() -> None:
    block = SpaceTimeBlock(dim=DIM, num_heads=2).double()
    tokens = random(B, T, H, W, DIM).requires_grad_()
    (gradient,) = torch.autograd.grad(block(tokens)[0, 1, 0, 0].square().sum(), tokens)
    assert (gradient[0].abs().amax(dim=-1) > 0).all()
    assert (gradient[1] == 0).all()


@pytest.fixture
def block() -> WorldModelBlock:
    torch.manual_seed(0)
    block = WorldModelBlock(dim=DIM, num_heads=2).double()
    perturb(block)
    return block


def inputs() -> dict[str, torch.Tensor]:
    return dict(
        hidden_states=random(B, T, N, H, W, DIM),
        positions=random(B, T, N, H, W, DIM),
        modulation=random(B, T, DIM),
        condition=random(B, T, N, K, DIM),
    )


def test_world_model_block_is_its_parts_in_order(block: WorldModelBlock) -> None:
    given = inputs()
    x = given["hidden_states"] + given["positions"]
    x = x + over_cameras_and_space(block.spatial_attention, block.norm_spatial(x))
    x = x + over_time(block.temporal_attention, block.norm_temporal(x))
    x = x + over_condition(block.cross_attention, block.norm_cross(x), given["condition"])
    x = x + block.mlp(block.norm_mlp(x, given["modulation"][:, :, None, None, None]))
    torch.testing.assert_close(block(**given), x)


def test_the_parts_of_a_world_model_block_can_be_swapped() -> None:
    calls = []

    class Narrow(MLP):
        def __init__(self, *, dim: int, ratio: float) -> None:
            super().__init__(dim=dim, ratio=ratio / 2)
            calls.append((dim, ratio))

    parts = {f"{name}_attention": partial(Attention, eps=eps) for name, eps in PARTS.items()}
    block = WorldModelBlock(dim=DIM, num_heads=2, mlp=Narrow, norm=nn.RMSNorm, **parts)
    assert calls == [(DIM, 4.0)]
    assert {name: getattr(block, f"{name}_attention").norm_q.eps for name in PARTS} == PARTS
    assert block.cross_attention.is_cross_attention
    assert not block.spatial_attention.is_cross_attention
    assert {type(getattr(block, f"norm_{name}")) for name in PARTS} == {nn.RMSNorm}
    assert block.mlp.up.out_features == 2 * DIM
    assert block.double()(**inputs()).shape == (B, T, N, H, W, DIM)


def test_permuting_cameras_permutes_the_output(block: WorldModelBlock) -> None:
    given = inputs()
    turned = given | {key: given[key].flip(2) for key in ("hidden_states", "positions", "condition")}
    torch.testing.assert_close(block(**turned), block(**given).flip(2))


def test_a_masked_camera_influences_no_other(block: WorldModelBlock) -> None:
    given = inputs()
    mask = torch.tensor([[True, False], [True, True]])
    before = block(**given, camera_mask=mask)
    other = dict(given, hidden_states=given["hidden_states"].clone(), condition=given["condition"].clone())
    other["hidden_states"][:, :, 1] = random(B, T, H, W, DIM)
    other["condition"][:, :, 1] = random(B, T, K, DIM)
    after = block(**other, camera_mask=mask)
    assert torch.equal(before[0, :, 0], after[0, :, 0])
    assert (before[1, :, 0] - after[1, :, 0]).abs().max() > 1e-3


def test_each_token_takes_the_modulation_that_its_mask_says(block: WorldModelBlock) -> None:
    given, known = inputs(), random(B, T, DIM)
    mask = torch.rand(B, T, N, H, W) < 0.5
    mixed = block(**given, known_modulation=known, known_mask=mask)
    noisy, clean = block(**given), block(**(given | {"modulation": known}))
    torch.testing.assert_close(mixed, torch.where(mask[..., None], clean, noisy))
    assert (noisy - clean).abs().amax(dim=-1).min() > 1e-3


def test_masked_condition_tokens_change_nothing(block: WorldModelBlock) -> None:
    given = inputs()
    mask = torch.tensor([True, False, True, True]).expand(B, T, N, K)
    less = given | {"condition": given["condition"][:, :, :, [0, 2, 3]]}
    torch.testing.assert_close(block(**given, condition_mask=mask), block(**less))
    assert (block(**given) - block(**less)).abs().max() > 1e-3


def test_can_be_the_first_import_of_a_program() -> None:
    code = "from gaia2.nn import WorldModelBlock; print(WorldModelBlock.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "WorldModelBlock"


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("known_modulation", torch.zeros(B, T + 1, DIM)),
        ("known_mask", torch.zeros(B, T, N, H, W + 1, dtype=torch.bool)),
        ("condition_mask", torch.zeros(B, T, N, K + 1, dtype=torch.bool)),
        ("camera_mask", torch.zeros(B, N + 1, dtype=torch.bool)),
    ],
)
def test_what_a_block_is_given_besides_has_its_axes(block: WorldModelBlock, name: str, wrong: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        block(**inputs(), **{name: wrong})


@pytest.mark.parametrize(
    ("name", "wrong", "match"),
    [
        ("hidden_states", (B, T, N, H, W, DIM + 1), "hidden_states: expected"),
        ("positions", (B, T, N, H, W, DIM + 1), "positions: expected"),
        ("positions", (B, T + 1, N, H, W, DIM), f"positions: expected t to be 1 or {T}, as the .* got {T + 1}"),
        ("positions", (1, 1, N, H, W + 1, DIM), f"positions: expected w to be 1 or {W}, as the .* got {W + 1}"),
        ("modulation", (B, T + 1, DIM), "modulation: expected"),
        ("condition", (B, T, N + 1, K, DIM), "condition: expected"),
    ],
)
def test_what_a_world_model_block_is_given_has_its_axes(
    block: WorldModelBlock, name: str, wrong: tuple[int, ...], match: str
) -> None:
    with pytest.raises(ValueError, match=f"^{match}"):
        block(**inputs() | {name: random(*wrong)})


def test_positions_broadcast(block: WorldModelBlock) -> None:
    given = inputs()
    spread = given | {"positions": random(1, T, 1, H, W, DIM).expand(B, T, N, H, W, DIM)}
    narrow = given | {"positions": spread["positions"][:1, :, :1]}
    torch.testing.assert_close(block(**narrow), block(**spread))


@pytest.mark.parametrize("masked", [False, True])
def test_keys_and_values_of_the_conditions_can_be_made_beforehand(block: WorldModelBlock, masked: bool) -> None:
    given = inputs()
    mask = {"condition_mask": torch.tensor([True, False, True, True]).expand(B, T, N, K)} if masked else {}
    held = given | {"condition": block.keys_values(given["condition"])}
    torch.testing.assert_close(block(**held, **mask), block(**given, **mask))
    wrong = {"condition_mask": torch.ones(B, T, N, K + 1, dtype=torch.bool)}
    with pytest.raises(ValueError, match="condition_mask: expected"):
        block(**held, **wrong)


def test_an_attention_of_ones_own_needs_no_keys_and_values() -> None:
    class Plain(nn.Module):
        def __init__(self, *, dim: int, num_heads: int, context_dim: int) -> None:
            super().__init__()

        def forward(self, tokens: torch.Tensor, context: torch.Tensor, attention_mask: object) -> torch.Tensor:
            return context.mean(dim=1, keepdim=True).expand_as(tokens)

    block = WorldModelBlock(dim=DIM, num_heads=2, cross_attention=Plain).double()
    given = inputs()
    assert block.keys_values(given["condition"]) is None
    changed = given | {"condition": given["condition"] + 1}
    assert (block(**changed) - block(**given)).abs().amax(dim=-1).min() > 1e-3


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        (SpatialBlock, r"expected \(b, t, h, w, c=8\)"),
        (TemporalBlock, r"expected \(..., c=8\)"),
        (SpaceTimeBlock, r"expected \(b, t, h, w, c=8\)"),
    ],
)
def test_tokens_have_the_channels_of_the_block(kind: type[nn.Module], match: str) -> None:
    with pytest.raises(ValueError, match=f"hidden_states: {match}, got"):
        kind(dim=DIM, num_heads=2)(torch.zeros(B, T, H, W, DIM + 1))
    with pytest.raises(ValueError, match="dim: expected a whole number from 1"):
        kind(dim=0, num_heads=2)


def test_a_temporal_block_needs_time() -> None:
    with pytest.raises(ValueError, match=r"hidden_states: expected at least 3 axes, \(..., c=8\), got \(3, 8\)"):
        TemporalBlock(dim=DIM, num_heads=2)(torch.zeros(T, DIM))
