from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gaia2.scene import Agents, Scene
from gaia2.video.files import read_video
from gaia2.viz import sample as sample_module
from gaia2.viz.sample import box_labels, save_sample

H, W = 32, 64


def example() -> tuple[np.ndarray, Scene, np.ndarray]:
    scene = Scene.create("surround3", num_frames=8, frame_rate=20.0)
    category = np.array([[0, 5]] * 8)
    agents = Agents(np.tile([12.0, 0, 1, 4, 2, 1.5, 0.5], (8, 2, 1)), category, [[7, -1]] * 8)
    scene = scene.replace(rig=scene.rig.fit((H, W)), agents=agents, weather="snow")
    ramp = np.linspace(0, 255, 8 * 3).reshape(8, 3, 1, 1, 1)
    boxes = np.full((8, 3, 2, 13), np.nan)
    boxes[..., 12] = -1
    boxes[2, 1, 0] = [0.25, 0.5, 0.75, 1.0, 1, 2, 12, 4, 2, 1.5, np.sin(0.5), np.cos(0.5), 0]
    boxes[2, 1, 1] = [*[np.nan] * 4, 3, 1, 9, *[np.nan] * 5, 5]
    return np.broadcast_to(ramp, (8, 3, H, W, 3)).astype(np.uint8), scene, boxes


def test_a_sample_is_videos_scene_and_boxes(tmp_path: Path) -> None:
    frames, scene, boxes = example()
    folder = save_sample(tmp_path / "new" / "clip", frames, scene, boxes, frame_rate=20.0)
    assert sorted(p.name for p in folder.iterdir()) == [
        "boxes.json", "front.mp4", "front_left.mp4", "front_right.mp4", "scene.json",
    ]  # fmt: skip
    for index, name in enumerate(scene.rig.names):
        video, rate = read_video(folder / f"{name}.mp4")
        assert rate == 20.0
        assert np.abs(video.astype(int) - frames[:, index]).max() <= 6
    assert Scene.load(folder / "scene.json") == scene
    labels = json.loads((folder / "boxes.json").read_text())
    assert labels["image_size"] == [H, W]
    assert [len(frame) for frame in labels["cameras"]["front_left"]] == [0, 0, 2, 0, 0, 0, 0, 0]
    assert not any(labels["cameras"]["front"] + labels["cameras"]["front_right"])
    car, walker = labels["cameras"]["front_left"][2]
    assert car == dict(
        row=0, track_id=7, category="car", box=[16.0, 16.0, 48.0, 32.0], centre=[1.0, 2.0, 12.0], size=[4.0, 2.0, 1.5],
        yaw=0.5,
    )  # fmt: skip
    assert walker == dict(
        row=1, track_id=None, category="pedestrian", box=[None] * 4, centre=[3.0, 1.0, 9.0], size=[None] * 3, yaw=None
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["clip"]


def test_nothing_is_left_of_a_sample_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(sample_module, "write_video", fail)
    frames, scene, boxes = example()
    with pytest.raises(OSError, match="the disk is full"):
        save_sample(tmp_path / "clip", frames, scene, boxes, frame_rate=20.0)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_another_one_left_alone(tmp_path: Path) -> None:
    frames, scene, boxes = example()
    (tmp_path / "empty").mkdir()
    save_sample(tmp_path / "empty", frames, scene, boxes, frame_rate=20.0)
    with pytest.raises(FileExistsError, match="expected a folder that is not there or empty; choose another one"):
        save_sample(tmp_path / "empty", frames, scene, boxes, frame_rate=20.0)


@pytest.mark.parametrize(("frames", "boxes"), [(slice(0, 7), slice(None)), (slice(None), slice(0, 7))])
def test_frames_scene_and_boxes_must_fit(tmp_path: Path, frames: slice, boxes: slice) -> None:
    video, scene, labels = example()
    with pytest.raises(ValueError, match=r"save_sample: expected frames and boxes .* of the scene's 8 frames, got"):
        save_sample(tmp_path / "clip", video[frames], scene, labels[boxes], frame_rate=10.0)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_strict_json() -> None:
    frames, scene, boxes = example()
    labels = box_labels(boxes, scene, (H, W))
    assert json.loads(json.dumps(labels, allow_nan=False)) == labels
