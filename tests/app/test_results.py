from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from gaia2.app.results import remove_old, tiles_of, write_result
from gaia2.pipelines.output import Gaia2PipelineOutput
from gaia2.scene import Agents, Scene
from gaia2.video.files import read_video


def output(rig: str = "surround") -> Gaia2PipelineOutput:
    """Cameras of one grey each, and a bus ahead that takes most of the front picture's height."""
    boxes = np.tile([9.0, 0, 1.6, 11.0, 2.6, 3.2, 0], (8, 1, 1))
    scene = Scene.create(rig, num_frames=8, agents=Agents(boxes, np.full((8, 1), 2)))
    scene = scene.replace(rig=scene.rig.fit(image_size=(64, 128)))
    grey = (np.arange(scene.rig.num_cameras) + 1)[:, None, None, None] / 10
    return Gaia2PipelineOutput(np.zeros((1, 8, scene.rig.num_cameras, 64, 128, 3)) + grey, [scene])


def test_all_files_of_a_result(tmp_path: Path) -> None:
    made = output("surround3")
    result = write_result(made, tmp_path)
    cameras = [f"video_{name}.mp4" for name in made.camera_names]
    assert [path.name for path in result.files] == ["video.mp4", "video_boxes.mp4", "scene.json", *cameras]
    assert sorted(result.video.parent.iterdir()) == sorted(result.files)
    assert result.video.parent.parent == tmp_path / "results"
    assert Scene.load(result.scene) == made.scenes[0]
    for index, path in enumerate(result.cameras):
        frames, rate = read_video(path)
        assert (frames.shape, rate) == ((8, 64, 128, 3), 10.0)
        np.testing.assert_allclose(frames, 25.5 * (index + 1), atol=3)
    assert write_result(made, tmp_path).video.parent != result.video.parent


def test_tiles_are_where_the_mosaic_has_them(tmp_path: Path) -> None:
    made = output()
    result = write_result(made, tmp_path)
    mosaic = read_video(result.video)[0][0]
    height, width = mosaic.shape[:2]
    assert abs(result.tiles["size"] - width / height) < 0.02
    for index, camera in enumerate(result.tiles["cameras"]):
        left, top, across, down = camera["tile"]
        middle = mosaic[int((top + down / 2) * height), int((left + across / 2) * width)]
        np.testing.assert_allclose(middle, 25.5 * (index + 1), atol=4)
        assert camera["name"] == made.camera_names[index]


def test_boxes_are_where_the_overlay_has_them() -> None:
    made = output()
    boxes = tiles_of(made)["boxes"]
    assert len(boxes) == 8
    front = [box for box in boxes[3] if box[0] == 0]
    ((_, category, x, y, width, height),) = front
    assert category == 2
    drawn = (made.overlay()[3, 0] != made.pixels()[3, 0]).any(axis=-1)
    rows, columns = np.nonzero(drawn)
    np.testing.assert_allclose([x * 128, (x + width) * 128], [columns.min(), columns.max() + 1], atol=1)
    np.testing.assert_allclose([y * 64, (y + height) * 64], [rows.min(), rows.max() + 1], atol=1)


def test_what_is_old_goes(tmp_path: Path) -> None:
    old, new, upload = tmp_path / "results" / "old", tmp_path / "results" / "new", tmp_path / "abcdef"
    for folder in (old, new, upload):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    yesterday = time.time() - 100_000
    for folder in (old, upload):
        os.utime(folder, (yesterday, yesterday))
    remove_old(tmp_path, 3600)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "new", "results"]
