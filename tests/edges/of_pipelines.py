"""Bad arguments for calls of the pipelines."""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import numpy as np
import torch

from gaia2.env import Gaia2Env
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline
from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline
from gaia2.pipelines.sampling import Sampling
from gaia2.scene import Scene
from tests.edges.bad_values import choice, count, either, flag, image_size, instance, number, of, tensor
from tests.edges.calls import Target
from tests.pipelines.helpers import pipeline, with_agents

TWO = with_agents(Scene.create("front", num_frames=16))
ONE = with_agents(Scene.create("front", num_frames=8))


@cache
def shared(cls: type) -> Any:
    return pipeline(cls)


def call(cls: type, method: str = "__call__") -> Any:
    def run(**arguments: Any) -> Any:
        with contextlib.redirect_stderr(None):
            result = getattr(shared(cls), method)(**arguments)
            return list(result) if method == "stream" else result

    return run


def video(frames: int = 8) -> torch.Tensor:
    return torch.zeros(frames, 1, 3, 32, 64)


def mask() -> np.ndarray:
    given = np.zeros((8, 1, 32, 64), dtype=bool)
    given[..., 32:] = True
    return given


NO_FRAMES = ("x", 5, [1], {}, video(7), video()[:, :0], video()[..., :30, :], torch.full((8, 1, 3, 32, 64), 255.0),
             torch.full((8, 1, 3, 32, 64), torch.nan), video().to(torch.int64), video().to(torch.complex64),
             np.zeros((8, 1, 3, 32, 64), dtype=object), np.array("x"), torch.zeros(2, 3))  # fmt: skip
FRAMES = of(None, *NO_FRAMES)
SHARED = {
    "scene": either(
        instance(),
        of([], "surround", [1, 2], Scene.create("front", num_frames=5), [ONE, TWO], Scene.create("van"), ONE.rig),
    ),
    "num_videos_per_scene": count(1, 1024),
    "num_inference_steps": count(1, 10_000),
    "timesteps": of("now", [], [0.5, 0.2], [-0.1], [2.0], [float("nan")], 5, {}, [None]),
    "guidance_scale": number(0, 1000, optional=True),
    "guidance_on": of("weather", (), ("wether",), 5, (5,), {}, ("speeds", "agents"), [None]),
    "guidance_region": choice(optional=True),
    "guidance_interval": of(
        None, 0.5, (0.5,), (0.5, 0.2), (0.0, 1.5), (-0.1, 1.0), ("a", "b"), (0.1, float("nan")), "01"
    ),
    "guider": instance(optional=True),
    "num_context_latents": count(1, 2, optional=True),
    "image_size": image_size(optional=True, multiple=16),
    "generator": of(0, 5, "seed", [0], [], [torch.Generator()] * 3, np.random.default_rng(0), {}, 1.5),
    "latents": tensor(optional=True),
    "output_type": choice(),
    "callback_on_step_end": of(5, "f", [], {}),
    "callback_on_step_end_tensor_inputs": of(None, ["noise"], "noise", 5, [5], {}, ["latents", "x"]),
    "sample_posterior": flag,
}
NAMES = {
    "scene": ("latents", "video"),  # which do not fit it
}


def steps(**more: Any) -> dict[str, Any]:
    noise = torch.randn(1, 1, 1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    return dict(scene=ONE, num_inference_steps=1, latents=noise, output_type="np", **more)


def with_context() -> dict[str, Any]:
    return dict(scene=TWO, num_inference_steps=1, context=video())


GENERATE = {**SHARED, "context_noise": number(0, 0.999), "reanchor": flag}
CONTEXT = {"context": of(*NO_FRAMES, video(16), video(0))}


def environment() -> dict[str, Any]:
    return dict(pipe=shared(Gaia2Pipeline), scene=ONE, latents_per_step=1, speed_range=(0.0, 40.0), max_curvature=0.1)


def drive(action: Any) -> Any:
    env = Gaia2Env(shared(Gaia2Pipeline), TWO, sampling=Sampling(num_inference_steps=1))
    with contextlib.redirect_stderr(None):
        env.reset(seed=0)
        return env.step(action)


TARGETS = [
    Target("pipe", call(Gaia2Pipeline), steps, GENERATE, NAMES),
    Target("pipe", call(Gaia2Pipeline), with_context, CONTEXT),
    Target("pipe.stream", call(Gaia2Pipeline, "stream"), steps, GENERATE, NAMES),
    Target("pipe.edit", call(Gaia2EditPipeline), lambda: steps(video=video(), strength=0.5),
           {**SHARED, "video": FRAMES, "strength": number(0, 1)}, NAMES),
    Target("pipe.inpaint", call(Gaia2InpaintPipeline), lambda: steps(video=video(), mask=mask()),
           {**SHARED, "video": FRAMES, "mask": of("x", 5, [1], mask()[:7], mask() & False, mask() | True, mask() * 0.5,
                                                  mask() * 7, np.full((8, 1, 32, 64), np.nan), torch.zeros(3), {}),
            "agents": of("car", 5, [99], [1.5], ["7"], {}, [None], [True]),
            "dilation": count(0, 16_384)}, NAMES),
    Target("Sampling", Sampling, dict, {"num_inference_steps": count(1, 10_000), "begin": number(0, 0.999),
                                        "context_noise": number(0, 0.999), "reanchor": flag,
                                        "guidance": instance()}),
    Target("Guidance", Guidance, dict, {"scale": number(0, 1000, optional=True)}, {"scale": ("guidance_scale",)}),
    Target("Gaia2Env", Gaia2Env, lambda: environment(), {
        "scene": instance(), "latents_per_step": count(1, 2), "max_curvature": number(0, 1, open_low=True),
        "speed_range": of(None, 5, (1.0,), (5.0, 1.0), ("a", "b"), (0.0, float("nan")), (0.0, 1e9), {}),
        "render_mode": choice(optional=True), "sampling": instance(optional=True), "reward": of(5, "x", [])}),
    Target("env.step", drive, lambda: dict(action=(5.0, 0.01)), {"action": of(
        None, "left", (), (5.0,), (5.0, 0.0, 0.0), (float("nan"), 0.0), (500.0, 0.0), (5.0, 3.0), ("a", 0.0), {})}),
    Target("check_components", call(Gaia2Pipeline, "__init__"), lambda: components(), {"vae": instance(optional=True),
           "transformer": instance(optional=True), "default_guidance_scale": number(0, 1000)}),
]  # fmt: skip


def components() -> dict[str, Any]:
    made = pipeline()
    return dict(vae=made.vae, transformer=made.transformer, scheduler=made.scheduler)
