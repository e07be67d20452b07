from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gaia2.app.drawn_agents import DrawnAgent
from gaia2.app.form import Form
from gaia2.app.studio import FILE_RIG, Limits, Progress, Studio, sight
from gaia2.app.worker import Cancelled
from gaia2.scene import Scene, camera_extrinsics, named_rig
from gaia2.video.files import read_video
from tests.app.helpers import ROAD, controls, tiny_pipeline


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    made = Studio(tiny_pipeline(metadata=ROAD), tmp_path_factory.mktemp("uploads"), Limits(seconds=2.4, steps=50))
    yield made
    made.close()


def last(steps: Iterator[Progress]) -> Progress:
    return list(steps)[-1]


def test_the_drop_downs_are_those_of_the_model(studio: Studio) -> None:
    assert studio.metadata == {
        "weather": ["clear", "snow"], "x_road": ["dry", "wet"], "one_way": [False, True], "x_lane": [0, 1, 2],
    }  # fmt: skip


def test_from_controls_to_files_and_back_to_controls(studio: Studio) -> None:
    car = DrawnAgent("car", 12.0, -2.0, yaw=0.2, speed=3.0)
    form = Form(speed=(2.0, 6.0), curvature=(0.01,), agents=(car,))
    metadata = {"weather": "snow", "x_road": "wet", "one_way": False, "x_lane": 2}
    progress = last(studio.run("a", "generate", controls(drawing=form.drawing(), metadata=metadata)))
    assert progress.result is not None
    assert (progress.done, progress.steps) == (1, 1)
    scene = Scene.load(progress.result.scene)
    assert dict(scene.metadata) == metadata
    assert scene.rig.names == ("front",)
    np.testing.assert_allclose(scene.speed, np.linspace(2, 6, 8))
    assert read_video(progress.result.video)[0].shape[0] == 8
    rig, back = studio.form_of_file(str(progress.result.scene))
    assert rig == scene.rig
    assert back is not None
    assert dict(back.metadata) == metadata
    assert back.speed == pytest.approx((2.0, 6.0))
    assert back.agents[0].speed == pytest.approx(3.0)
    again = studio.form_of(controls(drawing=back.drawing(), rig=FILE_RIG, rig_file=str(progress.result.scene)))
    np.testing.assert_allclose(again.to_scene().agents.boxes, scene.agents.boxes, atol=1e-9)


def test_the_videos_of_a_result_are_a_source(studio: Studio) -> None:
    first = last(studio.run("a", "generate", controls())).result
    assert first is not None
    source = [str(path) for path in first.cameras]
    for name, changes in (
        ("edit", {}),
        ("inpaint", {"mask": {"front": [[0, 0]]}}),
        ("continue", {"seconds": 1.6}),
    ):
        result = last(studio.run("a", name, controls(source=source, **changes))).result
        assert result is not None
        assert len(read_video(result.video)[0]) == (16 if name == "continue" else 8)
    (picture,) = studio.pictures_of(source, controls())
    assert picture["name"] == "front"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture["picture"].partition(",")[2]))), dtype=int)
    assert shown.shape == (32, 64, 3)
    assert abs(shown - read_video(first.cameras[0])[0][0]).mean() < 8
    assert studio.pictures_of([], controls()) == []


def test_the_model_says_how_often_frames_come(studio: Studio, tmp_path: Path) -> None:
    assert studio.frame_rate == 10.0  # nothing is known
    other = Studio(tiny_pipeline(trained_range={"cameras": 5, "seconds": [0.4, 0.4]}), tmp_path)
    assert (other.frame_rate, other.latent_seconds) == (20.0, 0.4)
    assert other.form_of(controls(seconds=0.8)).num_frames == 16
    Scene.create("front", num_frames=20, frame_rate=10.0, speed=np.arange(20)).save(tmp_path / "scene.json")
    form = other.form_of_file(str(tmp_path / "scene.json"))[1]
    assert form is not None
    assert (form.num_frames, form.frame_rate) == (40, pytest.approx(20.0))
    assert form.to_scene().speed[:5].tolist() == [0, 0.5, 1, 1.5, 2]
    other.close()


def test_a_long_scene_file_is_cut(studio: Studio) -> None:
    path = studio.folder / "long.json"
    Scene.create("front", num_frames=100, speed=np.arange(100) / 10).save(path)
    form = studio.form_of_file(str(path))[1]
    assert form is not None
    assert form.num_frames == 24
    np.testing.assert_allclose(form.to_scene().speed, np.arange(24) / 10, atol=1e-9)


def test_a_rig_file(studio: Studio) -> None:
    rig = named_rig("van").select(["front"])
    path = studio.folder / "rig.json"
    path.write_text(json.dumps(rig.to_dict()))
    assert studio.form_of_file(str(path)) == (rig, None)
    assert studio.form_of(controls(rig=FILE_RIG, rig_file=str(path))).to_scene().rig == rig


def test_a_rig_of_too_many_cameras(studio: Studio) -> None:
    rig, path = named_rig("front"), studio.folder / "many.json"
    many = {name: value * 13 for name, value in rig.to_dict().items()}
    path.write_text(json.dumps(many | {"names": [f"c{i}" for i in range(13)]}))
    with pytest.raises(ValueError, match="rig: expected at most 12 cameras, got 13; take some out"):
        studio.form_of_file(str(path))
    with pytest.raises(ValueError, match="rig: expected at most 12 cameras"):
        next(studio.run("a", "generate", controls(rig=FILE_RIG, rig_file=str(path))))


def test_visitors_cancel_their_own_work_only(studio: Studio) -> None:
    slow = controls(steps=50)
    mine, theirs = studio.run("me", "generate", slow), studio.run("them", "generate", slow)
    assert next(mine).steps == 50
    assert next(theirs).ahead in (0, 1)
    assert studio.cancel("nobody") == 0
    assert studio.cancel("me") == 1
    with pytest.raises(Cancelled):
        list(mine)
    assert last(theirs).result is not None
    assert not studio._jobs


def test_leaving_cancels(studio: Studio) -> None:
    steps = studio.run("me", "generate", controls(steps=50))
    next(steps)
    (job,) = studio._jobs["me"]
    steps.close()
    assert job.wait(60)
    assert job.cancelled
    assert not studio._jobs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 3.2}, "seconds: expected at most 2.4, got 3.2; ask for fewer"),
        ({"seconds": "long"}, "seconds: expected seconds above 0, got 'long'"),
        ({"rig": "truck"}, "rig: expected one of surround, .*, got 'truck'"),
        ({"rig": FILE_RIG}, "rig: expected a rig or scene file, got none; upload one, or choose a named rig"),
        ({"rig": FILE_RIG, "rig_file": "/etc/hostname"}, "hostname: expected a file that was uploaded here"),
        ({"metadata": {"weather": "rain"}}, "metadata: weather: unknown value 'rain'"),
        ({"metadata": {"country": "uk"}}, "metadata: unknown name 'country'"),
        ({"steps": 51}, "steps: expected a whole number from 1 to 50, got 51"),
        ({"drawing": "car"}, "drawing"),
        ({"drawing": {"speed": [400], "curvature": None, "agents": []}}, "speed: expected m/s"),
    ],
)
def test_bad_controls(studio: Studio, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        next(studio.run("a", "generate", controls(**changes)))
    assert not studio._jobs


def test_sources_outside_of_the_folder(studio: Studio) -> None:
    for name in ("continue", "edit", "inpaint"):
        with pytest.raises(ValueError, match="passwd: expected a file that was uploaded here"):
            next(studio.run("a", name, controls(source=["/etc/passwd"])))
    with pytest.raises(ValueError, match="passwd: expected a file that was uploaded here"):
        studio.pictures_of(["/etc/passwd"], controls())
    with pytest.raises(ValueError, match="task: expected one of generate, continue, inpaint, edit"):
        next(studio.run("a", "erase", controls()))


def test_what_cameras_see_from_above() -> None:
    rig = named_rig("front").replace(extrinsics=[camera_extrinsics((1.0, 0.0, 1.5), yaw=90.0)])
    ((camera),) = sight(rig, reach=10.0)
    mount, right, left = (np.array(corner) for corner in sorted(camera["corners"], key=lambda corner: corner[1])[:3])
    assert mount.tolist() == [1.0, 0.0]
    angle = np.degrees(np.arccos((right - mount) @ (left - mount) / 100))
    assert angle == pytest.approx(70.0, abs=0.2)
    assert (right + left)[0] / 2 == pytest.approx(1.0, abs=0.02)  # it looks to the left
