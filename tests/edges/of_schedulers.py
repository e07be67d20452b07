"""Bad numbers, grids and tensors for the schedulers."""

from __future__ import annotations

import math
from typing import Any

import torch

from gaia2.schedulers import BimodalLogitNormal, FlowMatchScheduler, interpolate, linear_quadratic_schedule, velocity
from gaia2.schedulers.grids import custom_grid, flow_grid
from tests.edges.bad_values import choice, count, either, number, of, tensor
from tests.edges.calls import Target

SHARE = number(0, 1)
OPEN = number(0, 1, open_low=True)
GRID = of(
    None, "now", [], [0.5, 0.2], [0.0, 0.0, 0.5], [-0.1, 0.5], [0.2, 1.5], [math.nan], 5, [0.1, "x"], [None], {}, 1j
)
TIME = either(of(-1.0, 1000, 1.5, math.nan, math.inf, "x", [], {}, 1j, torch.tensor(2.0), torch.tensor(math.nan)))
STEPS = count(1, 10_000)


def step(**arguments: Any) -> Any:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4)
    return scheduler.step(**arguments)


def rand(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def sample_times(**arguments: Any) -> Any:
    return BimodalLogitNormal().sample(**arguments)


TARGETS = [
    Target(
        "FlowMatchScheduler",
        FlowMatchScheduler,
        lambda: dict(threshold_noise=0.025, grid="shifted", shift=3.0, solver="euler", stochasticity=0.0),
        {
            "threshold_noise": OPEN,
            "linear_steps": count(0, 10_000, optional=True),
            "grid": choice(),
            "shift": number(0, optional=True, open_low=True),
            "solver": choice(),
            "stochasticity": SHARE,
        },
    ),
    Target(
        "scheduler.set_timesteps",
        lambda **arguments: FlowMatchScheduler().set_timesteps(**arguments),
        lambda: dict(num_inference_steps=4),
        {"num_inference_steps": either(STEPS, of(None))},
    ),
    Target(
        "scheduler.set_timesteps",
        lambda **arguments: FlowMatchScheduler().set_timesteps(**arguments),
        lambda: dict(timesteps=[0.0, 0.5]),
        {"timesteps": GRID},
    ),
    Target(
        "scheduler.begin_at", lambda tau: _laid().begin_at(tau), lambda: dict(tau=0.5), {"tau": either(SHARE, of(1.0))}
    ),
    Target(
        "scheduler.set_begin_index",
        lambda begin_index: _laid().set_begin_index(begin_index),
        lambda: dict(begin_index=1),
        {"begin_index": count(0, 3)},
    ),
    Target(
        "scheduler.step",
        step,
        lambda: dict(
            model_output=rand(1, 2, 3),
            timestep=0.0,
            sample=rand(1, 2, 3),
            known_mask=torch.ones(1, 2, 1, dtype=torch.bool),
        ),
        {
            "model_output": tensor(),
            "timestep": TIME,
            "sample": tensor(),
            "known_mask": of("x", 5, torch.ones(1, 2, 1), torch.ones(3, 2, 1, dtype=torch.bool), torch.ones(5).bool()),
            "per_token_timesteps": of("x", 0.5, torch.zeros(2), torch.full((1, 2), math.nan), torch.full((1,), 7.0)),
            "generator": of("x", 5, [5], [torch.Generator()] * 2),
        },
        {"sample": ("model_output",), "known_mask": ("sample",)},
    ),
    Target(
        "scheduler.scale_noise",
        lambda **arguments: FlowMatchScheduler().scale_noise(**arguments),
        lambda: dict(sample=rand(2, 3), timestep=0.5, noise=rand(2, 3)),
        {"sample": tensor(rank=False), "timestep": TIME, "noise": tensor(rank=False, optional=True)},
        {"sample": ("noise",)},
    ),
    Target(
        "linear_quadratic_schedule",
        linear_quadratic_schedule,
        lambda: dict(num_steps=4, threshold_noise=0.1, linear_steps=2),
        {"num_steps": either(STEPS, of(2)), "threshold_noise": OPEN, "linear_steps": count(0, 3, optional=True)},
        {"num_steps": ("linear_steps",)},
    ),
    Target(
        "flow_grid",
        flow_grid,
        lambda: dict(name="shifted", num_steps=4, shift=3.0),
        {"name": choice(), "num_steps": STEPS, "shift": number(0, open_low=True)},
        {"name": ("grid",), "num_steps": ("num_inference_steps",)},
    ),
    Target("custom_grid", custom_grid, lambda: dict(timesteps=[0.0, 0.5]), {"timesteps": GRID}),
    Target(
        "BimodalLogitNormal",
        BimodalLogitNormal,
        lambda: dict(mean=0.5, std=1.0, secondary_mean=-3.0, secondary_std=1.0, secondary_probability=0.2),
        {
            "mean": number(),
            "std": number(0),
            "secondary_mean": number(),
            "secondary_std": number(0),
            "secondary_probability": SHARE,
        },
    ),
    Target("BimodalLogitNormal.sample", sample_times, lambda: dict(batch_size=3), {"batch_size": count(0, 10**7)}),
    Target(
        "interpolate",
        interpolate,
        lambda: dict(x=rand(2, 3), eps=rand(2, 3), tau=torch.tensor([0.1, 0.2])),
        {
            "x": tensor(rank=False),
            "eps": tensor(rank=False),
            "tau": of(None, "x", [0.1], torch.zeros(3), torch.zeros(2, 3, 4)),
        },
        {"x": ("eps",)},
    ),
    Target(
        "velocity",
        velocity,
        lambda: dict(x=rand(2, 3), eps=rand(2, 3)),
        {"x": tensor(rank=False), "eps": tensor(rank=False)},
        {"x": ("eps",)},
    ),
]


def _laid() -> FlowMatchScheduler:
    scheduler = FlowMatchScheduler()
    scheduler.set_timesteps(4)
    return scheduler
