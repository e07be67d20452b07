"""Scene and Agents: what they accept, what they refuse, and exact JSON."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gaia2.scene import AGENT_CATEGORIES, METADATA, RIG_NAMES, Agents, Scene, named_rig

BOX = [12.0, -3.5, 0.8, 4.5, 1.9, 1.6, 0.1]


def numbers(limit: float) -> st.SearchStrategy[float]:
    return st.floats(-limit, limit) | st.just(np.nan)


@st.composite
def scenes(draw) -> Scene:
    tv, m = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    rig = named_rig(draw(st.sampled_from(RIG_NAMES)))
    steps = draw(hnp.arrays(np.float64, (tv, rig.num_cameras), elements=st.floats(1e-3, 1e3)))
    boxes = draw(hnp.arrays(np.float64, (tv, m, 7), elements=numbers(1e4)))
    sizes = draw(hnp.arrays(np.float64, (tv, m, 3), elements=st.floats(1e-300, 1e3) | st.just(np.nan)))
    boxes[..., 3:6] = sizes
    embedding = st.none() | hnp.arrays(np.float64, st.integers(1, 5), elements=st.floats(-1e6, 1e6))
    return Scene(
        rig=rig,
        timestamps=np.cumsum(steps, axis=0) - draw(st.floats(-1e3, 1e3)),
        speed=draw(hnp.arrays(np.float64, tv, elements=numbers(150))),
        curvature=draw(hnp.arrays(np.float64, tv, elements=numbers(1))),
        agents=Agents(
            boxes,
            draw(hnp.arrays(np.int64, (tv, m), elements=st.integers(-1, len(AGENT_CATEGORIES) - 1))),
            [draw(st.lists(st.integers(0, 2**63 - 1), min_size=m, max_size=m, unique=True)) for _ in range(tv)],
        ),
        metadata=draw(
            st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in METADATA.items()})
        ),
        prompt=draw(st.none() | st.text(max_size=20)),
        clip_embedding=draw(embedding),
        scenario_embedding=draw(embedding),
    )


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_json_round_trip_is_exact(scene):
    text = scene.to_json()
    again = Scene.from_json(text)
    assert again == scene
    assert again.to_json() == text
    for name in ("timestamps", "speed", "curvature"):  # bit for bit, beyond ==, which takes -0.0 for 0.0
        assert np.array_equal(np.signbit(getattr(again, name)), np.signbit(getattr(scene, name)))
    json.loads(text, parse_constant=refuse)
    assert not again.agents.boxes.flags.writeable


@given(scenes())
@settings(max_examples=20, deadline=None)
def test_copies_are_equal(scene):
    assert copy.deepcopy(scene) == scene
    assert pickle.loads(pickle.dumps(scene)) == scene


def test_nan_equals_nan_and_is_null_in_json():
    scene = Scene.create("front", num_frames=2, speed=[np.nan, 1.5], curvature=None)
    data = json.loads(scene.to_json())
    assert data["version"] == 1
    assert data["speed"] == [None, 1.5]
    assert data["curvature"] == [None, None]
    assert scene == Scene.create("front", num_frames=2, speed=[np.nan, 1.5], curvature=None)
    assert scene != scene.replace(speed=[1.0, 1.5])


def test_create_makes_a_regular_scene():
    scene = Scene.create("surround", num_frames=24, frame_rate=20.0, speed=7.0, weather="rain", bus_lane=np.True_)
    np.testing.assert_allclose(scene.timestamps, np.tile(np.arange(24)[:, None] / 20, (1, 5)))
    assert scene.num_frames == scene.agents.num_frames == 24
    assert scene.duration == pytest.approx(23 / 20)
    assert (scene.speed == 7).all()
    assert (scene.curvature == 0).all()
    assert scene.metadata == {"weather": "rain", "bus_lane": True}
    assert Scene.create(named_rig("van"), num_frames=1).duration == 0


def test_what_was_given_is_copied_and_cannot_change():
    speed = np.zeros(3)
    scene = Scene.create("front", num_frames=3, speed=speed, weather="fog")
    speed[:] = 9
    assert (scene.speed == 0).all()
    with pytest.raises(ValueError, match="read-only"):
        scene.speed[0] = 1
    with pytest.raises(TypeError):
        scene.metadata["weather"] = "snow"
    with pytest.raises(AttributeError):
        scene.prompt = "x"


def test_replace_takes_fields_and_metadata():
    scene = Scene.create("surround", num_frames=4, weather="rain", time_of_day="day")
    assert scene.replace(weather="snow").metadata == {"weather": "snow", "time_of_day": "day"}
    assert scene.replace(weather=None).metadata == {"time_of_day": "day"}
    assert scene.replace(metadata={"country": "uk"}, one_way=False).metadata == {"country": "uk", "one_way": False}
    assert scene.replace(speed=None, prompt="a street").prompt == "a street"
    assert np.isnan(scene.replace(speed=None).speed).all()
    assert scene.replace(rig=named_rig("front")).timestamps.shape == (4, 1)
    assert scene.metadata["weather"] == "rain"


def test_window_cuts_everything():
    boxes = np.tile(BOX, (6, 1, 1)) * np.arange(1, 7)[:, None, None]
    scene = Scene.create("front", 6, speed=np.arange(6.0), agents=Agents(boxes, np.zeros((6, 1), int)))
    part = scene.window(2, 5)
    assert part.speed.tolist() == [2, 3, 4]
    np.testing.assert_allclose(part.timestamps[:, 0], [0.2, 0.3, 0.4])
    np.testing.assert_array_equal(part.agents.boxes, boxes[2:5])
    assert scene.window(0, 6) == scene


def test_resample_interpolates_motion_and_takes_the_nearest_agents():
    boxes = np.tile(BOX, (5, 1, 1))
    boxes[:, 0, 0] = np.arange(1, 6)
    scene = Scene.create(
        "front", 5, 10.0, speed=np.arange(5.0), curvature=[0, 0, 0.1, 0.1, np.nan], agents=Agents(boxes, [[0]] * 5)
    )
    new = scene.resample(frame_rate=40.0, num_frames=7, start=0.125)
    times = 0.125 + np.arange(7) / 40
    np.testing.assert_allclose(new.timestamps[:, 0], times)
    np.testing.assert_allclose(new.speed, times * 10)
    np.testing.assert_allclose(new.curvature, np.clip((times - 0.1) * 1.0, 0, 0.1))
    assert new.agents.boxes[:, 0, 0].tolist() == [2, 2, 3, 3, 3, 3, 4]  # halfway: the earlier one
    assert scene.resample(frame_rate=10.0) == scene
    assert np.isnan(scene.resample(frame_rate=20.0).curvature).tolist() == [False] * 7 + [True] * 3
    assert Scene.create("front", 24).resample(frame_rate=20.0).num_frames == 48
    assert scene.resample(frame_rate=5.0).speed.tolist() == [0, 2, 4]


def test_resample_keeps_irregular_cameras_on_one_clock():
    times = np.array([[5.0, 5.02], [5.1, 5.14], [5.2, 5.22]])
    scene = Scene(named_rig("surround3").select(["front", "front_left"]), times, speed=[1.0, 2.0, 3.0])
    new = scene.resample(frame_rate=10.0, num_frames=2)
    np.testing.assert_allclose(new.timestamps, [[5.01, 5.01], [5.11, 5.11]])
    np.testing.assert_allclose(new.speed, [1, 1 + 0.1 / 0.11])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frame_rate": 0.0}, "frame_rate: expected a positive number"),
        ({"frame_rate": np.nan}, "frame_rate: expected a positive number"),
        ({"frame_rate": 10.0, "num_frames": 0}, "num_frames: expected a whole number from 1 to 1000000, got 0"),
        ({"frame_rate": 10.0, "num_frames": 10}, "expected times within the scene, 0 to 0.700 s, got 0.000 to 0.900"),
        ({"frame_rate": 10.0, "start": 2.0}, "expected times within the scene"),
        ({"frame_rate": 10.0, "start": -0.1}, "start: expected seconds from the first frame"),
    ],
)
def test_resample_refuses_times_outside(arguments, message):
    scene = Scene.create("front", num_frames=8, frame_rate=10.0)
    with pytest.raises(ValueError, match=message):
        scene.resample(**arguments)


BACK = np.arange(4.0)[:, None] + np.zeros(5)
BACK[2, 1] = 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"timestamps": BACK}, "camera 'front_left': expected times that increase, got 0.5 s at frame 2 after 1 s"),
        ({"timestamps": [0, 1, 1, 2]}, "camera 'front': expected times that increase"),
        ({"timestamps": [0, 1, np.nan, 2]}, r"timestamps: .*got NaN at index \[2\]"),
        ({"timestamps": np.zeros((4, 3))}, r"timestamps: expected shape \(tv, n=5\), got \(4, 3\)"),
        ({"timestamps": []}, "timestamps: expected at least one frame"),
        ({"timestamps": "now"}, "timestamps: expected an array of numbers, got 'now'"),
        ({"timestamps": [[0, 1], [2]]}, "timestamps: expected an array of numbers"),
        ({"rig": "surround"}, "rig: expected a CameraRig, got str"),
        ({"speed": np.zeros(3)}, r"speed: expected shape \(tv=4,\), got \(3,\)"),
        ({"speed": [0, 0, np.inf, 0]}, r"speed: expected finite numbers.*index \[2\].*NaN for absent"),
        ({"speed": [True, True, False, True]}, "speed: expected an array of numbers"),
        ({"curvature": ["1", "2", "3", "4"]}, "curvature: expected an array of numbers"),
        ({"speed": 500.0}, "speed: expected m/s within ±150, got 500 at index .0.; divide km/h by 3.6"),
        ({"curvature": [0, 0, 3, 0]}, r"curvature: expected 1/m within ±1, got 3 at index \[2\]; give 1 / radius"),
        ({"timestamps": 1e18 * np.arange(1, 5)}, "timestamps: expected seconds .* divide milliseconds by 1e3"),
        ({"metadata": 0}, "metadata: expected names and values as a dict, got int"),
        ({"agents": Agents.empty(5)}, "agents: expected 4 frames as in timestamps, got 5"),
        ({"agents": BOX}, "agents: expected Agents, got list"),
        ({"metadata": {"wether": "rain"}}, "unknown name 'wether'; did you mean 'weather'.*country, weather"),
        ({"metadata": {"weather": "rainy"}}, "weather: unknown value 'rainy'; did you mean 'rain'.*'fog', 'snow'"),
        ({"metadata": {"speed_limit": 45}}, "speed_limit: unknown value 45; did you mean 50"),
        ({"metadata": {"number_of_lanes": True}}, "number_of_lanes: unknown value True"),
        ({"metadata": {"bus_lane": 1}}, "bus_lane: unknown value 1; did you mean .*False, True"),
        ({"metadata": {"one_way": "yes"}}, "one_way: unknown value 'yes'"),
        ({"metadata": ["rain"]}, "metadata: expected names and values as a dict, got list"),
        ({"prompt": 5}, "prompt: expected a string or None, got int"),
        ({"clip_embedding": [[0.0]]}, r"clip_embedding: expected shape \(d,\), got \(1, 1\)"),
        ({"scenario_embedding": [np.nan]}, "scenario_embedding: .*got NaN"),
    ],
)
def test_bad_scene_is_refused(changes, message):
    fields = {"rig": named_rig("surround"), "timestamps": np.arange(4.0)}
    with pytest.raises(ValueError, match=message):
        Scene(**{**fields, **changes})


def test_bad_calls_are_refused():
    scene = Scene.create("front", num_frames=4)
    with pytest.raises(ValueError, match="replace: unknown name 'wether'; did you mean 'weather'"):
        scene.replace(wether="rain")
    with pytest.raises(ValueError, match="expected 0 <= start < stop <= 4"):
        scene.window(2, 5)
    with pytest.raises(ValueError, match="start: expected a whole number, got None"):
        scene.window(None, 3)
    with pytest.raises(ValueError, match=r"frame_rate: expected a positive number of frames a second .*, got None"):
        scene.resample(frame_rate=None)
    with pytest.raises(ValueError, match="unknown name 'suround'; did you mean 'surround'"):
        Scene.create("suround")
    with pytest.raises(ValueError, match="unknown argument 'wether'; did you mean 'weather'"):
        Scene.create("front", wether="rain")
    with pytest.raises(ValueError, match="unknown argument 'num_frame'; did you mean 'num_frames'"):
        Scene.create("front", num_frame=24)
    with pytest.raises(ValueError, match="num_frames: expected a whole number from 1"):
        Scene.create("front", num_frames=0)
    with pytest.raises(ValueError, match="frame_rate: expected a positive number"):
        Scene.create("front", frame_rate=-1)
    with pytest.raises(ValueError, match="rig: expected a CameraRig or the name of a rig, got int"):
        Scene.create(5)


def test_repr_is_short():
    agents = Agents([[BOX, BOX]] * 4, [[0, -1]] * 4)
    scene = Scene.create("front", 4, weather="rain", agents=agents, prompt="a street")
    assert repr(scene) == "Scene(4 frames of front, 0.30 s, up to 1 agents, weather='rain', prompt='a street')"
    assert repr(scene.rig) == "CameraRig(front 448x960)"
    assert repr(agents) == "Agents(4 frames, up to 1 agents)"


def test_import_is_light():
    code = "import sys, gaia2.scene.scene; print(sorted({'torch', 'diffusers', 'pyarrow'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "[]"
