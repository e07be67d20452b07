"""One step of the world model's training: what it shows the network, what it asks, and what counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gaia2.conditioning.condition import Condition, Key
from gaia2.conditioning.dropout import ConditioningDropout
from gaia2.conditioning.table import standard_conditions
from gaia2.scene import METADATA
from gaia2.training.tasks import TaskSampler
from gaia2.training.world_model_step import (
    WorldModelExample,
    WorldModelStep,
    choose_cameras,
    choose_cameras_of_each,
    counted,
    join_examples,
    split_example,
    world_model_loss,
)

B, T, N, H, W, C = 64, 4, 3, 2, 4, 5
NOTHING_DROPPED = ConditioningDropout(individual=0.0, all=0.0, camera=0.0, agent_feature=0.0, agent_instances=False)


def given(b: int = B) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Latents, and conditions that are all there."""
    torch.manual_seed(0)
    seconds = 100 + 0.8 * torch.arange(T).reshape(1, T, 1) + 0.01 * torch.arange(N)
    conditioning = {
        "timestamps": seconds.repeat(b, 1, 1),
        "speed": torch.full((b, T), 12.0),
        "curvature": torch.full((b, T), 0.01),
        "metadata": torch.zeros(b, len(METADATA), dtype=torch.long),
    }
    return torch.randn(b, T, N, H, W, C), conditioning


def drawn(b: int = B, **settings: object) -> tuple[torch.Tensor, WorldModelExample]:
    x, conditioning = given(b)
    step = WorldModelStep(**{"dropout": NOTHING_DROPPED, **settings})
    return x, step.draw(x, conditioning, torch.Generator().manual_seed(1))


class Answers(nn.Module):
    """Answers with a parameter for every number, and keeps what it was shown."""

    def __init__(self, answer: torch.Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, noisy, tau, conditioning, known_mask, camera_mask):
        self.shown = (noisy, tau, conditioning, known_mask, camera_mask)
        return SimpleNamespace(sample=self.answer)


class Scaled(nn.Module):
    """One parameter, times the velocity that is right for a given point of data."""

    def __init__(self, x: torch.Tensor, scale: float) -> None:
        super().__init__()
        self.x, self.scale = x, nn.Parameter(torch.tensor(scale, dtype=torch.float64))

    def forward(self, noisy, tau, conditioning, known_mask, camera_mask):
        velocity = (self.x - noisy.double()) / (1 - tau.double()).reshape(-1, 1, 1, 1, 1, 1)
        return SimpleNamespace(sample=self.scale * velocity)


def test_a_model_of_one_parameter_recovers_the_velocity_exactly() -> None:
    x, example = drawn()
    model = Scaled(x.double(), scale=0.25)
    loss = world_model_loss(model, example)
    (slope,) = torch.autograd.grad(loss, model.scale, create_graph=True)
    (bend,) = torch.autograd.grad(slope, model.scale)
    best = model.scale - slope / bend  # the loss is a parabola: one step of Newton's method ends at its lowest point
    assert best.item() == pytest.approx(1.0, abs=1e-5)
    assert world_model_loss(Scaled(x.double(), scale=best.item()), example).item() == pytest.approx(0.0, abs=1e-6)


def test_given_tokens_and_masked_cameras_have_exactly_no_gradient_and_all_others_have_one() -> None:
    _, example = drawn(
        dropout=ConditioningDropout(camera=0.4), tasks=TaskSampler(context=0.4, inpainting=0.4), context_noise=0.3
    )
    assert example.known_mask.any()
    assert not example.camera_mask.all()
    model = Answers(torch.zeros_like(example.target))
    loss = world_model_loss(model, example)
    loss.backward()
    counts = ~example.known_mask & example.camera_mask[:, None, :, None, None]
    got = model.answer.grad.abs().amax(dim=-1) > 0
    assert torch.equal(got, counts)
    torch.testing.assert_close(loss.detach(), example.target[counts].square().mean(), rtol=1e-5, atol=0)


def test_tokens_count_as_their_weights_say() -> None:
    _, example = drawn(tasks=TaskSampler(context=0.5, inpainting=0.0))
    weight = torch.rand(B, T, N, H, W, generator=torch.Generator().manual_seed(2))
    loss = world_model_loss(Answers(torch.zeros_like(example.target)), example, weight)
    error = example.target.square().mean(dim=-1)[~example.known_mask]
    counted = weight[~example.known_mask]
    torch.testing.assert_close(loss.detach(), (counted * error).sum() / counted.sum(), rtol=1e-5, atol=0)


def test_the_network_is_shown_the_given_tokens_as_they_are_and_the_others_at_their_flow_time() -> None:
    x, example = drawn(tasks=TaskSampler(context=0.5, inpainting=0.3))
    model = Answers(torch.zeros_like(x))
    world_model_loss(model, example)
    noisy, tau, conditioning, known, cameras = model.shown
    assert conditioning is example.conditioning
    assert cameras is example.camera_mask
    assert known is example.known_mask
    assert torch.equal(noisy[known], x[known])
    eps = x - example.target
    assert abs(eps.mean()) < 0.05
    assert abs(eps.std() - 1) < 0.05
    at = tau.reshape(B, 1, 1, 1, 1, 1)
    expected = at * x + (1 - at) * eps
    torch.testing.assert_close(noisy[~known], expected[~known], rtol=1e-5, atol=1e-5)
    assert tau.min() >= 0
    assert tau.max() <= 1
    assert tau.std() > 0.1


def test_noise_of_the_context_touches_the_context_only_and_not_the_target() -> None:
    tasks = TaskSampler(context=1.0, inpainting=0.0)
    (x, clean), (_, noised) = drawn(tasks=tasks), drawn(tasks=tasks, context_noise=0.4)
    shift = (noised.noisy - x)[noised.known_mask]
    assert (shift != 0).all()
    assert 0.1 < shift.std() < 0.4
    levels = torch.stack([row[known].std() for row, known in zip(noised.noisy - x, noised.known_mask, strict=True)])
    assert levels.min() < 0.1 < 0.3 < levels.max() < 0.7  # a level a sample, up to 0.4 of noise and of what it replaces
    assert torch.equal(noised.target, clean.target)
    assert torch.equal(noised.noisy[~noised.known_mask], clean.noisy[~clean.known_mask])
    x, holes = drawn(tasks=TaskSampler(context=0.0, inpainting=1.0), context_noise=0.4)
    assert torch.equal(holes.noisy[holes.known_mask], x[holes.known_mask])


def test_time_is_told_from_the_present_on() -> None:
    _, example = drawn(tasks=TaskSampler(context=1.0, inpainting=0.0))
    lengths = example.known_mask[:, :, 0, 0, 0].sum(dim=1)
    assert set(lengths.tolist()) == {1, 2, 3}
    told = example.conditioning["timestamps"].mean(dim=2)
    torch.testing.assert_close(told.gather(1, lengths[:, None] - 1), torch.zeros(B, 1), atol=1e-4, rtol=0)
    torch.testing.assert_close(told.diff(dim=1), torch.full((B, T - 1), 0.8), atol=1e-4, rtol=0)


def test_conditions_and_cameras_are_left_out_as_often_as_the_paper_says() -> None:
    b = 4000
    x, conditioning = given(b)
    before = {key: value.clone() for key, value in conditioning.items()}
    small = x[..., :1, :1, :1]
    example = WorldModelStep().draw(small, conditioning, torch.Generator().manual_seed(0))
    absent = {
        "speed": example.conditioning["speed"].isnan().any(dim=1),
        "curvature": example.conditioning["curvature"].isnan().any(dim=1),
        **{name: example.conditioning["metadata"][:, i] < 0 for i, name in enumerate(METADATA)},
    }
    expected = 1 - 0.2 * 0.9  # 80% each, and 10% all at once
    for name, rows in absent.items():
        assert rows.float().mean().item() == pytest.approx(expected, abs=0.025), name
    together = torch.stack(list(absent.values())).all(dim=0).float().mean().item()
    assert together == pytest.approx(0.1 + 0.9 * 0.8 ** len(absent), abs=0.02)
    assert (~example.camera_mask).float().mean().item() == pytest.approx(0.1, abs=0.02)
    assert all(torch.equal(conditioning[key], value) for key, value in before.items() if key != "timestamps")


def test_a_share_of_context_noise_out_of_range() -> None:
    for share in (-0.1, 1.1):
        with pytest.raises(ValueError, match="context_noise: expected a share from 0 to 1"):
            WorldModelStep(context_noise=share)


def numbered(b: int, n: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors and conditions whose values say which sample and camera they belong to."""
    mark = 100.0 * torch.arange(b)[:, None] + torch.arange(n)
    tensors = {"x": mark[:, None, :, None, None, None].expand(b, T, n, H, W, C)}
    conditioning = {
        "timestamps": mark[:, None].expand(b, T, n),
        "intrinsics": mark[..., None].expand(b, n, 4),
        "speed": torch.arange(b)[:, None].expand(b, T).float(),
    }
    return tensors, conditioning


def test_the_same_cameras_are_kept_of_everything_in_their_order_and_any_of_them() -> None:
    b, n = 200, 5
    tensors, conditioning = numbered(b, n)
    kept, given_of = choose_cameras(tensors, conditioning, 2, torch.Generator().manual_seed(0))
    chosen = kept["x"][:, 0, :, 0, 0, 0]
    assert torch.equal(kept["x"], chosen[:, None, :, None, None, None].expand(b, T, 2, H, W, C))
    assert torch.equal(given_of["timestamps"], chosen[:, None].expand(b, T, 2))
    assert torch.equal(given_of["intrinsics"], chosen[..., None].expand(b, 2, 4))
    assert torch.equal(given_of["speed"], conditioning["speed"])
    camera = chosen - 100 * torch.arange(b)[:, None]
    assert (camera.diff(dim=1) > 0).all()
    counts = torch.stack([(camera == i).any(dim=1).float().mean() for i in range(n)])
    torch.testing.assert_close(counts, torch.full((n,), 2 / n), atol=0.12, rtol=0)


def test_cameras_of_each_sample_depend_on_its_own_numbers_alone() -> None:
    tensors, conditioning = numbered(4, 5)
    seeds = [3, 1, 4, 1]
    kept, given_of = choose_cameras_of_each(
        tensors, conditioning, 3, [torch.Generator().manual_seed(seed) for seed in seeds]
    )
    for row, seed in enumerate(seeds):
        part = slice(row, row + 1)
        alone, given_alone = choose_cameras(
            {"x": tensors["x"][part]},
            {key: value[part] for key, value in conditioning.items()},
            3,
            torch.Generator().manual_seed(seed),
        )
        assert torch.equal(kept["x"][part], alone["x"])
        assert all(torch.equal(given_of[key][part], value) for key, value in given_alone.items())
    assert torch.equal(kept["x"][1] - 100, kept["x"][3] - 300)


def test_a_step_in_parts_has_the_loss_of_the_whole() -> None:
    """Micro-batches of three of 64 samples, the last one smaller, each divided by what the whole step counts."""
    _, example = drawn(dropout=ConditioningDropout(camera=0.4), tasks=TaskSampler(context=0.4, inpainting=0.4))
    weights = torch.rand(B, T, N, H, W, generator=torch.Generator().manual_seed(2))
    parts = split_example(example, 3)
    assert [len(part.tau) for part in parts] == [3] * 21 + [1]
    again = join_examples(parts)
    for name, value in example._asdict().items():
        if name == "conditioning":
            assert again.conditioning.keys() == value.keys()
            for key, one in value.items():
                torch.testing.assert_close(again.conditioning[key], one, rtol=0, atol=0, equal_nan=True)
        else:
            assert torch.equal(getattr(again, name), value), name
    for weight in (None, weights):
        counts = ~example.known_mask & example.camera_mask[:, None, :, None, None]
        total = counted(example, weight)
        torch.testing.assert_close(total.float(), counts.sum().float() if weight is None else weight[counts].sum())
        whole = world_model_loss(Answers(torch.zeros_like(example.target)), example, weight)
        own = [None] * len(parts) if weight is None else list(weight.split(3))
        losses = [
            world_model_loss(Answers(torch.zeros_like(part.target)), part, one, total=float(total))
            for part, one in zip(parts, own, strict=True)
        ]
        torch.testing.assert_close(torch.stack(losses).sum(), whole, rtol=1e-5, atol=0)


def test_a_step_that_counts_nothing_has_no_loss() -> None:
    _, example = drawn(b=2, tasks=TaskSampler(context=0.0, inpainting=0.0))
    nothing = example._replace(known_mask=torch.ones_like(example.known_mask))
    assert counted(nothing) == 0
    assert world_model_loss(Answers(torch.zeros_like(example.target)), nothing, total=0.0).item() == 0


def test_the_total_may_be_small() -> None:
    """Weights of a step can add up to much less than one."""
    _, example = drawn(b=2, tasks=TaskSampler(context=0.0, inpainting=0.0))
    weight = torch.full((2, T, N, H, W), 1e-6)
    model = Answers(torch.zeros_like(example.target))
    got = world_model_loss(model, example, weight, total=float(counted(example, weight)))
    torch.testing.assert_close(got.detach(), example.target.square().mean(), rtol=1e-5, atol=0)


def test_each_sample_is_drawn_by_its_own_numbers() -> None:
    x, conditioning = given(4)
    step = WorldModelStep(context_noise=0.2)
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 1, 4, 1)]
    together = step.draw_each(x, conditioning, generators)
    for row, seed in enumerate((3, 1, 4, 1)):
        part = slice(row, row + 1)
        one = {key: value[part] for key, value in conditioning.items()}
        alone = step.draw(x[part], one, torch.Generator().manual_seed(seed))
        for name in ("noisy", "tau", "known_mask", "camera_mask", "target"):
            assert torch.equal(getattr(together, name)[part], getattr(alone, name)), name
        for key, value in alone.conditioning.items():
            torch.testing.assert_close(together.conditioning[key][part], value, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(together.tau[1], together.tau[3])


def test_holes_follow_the_agents_of_the_conditions() -> None:
    x, conditioning = given()
    agents = torch.full((B, T, N, 1, 13), torch.nan)
    agents[..., :4] = torch.tensor([0.0, 0.0, 0.5 / W, 0.5 / H])
    agents[..., 12] = 0
    step = WorldModelStep(tasks=TaskSampler(context=0.0, inpainting=1.0), dropout=NOTHING_DROPPED)
    example = step.draw(x, conditioning | {"agents": agents}, torch.Generator().manual_seed(1))
    tube = torch.zeros(T, N, H, W).bool()
    tube[..., :2, :2] = True
    assert (example.known_mask == ~tube).flatten(1).all(dim=1).float().mean() > 0.15


def test_all_context_noise_is_as_it_says() -> None:
    """With a share of one, given tokens are mixed with noise of every level up to noise alone; of none, they stay."""
    tasks = TaskSampler(context=1.0, inpainting=0.0)
    (x, clean), (_, noised) = drawn(tasks=tasks), drawn(tasks=tasks, context_noise=1.0)
    assert torch.equal(clean.noisy[clean.known_mask], x[clean.known_mask])
    # noise takes a share s of what was given: their product with x falls to 1 - s
    kept = torch.stack(
        [
            (row * own)[known].sum() / own.square()[known].sum()
            for row, own, known in zip(noised.noisy, x, noised.known_mask, strict=True)
        ]
    )
    assert kept.min() < 0.2
    assert kept.max() > 0.8
    assert kept.mean().item() == pytest.approx(0.5, abs=0.15)
    assert WorldModelStep().context_noise == 0


class Lanes(Condition):
    """A condition of one's own, of which each camera has a row."""

    name = "lanes"
    enters = "tokens"
    keys = {"lanes": Key("b t n k", {"k": 2})}


@pytest.mark.parametrize("each", [False, True])
def test_cameras_of_conditions_of_ones_own_are_chosen_with_the_others(each: bool) -> None:
    tensors, conditioning = numbered(3, 5)
    conditioning["lanes"] = conditioning["timestamps"][..., None].expand(3, T, 5, 2)
    table = standard_conditions().plus([Lanes()])
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    if each:
        kept, given_of = choose_cameras_of_each(tensors, conditioning, 2, generators, table)
    else:
        kept, given_of = choose_cameras(tensors, conditioning, 2, generators[0], table)
    assert torch.equal(given_of["lanes"], kept["x"][:, :, :, 0, 0, :2])


def test_some_samples_have_a_scenario_embedding_alone_and_none_has_both() -> None:
    x, conditioning = given()
    conditioning["scenario_embedding"] = torch.rand(B, 6)
    step = WorldModelStep(dropout=NOTHING_DROPPED, scenario_share=0.3)
    shown = step.draw(x, conditioning, torch.Generator().manual_seed(1)).conditioning
    alone = shown["scenario_embedding"].isfinite().all(dim=1)
    assert 0.1 < alone.float().mean() < 0.5
    assert torch.equal(shown["speed"].isnan().all(dim=1), alone)
    assert torch.equal(shown["metadata"][:, list(METADATA).index("one_way")] == -1, alone)
    assert shown["metadata"][:, list(METADATA).index("weather")].eq(0).all()
    both = WorldModelStep(dropout=NOTHING_DROPPED).draw(x, conditioning, torch.Generator().manual_seed(1)).conditioning
    assert both["scenario_embedding"].isfinite().all()
    assert both["speed"].isfinite().all()
