"""Few-step distillation against flows whose ends are known in closed form."""

from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.dropout import drop_all
from gaia2.training.few_steps import distance, few_step_loss, follow, frozen_velocity, teacher_times
from tests.tiny import conditioning, world_model

SHAPE = (2, 3, 1, 2, 2, 4)


def noise(seed: int = 0) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_teacher_divides_long_steps_only_and_meets_the_students_grid() -> None:
    grid = [0.0, 0.01, 0.3, 1.0]
    times = teacher_times(grid, 4)
    assert [len(way) - 1 for way in times] == [1, 4, 4]  # no shorter than a twelfth, but for the step itself
    assert [way[0] for way in times] == grid[:-1]
    assert [way[-1] for way in times] == grid[1:]
    assert torch.tensor(times[2]).diff() == pytest.approx(torch.full((4,), 0.175))
    assert teacher_times([0.0, 0.5, 1.0], 1) == [[0.0, 0.5], [0.5, 1.0]]
    with pytest.raises(ValueError, match="teacher_steps"):
        teacher_times(grid, 0)


def test_a_student_that_is_the_teacher_loses_nothing_on_straight_ways_and_something_on_bent_ones() -> None:
    data = noise(1)
    times = [0.2, 0.4, 0.5, 1.0]

    def straight(x: torch.Tensor, tau: float) -> torch.Tensor:
        return (data - x) / (1 - tau)

    loss, end = few_step_loss(straight, straight, noise(), times)
    assert loss < 1e-25
    assert torch.allclose(end, data)

    def bent(x: torch.Tensor, tau: float) -> torch.Tensor:
        return -x

    loss, end = few_step_loss(bent, bent, noise(), times)
    mean = ((1 - 0.2) * (1 - 0.1) * (1 - 0.5) - 1) / 0.8  # of each number, by Euler's three steps
    assert loss.item() == pytest.approx(float(((mean + 1) * noise()).square().mean()))
    assert torch.allclose(end, 0.2 * noise())


def test_the_best_student_gets_in_one_step_to_where_the_flow_of_a_turning_teacher_ends() -> None:
    turn = torch.tensor([[0.0, 1.0, 0, 0], [-1.0, 0, 0, 0], [0, 0, 0.3, 0], [0, 0, 0, -2.0]], dtype=torch.float64)
    matrix = torch.zeros(4, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([matrix], max_iter=50, line_search_fn="strong_wolfe")
    times = torch.linspace(0, 1, 201, dtype=torch.float64).tolist()

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = few_step_loss(lambda x, tau: x @ matrix, lambda x, tau: x @ turn, noise(), times)
        loss.backward()
        return loss

    optimizer.step(closure)
    _, end = few_step_loss(lambda x, tau: x @ matrix, lambda x, tau: x @ turn, noise(), times)
    expected = noise() @ torch.linalg.matrix_exp(turn)
    assert (end - expected).abs().max() < 0.03  # Euler's error of the teacher
    assert (end - noise() @ torch.matrix_power(torch.eye(4) + turn / 200, 200)).abs().max() < 1e-3


def test_given_tokens_stay_and_have_no_gradient_and_the_teacher_has_none() -> None:
    known = torch.zeros(SHAPE[:-1], dtype=torch.bool)
    known[:, 0] = True
    known[1, 1, 0, 1] = True
    guess, taught = noise(1).requires_grad_(), noise(2).requires_grad_()
    loss, end = few_step_loss(lambda x, tau: guess, lambda x, tau: taught - x, noise(), [0.0, 0.5, 1.0], known)
    loss.backward()
    assert guess.grad is not None
    assert not guess.grad[known].any()
    assert guess.grad[~known].all()
    assert taught.grad is None
    assert not end.requires_grad
    assert torch.equal(end[known], noise()[known])
    assert torch.equal(end[~known], (noise() + guess.detach())[~known])
    target = follow(lambda x, tau: taught.detach() - x, noise(), [0.0, 0.5, 1.0]) - noise()
    assert loss.item() == pytest.approx(float((guess.detach() - target)[~known].square().mean()))


def test_a_guided_teacher_follows_the_formula_of_guidance() -> None:
    model = world_model()
    given = {key: value.float() if value.is_floating_point() else value for key, value in conditioning(2, 3, 1).items()}
    free = drop_all(given, model.conditions)
    x = noise().float()
    known = torch.zeros(SHAPE[:-1], dtype=torch.bool)
    known[:, 0] = True
    tau = torch.full((2,), 0.3)
    with torch.no_grad():
        first = model(x, tau, given, known_mask=known).sample
        second = model(x, tau, free, known_mask=known).sample
    plain = frozen_velocity(model, given, (2, 2), known)(x, 0.3)
    guided = frozen_velocity(model, given, (2, 2), known, free=free, scale=3.0)(x, 0.3)
    assert torch.allclose(plain, first, atol=1e-6)
    assert torch.allclose(guided, 3 * first - 2 * second, atol=1e-5)
    assert (guided - plain).abs().max() > 1e-3
    assert not guided.requires_grad


def test_the_distance_is_of_each_sample() -> None:
    one = torch.zeros(2, 3, 4)
    other = torch.stack([torch.full((3, 4), 2.0), torch.zeros(3, 4)])
    assert distance(one, other).tolist() == [2.0, 0.0]
