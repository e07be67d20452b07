"""The four tasks of the page: what a visitor asks for, checked at once, and then run on the shared components.

Each call makes a pipeline of its own from the shared components (`from_pipe`), so that what changes during a call is
nobody else's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import reduce

from gaia2._checks import real_number, refuse, whole_number
from gaia2.app.form import Form
from gaia2.app.uploads import match_cameras, read_source
from gaia2.app.worker import Job
from gaia2.models.trained_range import outside
from gaia2.pipelines.base import Gaia2PipelineBase
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.labels import agent_tubes
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline
from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline
from gaia2.pipelines.rollout import windows
from gaia2.pipelines.sampling import Sampling
from gaia2.scene import Scene

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class Scratch:
    """Generate from noise."""


@dataclass(frozen=True)
class Continue:
    """Go on from the end of a video.

    Attributes:
        source: A video file a camera.
        latents: Latents of the end of the source that the result begins with.
    """

    source: tuple[Path, ...]
    latents: int = 1


@dataclass(frozen=True)
class Inpaint:
    """Make the painted part of a video again.

    Attributes:
        source: A video file a camera.
        cells: For each camera the painted cells of its latent grid, row and column.
        agents: Whether the places of the scene's agents are made again as well.
    """

    source: tuple[Path, ...]
    cells: Mapping[str, Sequence[Sequence[int]]]
    agents: bool = False


@dataclass(frozen=True)
class Edit:
    """Change a video to obey the scene.

    Attributes:
        source: A video file a camera.
        strength: Noise level that it is brought to, 0 to 1.
    """

    source: tuple[Path, ...]
    strength: float = 0.7


Task = Scratch | Continue | Inpaint | Edit


@dataclass(frozen=True)
class Settings:
    """How to sample.

    Attributes:
        steps: Denoising steps of a window.
        guidance: Scale of classifier-free guidance; 1 is none.
        seed: Of the noise.
        max_steps: The most that a visitor may ask for.
    """

    steps: int = 20
    guidance: float = 1.0
    seed: int = 0
    max_steps: int = 200

    def __post_init__(self) -> None:
        whole_number("steps", self.steps, 1, self.max_steps)
        real_number("guidance", self.guidance, 0, 100, hint="1 is none, 2 to 20 are usual")
        whole_number("seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True)
class Order:
    """A task that is checked and can be run.

    Attributes:
        run: Makes the video; takes the `Job` that it advances.
        steps: How many steps it takes.
        notes: What the model may not obey, in words.
    """

    run: Callable[[Job], Gaia2PipelineOutput]
    steps: int
    notes: tuple[str, ...] = ()


def prepare(pipe: Gaia2Pipeline, form: Form, settings: Settings, task: Task) -> Order:
    """Check a task, and read the videos that it begins with.

    Args:
        pipe: The components.
        form: The scene.
        settings: How to sample.
        task: What to do.

    Raises:
        ValueError: If anything is wrong with scene, settings or videos.
    """
    scene = form.to_scene()
    own, arguments = _call_of(pipe, scene, form.frame_rate, task)
    own.set_progress_bar_config(disable=True)
    begin = 1 - task.strength if isinstance(task, Edit) else 0.0
    guidance = Guidance(settings.guidance)
    checked = own.validate(scene, Sampling(settings.steps, begin=begin % 1, guidance=guidance))
    given = task.latents if isinstance(task, Continue) else 0
    window = own.transformer.config.window_latents
    plan = list(windows(checked.shape[1], window, checked.sampling.overlap(window), given))
    steps = 0 if begin == 1 else len(plan) * len(checked.scheduler.timesteps)

    def run(job: Job) -> Gaia2PipelineOutput:
        def on_step_end(*_: object) -> None:
            job.advance()

        return own(
            scene,
            **arguments,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            generator=torch.Generator("cpu").manual_seed(settings.seed),
            callback_on_step_end=on_step_end,
        )

    return Order(run, steps, tuple(_notes(own, checked.scenes)))


def _call_of(
    pipe: Gaia2Pipeline, scene: Scene, frame_rate: float, task: Task
) -> tuple[Gaia2PipelineBase, dict[str, Any]]:
    """The pipeline of a task, and what a call of it takes besides the scene."""
    if isinstance(task, Scratch):
        return Gaia2Pipeline.from_pipe(pipe), {}
    size, rate = tuple(pipe.vae.config.sample_size), pipe.vae.frames_per_latent
    if not task.source:
        raise ValueError(
            "source: expected a video of each camera, got none; upload them, or take a result as the source"
        )
    paths = match_cameras(task.source, scene.rig.names)
    if isinstance(task, Continue):
        most = min(pipe.transformer.config.window_latents, scene.num_frames // rate) - 1
        if most < 1:
            raise ValueError(
                f"seconds: expected more than a latent of {rate} frames, {rate / frame_rate:g} s, got no room for "
                "anything new; ask for more"
            )
        given = whole_number("context", task.latents, 1, most, hint="latents, fewer than the video and a window have")
        frames = read_source(paths, size, frame_rate, given * rate, at_end=True)
        return Gaia2Pipeline.from_pipe(pipe), {"context": frames}
    if isinstance(task, Edit):
        real_number("strength", task.strength, 0, 1, what="a noise level", hint="0 changes nothing, 1 all")
        frames = read_source(paths, size, frame_rate, scene.num_frames)
        return Gaia2EditPipeline.from_pipe(pipe), {"video": frames, "strength": task.strength}
    mask = painted_mask(task.cells, scene, grid_of(pipe), size)
    if task.agents:
        mask |= agent_tubes(scene.replace(rig=scene.rig.fit(size)))
    h, w = grid_of(pipe)
    touched = reduce(mask, "(t f) n (h r) (w q) -> t n h w", "max", f=rate, h=h, w=w)
    if not touched.any():
        raise ValueError("mask: expected a painted part of the video, got nothing; paint over what shall be made again")
    if touched.all():
        raise ValueError("mask: expected a part of the video, got all of it; paint less, or generate it from scratch")
    frames = read_source(paths, size, frame_rate, scene.num_frames)
    return Gaia2InpaintPipeline.from_pipe(pipe), {"video": frames, "mask": mask}


def grid_of(pipe: Gaia2Pipeline) -> tuple[int, int]:
    """Rows and columns of the latents of a camera."""
    ratio = pipe.vae.spatial_compression_ratio
    height, width = pipe.vae.config.sample_size
    return height // ratio, width // ratio


def painted_mask(cells: Any, scene: Scene, grid: tuple[int, int], image_size: tuple[int, int]) -> np.ndarray:
    """The mask of painted cells, in all frames.

    Args:
        cells: Camera to its painted cells, row and column each.
        scene: Whose cameras and frames they are.
        grid: Rows and columns of cells `(h, w)`.
        image_size: Pixels `(hv, wv)`.

    Returns:
        Boolean `(tv, n, hv, wv)`.

    Raises:
        ValueError: If there is no such camera or cell.

    Example:
        >>> mask = painted_mask({"front": [[0, 1]]}, Scene.create("front", num_frames=8), (2, 4), (32, 64))
        >>> mask.shape, mask[0, 0].sum(), mask[7, 0, 15, 16]
        ((8, 1, 32, 64), np.int64(256), np.True_)
    """
    if not isinstance(cells, Mapping):
        raise refuse("mask", "painted cells by camera", cells)
    names = scene.rig.names
    small = np.zeros((len(names), *grid), dtype=bool)
    for camera, painted in cells.items():
        if camera not in names:
            raise ValueError(f"mask: expected cameras of the rig, {', '.join(names)}, got {camera!r}; paint it again")
        for cell in painted if isinstance(painted, list | tuple) else [painted]:
            if not isinstance(cell, list | tuple) or len(cell) != 2:
                raise refuse("mask", "cells as row and column", cell)
            row, column = (whole_number("mask", place, 0, size - 1) for place, size in zip(cell, grid))
            small[names.index(camera), row, column] = True
    large = np.repeat(np.repeat(small, image_size[0] // grid[0], axis=1), image_size[1] // grid[1], axis=2)
    return np.broadcast_to(large, (scene.num_frames, *large.shape)).copy()


def _notes(pipe: Gaia2PipelineBase, scenes: Sequence[Scene]) -> list[str]:
    """What the model was not trained on, in words."""
    scene, config, rate = scenes[0], pipe.transformer.config, pipe.vae.frames_per_latent
    untrained = pipe.transformer.untrained(list(scenes))
    notes = [f"The model was not trained on {', '.join(untrained)} and cannot obey it."] if untrained else []
    seconds = scene.duration / (scene.num_frames - 1) * rate if scene.num_frames > rate else float("nan")
    beyond = outside(config.trained_range, scene.rig.num_cameras, [seconds])
    return [*notes, *(f"The scene has {words}." for words in beyond)]
