from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.app.drawn_agents import DrawnAgent
from gaia2.app.form import Form
from gaia2.app.tasks import Continue, Edit, Inpaint, Scratch, Settings, Task, painted_mask, prepare
from gaia2.app.worker import Cancelled, Job
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline
from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline
from gaia2.scene import Scene
from gaia2.video.files import read_video, write_video
from tests.app.helpers import tiny_pipeline

SETTINGS = Settings(steps=2, guidance=2.0, seed=7)
FORM = Form(rig="front", num_frames=16, agents=(DrawnAgent("car", 25.0, -8.0),), metadata={"weather": "snow"})


@pytest.fixture(scope="module")
def pipe() -> Gaia2Pipeline:
    return tiny_pipeline()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "video_front.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (24, 4, 8, 3), dtype=np.uint8)
    write_video(path, frames.repeat(8, axis=1).repeat(8, axis=2), 10.0)
    return path


def frames_of(path: Path, pick: slice) -> np.ndarray:
    """`(tv, n, 3, hv, wv)` as the pipelines take them."""
    return read_video(path)[0][pick, None].transpose(0, 1, 4, 2, 3)


def ran(pipe: Gaia2Pipeline, task: Task, form: Form = FORM) -> tuple[np.ndarray, Job]:
    order = prepare(pipe, form, SETTINGS, task)
    job = Job(order.run, order.steps)
    return order.run(job).frames, job


def same_noise() -> dict[str, Any]:
    generator = torch.Generator("cpu").manual_seed(7)
    return dict(num_inference_steps=2, guidance_scale=2.0, generator=generator)


def test_scratch_is_a_call_of_the_pipeline(pipe: Gaia2Pipeline) -> None:
    made, job = ran(pipe, Scratch())
    np.testing.assert_array_equal(made, pipe(FORM.to_scene(), **same_noise()).frames)
    assert job.done == job.steps == 2


def test_continue_begins_with_the_end_of_the_source(pipe: Gaia2Pipeline, source: Path) -> None:
    made, job = ran(pipe, Continue((source,), 1))
    context = frames_of(source, slice(-8, None))
    np.testing.assert_array_equal(made, pipe(FORM.to_scene(), context=context, **same_noise()).frames)
    assert job.done == job.steps == 2


def test_a_long_video_has_the_steps_of_all_its_windows(pipe: Gaia2Pipeline) -> None:
    _, job = ran(pipe, Scratch(), Form(rig="front", num_frames=40))
    assert job.done == job.steps == 4  # windows of 3 latents, each with 1 of the one before: 3, then 2


def test_edit(pipe: Gaia2Pipeline, source: Path) -> None:
    made, job = ran(pipe, Edit((source,), 0.5))
    own = Gaia2EditPipeline.from_pipe(pipe)
    video = frames_of(source, slice(0, 16))
    np.testing.assert_array_equal(made, own(FORM.to_scene(), video, 0.5, **same_noise()).frames)
    assert job.done == job.steps
    untouched, job = ran(pipe, Edit((source,), 0.0))
    assert job.done == job.steps == 0
    np.testing.assert_array_equal(untouched, own(FORM.to_scene(), video, 0.0, **same_noise()).frames)


def test_inpaint_paints_cells(pipe: Gaia2Pipeline, source: Path) -> None:
    made, job = ran(pipe, Inpaint((source,), {"front": [[0, 1], [1, 3]]}))
    mask = np.zeros((16, 1, 32, 64), bool)
    mask[..., :16, 16:32] = mask[..., 16:, 48:] = True
    own = Gaia2InpaintPipeline.from_pipe(pipe)
    video = frames_of(source, slice(0, 16))
    np.testing.assert_array_equal(made, own(FORM.to_scene(), video, mask, **same_noise()).frames)
    assert job.done == job.steps == 2
    tubes, _ = ran(pipe, Inpaint((source,), {}, agents=True))
    np.testing.assert_array_equal(tubes, own(FORM.to_scene(), video, agents=[0], **same_noise()).frames)


def test_cancelling_ends_a_call(pipe: Gaia2Pipeline) -> None:
    order = prepare(pipe, FORM, Settings(steps=50), Scratch())
    job = Job(order.run, order.steps)
    job.cancel()
    with pytest.raises(Cancelled):
        order.run(job)
    assert job.done == 0


def test_calls_leave_the_shared_pipeline_alone(pipe: Gaia2Pipeline) -> None:
    before = pipe._state
    ran(pipe, Scratch())
    assert pipe._state is before


@pytest.mark.filterwarnings("ignore:scene")
def test_what_the_model_does_not_know_is_noted() -> None:
    trained = tiny_pipeline(
        trained_conditions=["speed", "camera", "timestamps"], trained_range={"cameras": 1, "seconds": [0.8, 0.8]}
    )
    notes = prepare(trained, FORM, SETTINGS, Scratch()).notes
    assert any("agents" in note and "metadata" in note and "not trained" in note for note in notes)
    form = Form(rig="surround3", num_frames=16, curvature=None)
    notes = prepare(trained, form, SETTINGS, Scratch()).notes
    assert notes == ("The scene has 3 cameras, where it knows up to 1.",)


def test_masks_are_laid_on_the_cameras_of_the_rig() -> None:
    scene = Scene.create("surround3", num_frames=8)
    mask = painted_mask({"front_right": [[1, 2]]}, scene, (2, 4), (32, 64))
    assert mask.shape == (8, 3, 32, 64)
    assert mask.sum() == 8 * 16 * 16
    assert mask[:, 2, 16:, 32:48].all()


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Continue(()), "source: expected a video of each camera, got none; upload them, or take a result as"),
        (Continue(("a",), 2), "context: expected a whole number from 1 to 1, got 2"),
        (Edit((), 0.5), "source: expected a video of each camera"),
        (Edit(("a",), 1.5), "strength: expected a noise level from 0 to 1, got 1.5"),
        (Edit(("a", "a"), 0.5), "source: expected 1 videos, one for each of front, got 2"),
        (Inpaint(("a",), {}), "mask: expected a painted part of the video, got nothing; paint over what shall be made"),
        (Inpaint(("a",), {"front": [[r, c] for r in range(2) for c in range(4)]}), "mask: expected a part of the vide"),
        (Inpaint(("a",), {"rear": [[0, 0]]}), "mask: expected cameras of the rig, front, got 'rear'"),
        (Inpaint(("a",), {"front": [[0, 4]]}), "mask: expected a whole number from 0 to 3, got 4"),
        (Inpaint(("a",), {"front": [3]}), "mask: expected cells as row and column, got 3"),
        (Inpaint(("a",), []), "mask: expected painted cells by camera"),
    ],
)
def test_bad_tasks(pipe: Gaia2Pipeline, task: Task, message: str, source: Path) -> None:
    if not isinstance(task, Scratch) and task.source:
        task = type(task)(**{**vars(task), "source": (source,) * len(task.source)})
    with pytest.raises(ValueError, match=message):
        prepare(pipe, FORM, SETTINGS, task)


def test_bad_settings_and_scenes(pipe: Gaia2Pipeline, source: Path) -> None:
    for values, message in (
        ({"steps": 0}, "steps: expected a whole number from 1 to 200, got 0"),
        ({"steps": 2.5}, "steps"),
        ({"guidance": -1}, "guidance: expected a number from 0 to 100"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=message):
            Settings(**values)
    with pytest.raises(ValueError, match="metadata: weather: unknown value 'hail'"):
        prepare(pipe, Form(metadata={"weather": "hail"}), SETTINGS, Scratch())
    with pytest.raises(ValueError, match="seconds: expected more than a latent of 8 frames"):
        prepare(pipe, Form(rig="front", num_frames=8), SETTINGS, Continue((source,)))
    with pytest.raises(ValueError, match="prompt: expected a pipeline with text_encoder"):
        prepare(pipe, Form(rig="front", num_frames=8, prompt="a tram"), SETTINGS, Scratch())
