"""The examples of docs/own_data.md and docs/data.md run as they stand there, on small drives."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gaia2.data import BuildOptions, build_shards, verify_shards
from gaia2.data.index import Index
from gaia2.data.own_folder import list_logs, read_log
from tests.data.datasets import jpeg, picture, put, write_drive, write_nuscenes

PAGES = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / page).read_text(), flags=re.DOTALL)


def run(code: str, names: dict[str, Any]) -> dict[str, Any]:
    exec(compile(code, "page", "exec"), names)
    return names


def test_your_own_dataset_in_ten_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first, second = blocks("own_data.md")[:2]
    assert len([line for line in first.splitlines() if line.strip()]) <= 12  # ten lines, and two of imports
    cameras = ("front", "rear")
    for number, name in enumerate(cameras):
        for frame in range(30):
            put(tmp_path / name / f"{frame:02d}.jpg", jpeg(picture(number, frame, (64, 128))))
    ahead, t = [[0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], np.arange(4.0)
    names = run(
        first,
        dict(
            names=cameras,
            image_size=(64, 128),
            intrinsics=[[[100, 0, 64], [0, 100, 32], [0, 0, 1]]] * 2,
            extrinsics=[ahead, ahead],
            times={name: np.arange(30) / 10 + 0.01 * number for number, name in enumerate(cameras)},
            paths={name: sorted((tmp_path / name).iterdir()) for name in cameras},
            pose_times=t,  # 1 Hz
            positions=np.stack([7 * t, 0 * t, 0 * t], axis=1),
            quaternions=np.tile([1.0, 0, 0, 0], (4, 1)),
            box_times=t,
            track_ids=np.ones(4, int),
            categories=np.zeros(4, int),
            box_rows=np.stack([25 - 3 * t, 0 * t, 0 * t + 1, 0 * t + 4, 0 * t + 2, 0 * t + 1.5, 0 * t], axis=1),
        ),
    )
    clip = names["clip"]
    np.testing.assert_allclose(clip.scene.speed, 7.0, atol=1e-3)  # from poses of 1 Hz
    when = clip.scene.frame_times + 0.005
    np.testing.assert_allclose(clip.scene.agents.boxes[:, 0, 0], 25 - 3 * when, atol=0.02)  # no jump once a second
    assert verify_shards("shards", progress=False) == []
    video = run(second.replace("pipe(clip.scene)", "pipe(clip.scene, num_inference_steps=2)"), names)["video"]
    assert video.frames.shape == (1, 24, 2, 64, 128, 3)


def test_the_calibration_of_the_page_is_read(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=3, size=(72, 128))
    calibration = json.loads(blocks("own_data.md", "json")[0])
    for camera in calibration["cameras"].values():
        camera["image_size"] = [72, 128]
    put(tmp_path / "calibration.json", json.dumps(calibration))
    rig = read_log(tmp_path, ".").scene.rig
    assert rig.distortion[0, :4].tolist() == [-0.31, 0.11, 0.0002, 0.0001]
    np.testing.assert_allclose(rig.extrinsics[:, :3, 2], [[1, 0, 0], [-1, 0, 0]], atol=1e-9)  # ahead, and back


def test_sampling_and_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        folder = write_drive(tmp_path / "drives" / str(number), frames=24, speed=2.0 + 6 * number)
        put(folder / "places.csv", f"time,latitude,longitude\n0,{48 + number},11\n3,{48 + number},11\n")
    options = BuildOptions(num_frames=12, image_size=(36, 64), pixels="png")
    build_shards("folder", tmp_path / "drives", tmp_path / "shards" / "mine", options, progress=False)
    build_shards("nuscenes", write_nuscenes(tmp_path / "n", scenes=2), "shards/nuscenes", options, progress=False)
    sampling, loading = blocks("data.md")
    sampling = sampling.replace("num_frames=24", "num_frames=8").replace('"mine": 0.5', '"folder": 0.5')
    sampling = sampling.replace("(42.34, -71.06), (42.34, -71.04), (42.36, -71.05)", "(47, 10), (47, 12), (48.5, 11)")
    loading = loading.replace("(448, 960)", "(12, 20)").replace(", 10)", ", 2)")
    loading = loading.replace("num_workers=4, pin_memory=True", "")
    names = run(loading, run(sampling, {}))
    assert {str(clip.source) for clip in names["split"].validation} == {"folder/0"}
    assert names["weights"].probability.sum() == pytest.approx(1)
    assert tuple(names["batch"].frames.shape) == (4, 8, 1, 3, 12, 20)
    assert names["state"]["epoch"] == 1
    assert names["state"]["batches"] == len(names["loader"])


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    write_drive(tmp_path / "data" / "a", frames=50)
    code = blocks("own_data.md")[-1]
    code = re.sub(r"def (list_logs|read_log).*\n", "", code).replace("/data/mine", str(tmp_path / "data"))
    code = code.replace('"shards"', f'"{tmp_path}/shards"').replace(", workers=8", "").replace("(448, 960)", "(18, 32)")
    run(code, {"list_logs": list_logs, "read_log": read_log})
    assert [clip.num_frames for clip in Index.load(tmp_path / "shards").clips] == [48]
