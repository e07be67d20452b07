from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler

from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.sampling import Sampling
from gaia2.schedulers.diffusers_adapter import DiffusersFlowAdapter
from gaia2.schedulers.flow_match import FlowMatchScheduler


@pytest.mark.parametrize(
    ("scheduler", "sampling", "times"),
    [
        (FlowMatchScheduler(grid="linear"), Sampling(4), [0.0, 0.25, 0.5, 0.75]),
        (FlowMatchScheduler(grid="linear", solver="heun"), Sampling(2), [0.0, 0.5, 0.5]),
        (FlowMatchScheduler(grid="linear"), Sampling(4, begin=0.6), [0.6, 0.75]),
        (FlowMatchScheduler(), Sampling(timesteps=(0.1, 0.4), begin=0.2), [0.2, 0.4]),
        (FlowMatchEulerDiscreteScheduler(), Sampling(timesteps=(0.0, 0.4, 0.8)), [0.0, 0.4, 0.8]),
        (FlowMatchEulerDiscreteScheduler(), Sampling(timesteps=(0.0, 0.4, 0.8), begin=0.3), [0.4, 0.8]),
    ],
)
def test_the_grid_is_laid_on_a_copy(scheduler: Any, sampling: Sampling, times: list[float]) -> None:
    before = {
        name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in vars(scheduler).items()
    }
    laid = sampling.lay(scheduler)
    assert laid.timesteps.tolist() == pytest.approx(times, abs=1e-6)
    assert vars(scheduler).keys() == before.keys()
    for name, value in vars(scheduler).items():
        same = torch.equal(value, before[name]) if isinstance(value, torch.Tensor) else value == before[name]
        assert same, name


def test_a_scheduler_in_its_adapter_stays_as_it_is() -> None:
    adapter = DiffusersFlowAdapter(FlowMatchEulerDiscreteScheduler())
    laid = Sampling(3).lay(adapter)
    assert laid is not adapter
    assert laid.inner is not adapter.inner
    assert not hasattr(adapter, "timesteps")


@pytest.mark.parametrize(("given", "window", "overlap"), [(None, 6, 3), (None, 3, 1), (1, 6, 1), (5, 6, 5)])
def test_overlap(given: int | None, window: int, overlap: int) -> None:
    assert Sampling(num_context_latents=given).overlap(window) == overlap


def test_sampling_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Sampling().num_inference_steps = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Sampling(0), "num_inference_steps: expected a whole number from 1 to 10000, got 0"),
        (lambda: Sampling(begin=1.0), "begin: expected a flow time from 0 to below 1, got 1.0"),
        (lambda: Sampling(begin=float("nan")), "begin: expected a flow time .* got nan"),
        (lambda: Sampling(context_noise=1.0), "context_noise: expected a noise level from 0 to below 1, got 1.0"),
        (lambda: Sampling(num_context_latents=6).overlap(6), "num_context_latents: expected 1 to 5, got 6"),
        (lambda: Sampling(num_context_latents=0).overlap(6), "num_context_latents: expected 1 to 5, got 0"),
        (lambda: Sampling(timesteps=(0.5, 0.2)).lay(FlowMatchScheduler()), "timesteps: expected flow times that rise"),
        (
            lambda: Sampling(timesteps=(0.0, 0.2)).lay(FlowMatchHeunDiscreteScheduler()),
            "timesteps: expected a scheduler that takes a grid, got FlowMatchHeunDiscreteScheduler",
        ),
        (lambda: Sampling().lay(DDIMScheduler()), "scheduler: expected FlowMatchScheduler or a flow scheduler of diff"),
    ],
)
def test_bad_sampling_is_refused(make: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_what_sampling_is_by_default() -> None:
    """The paper's 50 steps, a sample of the posterior, and nothing that the paper does not do."""
    sampling = Sampling()
    assert (sampling.num_inference_steps, sampling.timesteps, sampling.begin) == (50, None, 0.0)
    assert sampling.guidance == Guidance()
    assert (sampling.num_context_latents, sampling.context_noise) == (None, 0.0)
    assert (sampling.reanchor, sampling.sample_posterior) == (False, True)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (dict(num_inference_steps=10_001), "num_inference_steps: expected a whole number from 1 to 10000, got 10001"),
        (dict(begin=-0.1), "begin: expected a flow time from 0 to below 1"),
        (dict(context_noise=-0.1), "context_noise: expected a noise level from 0 to below 1"),
        (dict(reanchor=1), "reanchor: expected True or False, got 1"),
        (dict(sample_posterior="no"), "sample_posterior: expected True or False, got 'no'"),
        (dict(guidance=3.0), "guidance: expected a Guidance, got"),
        (dict(num_context_latents=1.5), "num_context_latents: expected a whole number, got"),
    ],
)
def test_each_value_is_checked(given: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Sampling(**given)


def test_with_flow_times_of_ones_own_the_number_of_steps_does_not_matter() -> None:
    assert Sampling(num_inference_steps=0, timesteps=(0.0, 0.5)).lay(FlowMatchScheduler()).timesteps.tolist() == [
        0,
        0.5,
    ]


def test_the_grid_lies_where_it_is_asked_for() -> None:
    for sampling in (Sampling(3), Sampling(timesteps=(0.0, 0.5)), Sampling(3, begin=0.5)):
        assert sampling.lay(FlowMatchScheduler(), device="meta").timesteps.device.type == "meta"
