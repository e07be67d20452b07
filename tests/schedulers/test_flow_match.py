from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.schedulers.flow_match import FlowMatchScheduler
from gaia2.schedulers.linear_quadratic import linear_quadratic_schedule

SOLVERS = ("euler", "heun", "adams_bashforth")


@settings(max_examples=60, deadline=None)
@given(
    grid=st.one_of(
        st.tuples(st.sampled_from(["linear_quadratic", "linear", "shifted"]), st.integers(1, 60)),
        st.lists(st.floats(0, 0.999), min_size=1, max_size=8, unique_by=lambda tau: round(tau, 4)).map(sorted),
    ),
    solver=st.sampled_from(SOLVERS),
    shift=st.floats(0.2, 8),
    known=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_the_exact_velocity_leads_to_the_data(grid: Any, solver: str, shift: float, known: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, 2, 3, 4, generator=generator, dtype=torch.float64)
    mask = torch.rand(2, 3, 1, generator=generator) < known
    if isinstance(grid, tuple):
        shifts = dict(shift=shift) if grid[0] == "shifted" else {}
        scheduler = FlowMatchScheduler(grid=grid[0], solver=solver, **shifts)
        scheduler.set_timesteps(grid[1])
    else:
        scheduler = FlowMatchScheduler(solver=solver)
        scheduler.set_timesteps(timesteps=grid)
    start = latents = torch.where(mask, x + 1, scheduler.scale_noise(x, scheduler.timesteps[0], noise))
    for tau in scheduler.timesteps:
        latents = scheduler.step((x - latents) / (1 - tau.double()), tau, latents, known_mask=mask).prev_sample
    kept = mask.expand_as(x)
    assert torch.equal(latents[kept], start[kept])
    torch.testing.assert_close(latents[~kept], x[~kept], atol=1e-5, rtol=0)


def test_a_constant_velocity_is_integrated_over_the_whole_time() -> None:
    scheduler = FlowMatchScheduler()
    start, velocity = torch.randn(2, 3).double(), torch.randn(2, 3).double()
    for steps in (1, 2, 3, 7, 50):
        scheduler.set_timesteps(steps)
        latents = start
        for tau in scheduler.timesteps:
            latents = scheduler.step(velocity, tau, latents).prev_sample
        torch.testing.assert_close(latents, start + velocity, atol=1e-12, rtol=0)


def test_one_step_has_the_width_of_the_grid() -> None:
    scheduler = FlowMatchScheduler(threshold_noise=0.1, linear_steps=3)
    scheduler.set_timesteps(8)
    grid = linear_quadratic_schedule(8, 0.1, 3)
    torch.testing.assert_close(scheduler.timesteps, grid[:-1].float())
    # beginning in the middle, as an editing pipeline does
    latents = scheduler.step(torch.ones(2), scheduler.timesteps[5], torch.zeros(2)).prev_sample
    torch.testing.assert_close(latents, (grid[6] - grid[5]).float().expand(2))
    latents = scheduler.step(torch.ones(2), scheduler.timesteps[6], latents, return_dict=False)[0]
    torch.testing.assert_close(latents, (grid[7] - grid[5]).float().expand(2))


def test_known_tokens_stay_bit_equal() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4)
    sample = torch.randn(2, 5, 3)
    mask = torch.rand(2, 5, 1) < 0.5
    nonsense = torch.where(mask, torch.nan, torch.randn_like(sample))
    moved = scheduler.step(nonsense, 0.0, sample, known_mask=mask).prev_sample
    known = mask.expand_as(sample)
    assert torch.equal(moved[known], sample[known])
    assert (moved != sample)[~known].all()


def test_the_sample_keeps_its_type() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(2)
    assert scheduler.step(torch.ones(2).bfloat16(), 0.0, torch.zeros(2)).prev_sample.dtype == torch.float32


def test_set_timesteps_begins_anew() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(1)
    scheduler.step(torch.ones(1), 0.0, torch.zeros(1))
    with pytest.raises(ValueError, match="step: expected at most 1 steps, got one more; call set_timesteps again"):
        scheduler.step(torch.ones(1), 1.0, torch.zeros(1))
    scheduler.set_timesteps(3)
    assert scheduler.step(torch.ones(1), 0.0, torch.zeros(1)).prev_sample == scheduler.grid[1].float()


def test_scale_noise_is_the_path() -> None:
    x, eps = torch.randn(2, 2, 3).double()
    scheduler = FlowMatchScheduler()
    torch.testing.assert_close(scheduler.scale_noise(x, 0.25, eps), 0.25 * x + 0.75 * eps)
    tau = torch.tensor([0.1, 0.9]).double()
    torch.testing.assert_close(scheduler.scale_noise(x, tau, eps), tau[:, None] * x + (1 - tau[:, None]) * eps)
    torch.manual_seed(0)
    drawn = scheduler.scale_noise(torch.zeros(20_000), 0.25)
    assert drawn.std().item() == pytest.approx(0.75, rel=0.03)


def test_config_goes_to_disk_and_back(tmp_path: Path) -> None:
    FlowMatchScheduler(threshold_noise=0.1, linear_steps=2).save_pretrained(tmp_path)
    loaded = FlowMatchScheduler.from_pretrained(tmp_path)
    loaded.set_timesteps(6)
    torch.testing.assert_close(loaded.grid, linear_quadratic_schedule(6, 0.1, 2), rtol=0, atol=0)


def test_add_noise_is_scale_noise_in_diffusers_order() -> None:
    x, eps = torch.randn(2, 2, 3).double()
    tau = torch.tensor([0.1, 0.9]).double()
    scheduler = FlowMatchScheduler()
    assert torch.equal(scheduler.add_noise(x, eps, tau), scheduler.scale_noise(x, tau, eps))


@pytest.mark.parametrize("solver", SOLVERS)
def test_beginning_in_the_middle(solver: str) -> None:
    scheduler = FlowMatchScheduler(solver=solver)
    scheduler.set_timesteps(10)
    begin = 6 * scheduler.order
    scheduler.set_begin_index(begin)
    assert scheduler.begin_index == begin
    x, noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).double(), torch.ones(2, 3).double()
    latents = scheduler.scale_noise(x, scheduler.grid[6], noise)
    for tau in scheduler.timesteps[begin:]:
        latents = scheduler.step((x - latents) / (1 - tau), tau, latents).prev_sample
    assert scheduler.step_index == len(scheduler.timesteps)
    torch.testing.assert_close(latents, x, atol=1e-5, rtol=0)
    wrong = begin + 1 if solver == "heun" else 10
    with pytest.raises(ValueError, match=f"begin_index: expected a multiple of order={scheduler.order} from 0 to"):
        scheduler.set_begin_index(wrong)


def test_a_grid_that_begins_at_any_flow_time_keeps_its_later_points() -> None:
    scheduler = FlowMatchScheduler(grid="linear")
    scheduler.set_timesteps(10)
    assert scheduler.begin_at(0.33) == 0.33
    assert scheduler.grid.tolist() == pytest.approx([0.33, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    scheduler.set_timesteps(10)
    scheduler.begin_at(0.0)
    assert torch.equal(scheduler.grid, torch.arange(11, dtype=torch.float64) / 10)


def test_each_token_has_its_own_flow_time() -> None:
    scheduler = FlowMatchScheduler(grid="linear")
    scheduler.set_timesteps(4)
    tau = torch.tensor([[0.0, 0.25, 0.6, 1.0]])
    moved = scheduler.step(torch.ones(1, 4, 2), 0.0, torch.zeros(1, 4, 2), per_token_timesteps=tau).prev_sample
    torch.testing.assert_close(moved[0, :, 0], torch.tensor([0.25, 0.25, 0.15, 0.0]))
    for _ in range(3):
        tau = torch.tensor([[0.25, 0.5, 0.75, 1.0]])
        moved = scheduler.step(torch.ones(1, 4, 2), 0.0, moved, per_token_timesteps=tau).prev_sample
    with pytest.raises(ValueError, match=r"per_token_timesteps: expected the first axes of the sample \(1, 4, 2\)"):
        FlowMatchScheduler.step(_laid(), torch.ones(1, 4, 2), 0.0, torch.zeros(1, 4, 2), per_token_timesteps=tau[:, :3])
    with pytest.raises(ValueError, match="per_token_timesteps: expected the solver 'euler', got 'heun'"):
        _laid(solver="heun").step(torch.ones(1, 4), 0.0, torch.zeros(1, 4), per_token_timesteps=torch.zeros(1, 4))


def _laid(**config: Any) -> FlowMatchScheduler:
    scheduler = FlowMatchScheduler(**config)
    scheduler.set_timesteps(4)
    return scheduler


def test_tokens_at_their_own_flow_times_reach_the_data_together() -> None:
    scheduler = _laid(grid="linear")
    x, noise = torch.randn(2, 1, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    tau = torch.tensor([[0.0, 0.25, 0.75, 1.0]]).double()
    latents = scheduler.scale_noise(x, tau, noise)
    for _ in range(4):
        velocity = (x - latents) / (1 - tau[..., None]).clamp(min=1e-9)
        latents = scheduler.step(velocity, 0.0, latents, per_token_timesteps=tau).prev_sample
        tau = (tau + 0.25).clamp(max=1)
    torch.testing.assert_close(latents, x, atol=1e-6, rtol=0)


def test_stochastic_steps_keep_the_variance_and_reach_the_data() -> None:
    x, noise = torch.zeros(20_000).double(), torch.randn(20_000, generator=torch.Generator().manual_seed(0)).double()
    for share in (0.3, 1.0):
        scheduler = _laid(grid="linear", stochasticity=share)
        generator = torch.Generator().manual_seed(1)
        moved = scheduler.step((x - noise) / 1.0, 0.0, noise, generator=generator).prev_sample
        assert moved.std().item() == pytest.approx(0.75, rel=0.02)
        correlation = torch.corrcoef(torch.stack([moved, noise]))[0, 1].item()
        assert correlation == pytest.approx((1 - share**2) ** 0.5, abs=0.03)
        for tau in scheduler.timesteps[1:]:
            moved = scheduler.step((x - moved) / (1 - tau), tau, moved, generator=generator).prev_sample
        torch.testing.assert_close(moved, x, atol=1e-9, rtol=0)


def test_stochastic_steps_follow_their_generators() -> None:
    def run(generator: Any, latents: torch.Tensor | None = None) -> torch.Tensor:
        scheduler, latents = _laid(stochasticity=1.0), torch.ones(2, 3) if latents is None else latents
        for tau in scheduler.timesteps[:2]:
            latents = scheduler.step(-latents, tau, latents, generator=generator).prev_sample
        return latents

    def seeded(seed: int) -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    assert torch.equal(run(seeded(0)), run(seeded(0)))
    one, other = run([seeded(0), seeded(1)]), run([seeded(1), seeded(0)])
    assert torch.equal(one.flip(0), other)
    assert not torch.equal(one, other)
    assert torch.equal(run(seeded(0), torch.tensor(1.0)), run(seeded(0), torch.ones(1))[0])  # a sample without axes


def test_a_loop_of_diffusers_finds_what_it_asks_for() -> None:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(2)
    noise = torch.randn(2, 3)
    assert torch.equal(noise * scheduler.init_noise_sigma, noise)
    assert torch.equal(scheduler.scale_model_input(noise, scheduler.timesteps[0]), noise)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_the_shift_of_another_scheduler_keeps_its_effect(shift: float) -> None:
    """diffusers' sigmas from sigma_max = 1 down are our `1 - tau`."""
    other = FlowMatchEulerDiscreteScheduler(shift=shift)
    ours = FlowMatchScheduler.from_config(other.config)
    assert ours.config.grid == ("linear_quadratic" if shift == 1 else "shifted")
    assert ours.config.shift == shift
    if shift != 1:
        ours.set_timesteps(4)
        other.set_timesteps(sigmas=[1.0, 0.75, 0.5, 0.25])
        torch.testing.assert_close(1 - ours.timesteps, other.sigmas[:-1], atol=1e-6, rtol=0)


def test_a_shift_without_effect_goes_to_no_other_scheduler(tmp_path: Path) -> None:
    """Neither a default nor one that an older file records beside a grid that has none."""
    FlowMatchScheduler().save_pretrained(tmp_path)
    text = (tmp_path / "scheduler_config.json").read_text()
    (tmp_path / "scheduler_config.json").write_text(text.replace('"shift": 1.0', '"shift": 3.0'))
    ours = FlowMatchScheduler.from_pretrained(tmp_path)
    assert ours.config.shift == 1
    for scheduler in (ours, FlowMatchScheduler()):
        assert FlowMatchEulerDiscreteScheduler.from_config(scheduler.config).shift == 1
    shifted = FlowMatchScheduler(grid="shifted")
    assert FlowMatchEulerDiscreteScheduler.from_config(shifted.config).shift == 3
    assert FlowMatchScheduler.from_config(shifted.config).config.shift == 3
    assert FlowMatchScheduler.from_config(shifted.config, grid="linear").config.shift == 1


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_it_knows_how_many_steps_its_grid_has(solver: str) -> None:
    scheduler = FlowMatchScheduler(solver=solver)
    scheduler.set_timesteps(6)
    assert scheduler.num_inference_steps == 6
    scheduler.set_timesteps(timesteps=[0.0, 0.25, 0.5])
    assert scheduler.num_inference_steps == 3


def test_the_defaults_are_the_papers() -> None:
    config = FlowMatchScheduler().config
    assert (config.grid, config.solver, config.threshold_noise) == ("linear_quadratic", "euler", 0.025)
    assert (config.linear_steps, config.stochasticity, config.shift) == (None, 0, 1)


def test_before_a_grid_is_laid_there_is_one_step_from_noise_to_data() -> None:
    scheduler = FlowMatchScheduler()
    assert scheduler.grid.tolist() == [0, 1]
    assert scheduler.timesteps.tolist() == [0]
    assert (scheduler.num_inference_steps, scheduler.step_index, scheduler.begin_index) == (None, None, None)


def test_the_place_on_the_grid_is_counted_and_forgotten_by_a_new_grid() -> None:
    scheduler = _laid()
    assert scheduler.step_index is None
    scheduler.step(torch.ones(1), scheduler.timesteps[1], torch.zeros(1))
    assert scheduler.step_index == 2
    scheduler.set_begin_index(3)
    scheduler.set_timesteps(4)
    assert (scheduler.step_index, scheduler.begin_index) == (None, None)
    for index in (-1, 4, 1.5):
        with pytest.raises(ValueError, match="begin_index: expected"):
            scheduler.set_begin_index(index)
    scheduler.set_begin_index()
    assert scheduler.begin_index == 0


def test_a_shift_that_depends_on_the_size_of_the_image_is_not_taken_for_a_fixed_one() -> None:
    other = FlowMatchEulerDiscreteScheduler(shift=5.0, use_dynamic_shifting=True)
    assert FlowMatchScheduler.from_config(other.config).config.grid == "linear_quadratic"


def test_a_token_moves_to_the_next_point_after_its_own_flow_time() -> None:
    """Also from just before a point, and from a point that was rounded to a little less."""
    tau = torch.tensor([0.0, 0.45, 0.5 - 1e-7, 0.5, 0.99]).double()
    moved = _laid(grid="linear").step(torch.ones(5), 0.0, torch.zeros(5), per_token_timesteps=tau).prev_sample
    torch.testing.assert_close(moved, torch.tensor([0.25, 0.05, 0.25, 0.25, 0.01]), atol=1e-6, rtol=0)


def test_a_mask_broadcasts_from_the_right() -> None:
    mask = torch.tensor([True, False, True])
    moved = _laid().step(torch.ones(2, 3), 0.0, torch.zeros(2, 3), known_mask=mask).prev_sample
    assert (moved != 0).tolist() == [[False, True, False]] * 2


def test_a_sample_without_axes_has_one_generator() -> None:
    scheduler, one = _laid(grid="linear"), torch.tensor(1.0)
    with pytest.raises(ValueError, match="generator: expected one, or one for each of 1 samples, got 2"):
        scheduler.step(one, 0.0, one, generator=[torch.Generator(), torch.Generator()])
    assert scheduler.step(one, 0.0, one, generator=[torch.Generator()]).prev_sample.item() == 1.25


def test_stochastic_steps_of_tokens_at_their_own_flow_times() -> None:
    """Each as a step of a grid that begins at its flow time."""
    x = torch.randn(2, 50, generator=torch.Generator().manual_seed(0))
    velocity = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    tau = torch.tensor([0.25, 0.5])
    got = _laid(grid="linear", stochasticity=0.6).step(
        velocity, 0.0, x, per_token_timesteps=tau, generator=torch.Generator().manual_seed(2)
    )
    fresh = torch.randn(2, 50, generator=torch.Generator().manual_seed(2))
    for row, now in enumerate((0.25, 0.5)):
        data, noise = x[row] + (1 - now) * velocity[row], x[row] - now * velocity[row]
        then = now + 0.25
        expected = then * data + (1 - then) * (0.8 * noise + 0.6 * fresh[row])
        torch.testing.assert_close(got.prev_sample[row], expected, atol=1e-5, rtol=0)
