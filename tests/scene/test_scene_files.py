"""Scene files: written whole or not at all, and refused with a reason."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from gaia2.scene import Agents, Scene


@pytest.fixture
def scene() -> Scene:
    agents = Agents([[[5.0, 1, 1, 4, 2, 1.5, np.nan]]] * 3, [[0]] * 3, [[4]] * 3)
    return Scene.create("surround", num_frames=3, agents=agents, prompt="eine Straße", weather="fog", speed_limit=50)


def change(scene: Scene, **changes) -> str:
    return json.dumps({**scene.to_dict(), **changes})


def test_save_and_load(scene, tmp_path):
    path = tmp_path / "scene.json"
    scene.save(path)
    assert Scene.load(path) == scene
    scene.replace(weather="snow").save(str(path))
    assert Scene.load(str(path)).metadata["weather"] == "snow"
    assert os.listdir(tmp_path) == ["scene.json"]


def test_a_failed_save_leaves_the_old_file(scene, tmp_path, monkeypatch):
    path = tmp_path / "scene.json"
    scene.save(path)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        scene.replace(weather="snow").save(path)
    assert Scene.load(path) == scene
    assert os.listdir(tmp_path) == ["scene.json"]


def test_a_short_file_by_hand_is_enough():
    text = '{"version": 1, "rig": "surround3", "timestamps": [0, 0.1], "metadata": {"weather": null}, "speed": 5}'
    scene = Scene.from_json(text)
    assert scene.rig.num_cameras == 3
    assert scene.speed.tolist() == [5, 5]
    assert scene.metadata == {}
    assert scene.agents == Agents.empty(2)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"scene file: expected a JSON file .* found none at .*none\.json"):
        Scene.load(tmp_path / "none.json")
    with pytest.raises(FileNotFoundError, match="found none at"):
        Scene.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected strict JSON"),
        ("{", "expected strict JSON"),
        ("[" * 100_000, "expected strict JSON"),
        ('{"version": NaN}', "expected strict JSON, got text that is not .NaN is not JSON, use null"),
        ('{"version": 1, "speed": -Infinity}', "-Infinity is not JSON"),
        ("[]", "scene: expected an object with the keys version, rig, timestamps, got list"),
        ("{}", "scene: expected the key 'version'"),
    ],
)
def test_text_that_is_no_scene(text, message):
    with pytest.raises(ValueError, match=message):
        Scene.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"version": 2}, "scene: expected version 1, got 2; write the file again"),
        ({"version": "1"}, "expected version 1, got '1'"),
        ({"version": True}, "expected version 1, got True"),
        ({"speed": [True, 1.0, 2.0]}, "speed: expected an array of numbers, got .True, 1.0, 2.0. .values of type bool"),
        ({"metadata": 0}, "metadata: expected names and values as a dict, got int"),
        ({"speeds": 1}, "scene: unknown key 'speeds'; did you mean 'speed'"),
        ({"rig": "suround"}, "unknown name 'suround'; did you mean 'surround'"),
        ({"rig": {"names": ["front"]}}, "rig: expected the key 'image_size'"),
        ({"timestamps": [0, None, 1]}, r"timestamps: .*got NaN at index \[1\]"),
        ({"timestamps": {"a": 1}}, "timestamps: expected an array of numbers"),
        ({"speed": [1e308 * 10, 0, 0]}, "expected strict JSON, got text that is not"),
        ({"speed": [10**400, 0, 0]}, "speed: expected an array of numbers"),
        ({"speed": ["1", None, 0]}, "speed: expected an array of numbers"),
        ({"agents": []}, "agents: expected an object with the keys boxes, category"),
        ({"agents": {"boxes": [[[1, 2]]], "category": [[0]]}}, r"boxes: expected shape \(tv, m, 7\)"),
        ({"metadata": {"weather": "rainy"}}, "weather: unknown value 'rainy'; did you mean 'rain'"),
        ({"metadata": 5}, "metadata: expected names and values as a dict, got int"),
    ],
)
def test_files_that_are_no_valid_scene(scene, tmp_path, changes, message):
    path = tmp_path / "scene.json"
    path.write_text(change(scene, **changes))
    with pytest.raises(ValueError, match=message) as caught:
        Scene.load(path)
    assert str(path) in str(caught.value)


def test_a_number_too_large_for_a_float_is_infinite(scene):
    text = scene.to_json().replace('"speed": [10.0', '"speed": [1e999')
    with pytest.raises(ValueError, match="speed: expected finite numbers"):
        Scene.from_json(text)


def test_a_key_that_stands_there_twice(scene):
    with pytest.raises(
        ValueError, match=r"expected strict JSON, got text that is not .the key 'speed' stands there more than once"
    ):
        Scene.from_json(scene.to_json().replace('"speed"', '"speed": 3, "speed"'))


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "scene.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"scene\.json: expected a scene as JSON in UTF-8, got other bytes"):
        Scene.load(path)


def test_a_device_is_written_to_and_not_replaced(scene):
    scene.save("/dev/null")
    assert os.stat("/dev/null").st_rdev == os.makedev(1, 3)
