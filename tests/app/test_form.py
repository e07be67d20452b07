from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.app.drawn_agents import DrawnAgent
from gaia2.app.form import Form, choices, frames_of, read_drawing
from gaia2.scene import METADATA, Agents, Scene, named_rig

curves = st.none() | st.lists(st.floats(-0.2, 0.2).map(lambda v: round(v, 4)), min_size=1, max_size=5).map(tuple)


def test_knots_are_spread_over_the_video() -> None:
    scene = Form(num_frames=9, speed=(0.0, 8.0, 0.0), curvature=None).to_scene()
    assert scene.speed.tolist() == [0, 2, 4, 6, 8, 6, 4, 2, 0]
    assert np.isnan(scene.curvature).all()
    np.testing.assert_allclose(scene.frame_times, np.arange(9) / 10)
    assert Form(num_frames=1, speed=(3.0,)).to_scene().speed.tolist() == [3.0]


def test_the_rest_of_the_form_is_the_scenes() -> None:
    form = Form(rig="van", metadata={"weather": "fog", "one_way": False}, prompt="a tram")
    scene = form.to_scene()
    assert scene.rig == named_rig("van")
    assert dict(scene.metadata) == {"weather": "fog", "one_way": False}
    assert scene.prompt == "a tram"
    assert Form().to_scene().prompt is None


@given(speed=curves, curvature=curves, num_frames=st.integers(6, 24))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_comes_back(speed: Any, curvature: Any, num_frames: int) -> None:
    car = DrawnAgent("car", 12.0, -2.0, yaw=0.3, speed=4.0)
    form = Form(num_frames=num_frames, speed=speed, curvature=curvature, agents=(car,), metadata={"country": "uk"})
    scene = form.to_scene()
    back = Form.from_scene(scene)
    assert len(back.speed or ()) <= max(len(speed or ()), num_frames)
    again = back.to_scene()
    np.testing.assert_allclose(again.speed, scene.speed, atol=1e-6)
    np.testing.assert_allclose(again.curvature, scene.curvature, atol=1e-6)
    np.testing.assert_allclose(again.timestamps, scene.timestamps, atol=1e-9)
    np.testing.assert_allclose(again.agents.boxes, scene.agents.boxes, atol=1e-5)
    assert (
        again.replace(speed=scene.speed, curvature=scene.curvature, agents=scene.agents, timestamps=scene.timestamps)
        == scene
    )
    drawing = json.loads(json.dumps(back.drawing(), allow_nan=False))
    assert read_drawing(drawing) == {"speed": back.speed, "curvature": back.curvature, "agents": back.agents}


def test_a_curve_of_any_shape_comes_back() -> None:
    speed = np.random.default_rng(0).uniform(0, 20, 48)
    back = Form.from_scene(Scene.create("front", num_frames=48, speed=speed, frame_rate=20.0))
    np.testing.assert_allclose(back.to_scene().speed, speed)
    assert back.frame_rate == pytest.approx(20.0)
    assert back.curvature == (0.0,)


def test_agents_of_a_scene_without_motion_move_relative_to_the_vehicle() -> None:
    boxes = np.tile([20.0, 0, 0.8, 4.5, 1.9, 1.6, 0], (8, 1, 1))
    boxes[:, 0, 0] += np.arange(8) * 0.5
    scene = Scene.create("front", 8, speed=None, curvature=None, agents=Agents(boxes, np.zeros((8, 1), int)))
    form = Form.from_scene(scene)
    assert form.agents[0].speed == pytest.approx(5.0)
    assert form.speed is None
    np.testing.assert_allclose(form.to_scene().agents.boxes, boxes, atol=1e-9)


def test_choices_are_those_of_the_vocabulary() -> None:
    assert choices(METADATA) == {name: list(values) for name, values in METADATA.items()}


def test_frames_fill_latents() -> None:
    assert [frames_of(seconds, 10.0, 8) for seconds in (0.1, 0.8, 1.1, 1.3, 2.4)] == [8, 8, 8, 16, 24]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"speed": (400.0,)}, "speed: expected m/s from -150 to 150, got 400"),
        ({"speed": ()}, "speed: expected 1 to 10000 numbers in m/s, or none"),
        ({"curvature": ("x",)}, "curvature: expected 1/m"),
        ({"agents": (DrawnAgent("car", 1, 1),) * 65}, "agents: expected at most 64, got 65"),
        ({"prompt": "a" * 1001}, "prompt: expected at most 1000 letters"),
    ],
)
def test_bad_forms(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Form(**fields)


@pytest.mark.parametrize(
    ("drawing", "message"),
    [
        (None, "drawing: "),
        ({"speed": None, "curvature": None}, "drawing: .*agents"),
        ({"speed": None, "curvature": None, "agents": {}}, "agents: expected at most 64 agents in a list"),
        ({"speed": None, "curvature": None, "agents": [{"category": "car", "x": 0}]}, "agent 1: .*y"),
    ],
)
def test_bad_drawings(drawing: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_drawing(drawing)


def test_a_number_where_a_curve_belongs() -> None:
    with pytest.raises(ValueError, match="speed: expected 1 to 10000 numbers"):
        Form(**read_drawing({"speed": 3, "curvature": None, "agents": []}))


def test_the_form_needs_numpy_only() -> None:
    code = "import gaia2.app.form, sys; print(sorted({'torch', 'gradio', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
