"""Waymo Open Dataset v2: a miniature segment in the official layout, genuine calibration and poses where at hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gaia2.conditioning.lens import project_points
from gaia2.data.recording import Recording
from gaia2.data.waymo import OPENCV_FROM_WAYMO, WAYMO_CAMERAS, list_logs, load_waymo, read_log, read_poses, read_rig
from gaia2.scene import DISTORTION_MODELS
from tests.data.datasets import SEGMENT, SIZE, which, write_waymo

pa = pytest.importorskip("pyarrow", reason="needs pyarrow (the datasets extra)")
pq = pytest.importorskip("pyarrow.parquet")

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
POSES = SHARED / "waymo_v2" / "vehicle_pose" / "10023947602400723454_1120_000_1140_000.parquet"
SAMPLE = SHARED / "waymo_sample" / "sample.json"
needs_poses = pytest.mark.skipif(not POSES.is_file(), reason=f"no genuine Waymo poses at {POSES}")
needs_sample = pytest.mark.skipif(not SAMPLE.is_file(), reason=f"no genuine Waymo frame at {SAMPLE}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_waymo(tmp_path_factory.mktemp("waymo"))


@pytest.fixture(scope="module")
def recording(root: Path) -> Recording:
    return read_log(root, SEGMENT)


def test_rig(root: Path, recording: Recording) -> None:
    assert list_logs(root) == [SEGMENT]
    rig = recording.scene.rig
    assert rig.names == WAYMO_CAMERAS
    assert rig.image_size.tolist() == [list(SIZE)] * 3 + [[24, 64]] * 2
    assert rig.distortion[0].tolist() == [0.04, -0.3, 0.001, -0.002, 0, 0, 0, 0]
    # x forward, y left, z up became z forward, x right, y down
    expected = [[0, 0, 1, 1.7], [-1, 0, 0, 0], [0, -1, 0, 2.1], [0, 0, 0, 1]]
    np.testing.assert_allclose(rig.extrinsics[2], expected, atol=1e-12)


def test_frames_motion_and_boxes(recording: Recording) -> None:
    scene = recording.scene
    np.testing.assert_allclose(scene.timestamps, np.arange(10)[:, None] / 10 + 0.05 + np.arange(5) / 100, atol=1e-6)
    np.testing.assert_allclose(scene.speed, 6.0, atol=1e-3)
    np.testing.assert_allclose(scene.curvature, 0.0, atol=1e-4)
    assert scene.agents.category.tolist() == [[0]] * 10  # the sign is left out
    np.testing.assert_allclose(scene.agents.boxes[:9, 0], [[20, -3, 1, 4.5, 1.9, 1.6, 0.2]] * 9, atol=1e-5)
    assert dict(scene.metadata) == {"country": "us", "weather": "clear", "time_of_day": "night"}
    assert recording.source.notes["location"] == "location_sf"
    with pytest.raises(
        ValueError, match=r"image_size: expected a \(height, width\) to bring cameras of several sizes to"
    ):
        recording.clip(3, 9)
    clip = recording.clip(3, 9, image_size=(20, 40))
    assert [[which(picture) for picture in frame] for frame in clip.frames] == [
        [(camera, frame) for camera in range(5)] for frame in range(3, 9)
    ]


def test_a_part(root: Path) -> None:
    scene = load_waymo(root, SEGMENT, cameras=["side_left"], num_frames=4, start=0.2)
    assert scene.rig.names == ("side_left",)
    np.testing.assert_allclose(scene.timestamps[:, 0], np.arange(4) / 10, atol=1e-6)


def test_the_test_split_has_no_boxes(tmp_path: Path) -> None:
    root = write_waymo(tmp_path, frames=4)
    for component in ("lidar_box", "stats"):
        (root / component / f"{SEGMENT}.parquet").unlink()
    scene = load_waymo(root, SEGMENT)
    assert scene.agents.max_agents == 0
    assert dict(scene.metadata) == {"country": "us"}


def rewrite(path: Path, name: str, values: list | None) -> None:
    table = pq.read_table(path)
    place = table.column_names.index(name)
    table = table.drop_columns([name])
    pq.write_table(table if values is None else table.add_column(place, name, pa.array(values)), path)


def test_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_waymo(tmp_path, frames=4)
    images = root / "camera_image" / f"{SEGMENT}.parquet"
    recording = read_log(root, SEGMENT)
    rows = pq.read_table(images).column("[CameraImageComponent].image").to_pylist()
    rewrite(images, "[CameraImageComponent].image", [row[:50] for row in rows])
    with pytest.raises(ValueError, match=r"camera front, picture 0: expected a picture, got a damaged one"):
        read_log(root, SEGMENT).clip(0, 4, image_size=(20, 40))
    data = images.read_bytes()
    images.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"5313_150_5333_150\.parquet: expected a parquet file, got a damaged one"):
        read_log(root, SEGMENT)
    assert recording.scene.num_frames == 4
    rewrite(root / "camera_calibration" / f"{SEGMENT}.parquet", "[CameraCalibrationComponent].intrinsic.k3", None)
    with pytest.raises(ValueError, match=r"got none named \[CameraCalibrationComponent\]\.intrinsic\.k3"):
        read_log(root, SEGMENT)
    (root / "vehicle_pose" / f"{SEGMENT}.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="no file vehicle_pose/"):
        read_log(root, SEGMENT)
    with pytest.raises(FileNotFoundError, match="expected Waymo Open Dataset v2"):
        list_logs(tmp_path / "none")
    with pytest.raises(ValueError, match=r"cameras: expected names of front, .*, got 'rear'"):
        read_log(write_waymo(tmp_path / "b", frames=3), SEGMENT, cameras=["rear"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'gaia2\[datasets\]'"):
        read_rig(root / "camera_calibration" / f"{SEGMENT}.parquet", ["front"])


@needs_poses
def test_genuine_poses() -> None:
    poses, origin = read_poses(POSES)
    assert (len(poses.times), origin) == (199, 1_552_440_195_362_591)
    speed, _ = poses.motion(poses.times)
    driven = np.linalg.norm(np.diff(poses.position, axis=0), axis=1).sum()
    assert np.trapezoid(np.abs(speed), poses.times) == pytest.approx(driven, abs=0.05)  # 7.6 m, nearly standing
    steps = np.linalg.norm(np.diff(poses.position, axis=0), axis=1) / np.diff(poses.times)
    assert np.quantile(np.abs(speed[1:] / 2 + speed[:-1] / 2 - steps), 0.95) < 0.02


@needs_sample
def test_genuine_calibration_projects_as_opencv_does(tmp_path: Path) -> None:
    """The genuine numbers in the official layout, against OpenCV on the raw matrices."""
    data = json.loads(SAMPLE.read_text())["cameras"]
    order = [name.upper() for name in WAYMO_CAMERAS]
    prefix = "[CameraCalibrationComponent]."
    lens = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
    columns = {f"{prefix}intrinsic.{name}": [data[c]["intrinsic"][i] for c in order] for i, name in enumerate(lens)}
    mounts = pa.array([data[c]["extrinsic"] for c in order], pa.list_(pa.float64(), 16))
    table = {
        "key.camera_name": [1, 2, 3, 4, 5],
        **columns,
        prefix + "extrinsic.transform": mounts,
        prefix + "width": [data[c]["width"] for c in order],
        prefix + "height": [data[c]["height"] for c in order],
    }
    pq.write_table(pa.table(table), tmp_path / "calibration.parquet")
    rig = read_rig(tmp_path / "calibration.parquet", WAYMO_CAMERAS)
    points = np.random.default_rng(0).uniform((-3, -1, 6), (3, 1, 60), (50, 3))  # in the camera's frame, ours
    for camera, name in enumerate(order):
        fx, fy, cx, cy, k1, k2, p1, p2, k3 = data[name]["intrinsic"]
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        expected, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array([k1, k2, p1, p2, k3]))
        ours = project_points(
            torch.tensor(points),
            torch.tensor(rig.intrinsics[camera]),
            torch.tensor(rig.distortion[camera]),
            torch.tensor(DISTORTION_MODELS.index(rig.distortion_model[camera])),
        )
        np.testing.assert_allclose(ours.numpy(), expected[:, 0], atol=2e-12)
        world = rig.extrinsics[camera] @ np.r_[points[0], 1]
        theirs = np.reshape(data[name]["extrinsic"], (4, 4)) @ (OPENCV_FROM_WAYMO @ np.r_[points[0], 1])
        np.testing.assert_allclose(world, theirs, atol=1e-6)
