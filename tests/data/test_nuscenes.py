"""nuScenes: a miniature one in the official layout, and genuine keyframes where they are at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from gaia2.conditioning.projection import project_boxes
from gaia2.data.nuscenes import NUSCENES_CAMERAS, list_logs, load_nuscenes, read_log
from gaia2.data.recording import Recording
from gaia2.scene import AGENT_CATEGORIES
from tests.data.datasets import SPEED, YAW_RATE, nuscenes_pose, which, write_nuscenes

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
REAL, SAMPLE = SHARED / "nuscenes_mini2", SHARED / "nuscenes_sample"
genuine = pytest.mark.skipif(not (REAL.is_dir() and SAMPLE.is_dir()), reason=f"no genuine nuScenes keyframes at {REAL}")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nuscenes(tmp_path_factory.mktemp("nuscenes"), scenes=2)


@pytest.fixture(scope="module")
def recording(root: Path) -> Recording:
    return read_log(root, "scene-0001")


def test_scenes_and_rig(root: Path, recording: Recording) -> None:
    assert list_logs(root) == ["scene-0001", "scene-0002"]
    rig = recording.scene.rig
    assert rig.names == NUSCENES_CAMERAS
    assert rig.intrinsics[4].tolist() == [[54, 0, 32], [0, 54, 18], [0, 0, 1]]
    expected = [[0, 0, 1, 1.9], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]]
    np.testing.assert_allclose(rig.extrinsics[4], expected, atol=1e-12)


def test_frames_are_the_front_cameras_sweeps_with_the_nearest_of_the_others(recording: Recording) -> None:
    scene = recording.scene
    assert scene.num_frames == 19
    times = np.arange(19)[:, None] / 12 + np.arange(6) * 0.005
    np.testing.assert_allclose(scene.timestamps, times, atol=1e-6)
    clip = recording.clip(2, 10)
    assert clip.frames.shape == (8, 6, 3, 36, 64)
    assert [[which(picture) for picture in frame] for frame in clip.frames] == [
        [(camera, frame) for camera in range(6)] for frame in range(2, 10)
    ]
    assert recording.source.notes["largest_camera_offset"] == pytest.approx(0.025, abs=1e-5)


def test_motion_of_the_poses(recording: Recording) -> None:
    np.testing.assert_allclose(recording.scene.speed, SPEED, atol=0.02)
    np.testing.assert_allclose(recording.scene.curvature, YAW_RATE / SPEED, rtol=0.02)


def test_boxes_at_keyframes_and_between(recording: Recording) -> None:
    scene, agents = recording.scene, recording.scene.agents
    car, other = (AGENT_CATEGORIES.index(name) for name in ("car", "other"))
    for frame in range(19):
        t = scene.frame_times[frame]
        place, (w, _, _, z) = nuscenes_pose(t)
        yaw = 2 * np.arctan2(z, w)
        back = np.array([[np.cos(yaw), np.sin(yaw), 0], [-np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
        expected = {
            car: (back @ (np.array([620 + 4 * t, 1605, 0.8]) - place), [4.5, 1.9, 1.6], -yaw),
            other: (back @ (np.array([610, 1598, 0.3]) - place), [0.3, 0.3, 0.7], 1 - yaw),
        }
        assert sorted(agents.category[frame].tolist()) == [car, other]
        for kind, (centre, size, turn) in expected.items():
            box = agents.boxes[frame][agents.category[frame] == kind][0]
            np.testing.assert_allclose(box[:3], centre, atol=2e-3)  # the poses lie 1 ms apart and are interpolated
            np.testing.assert_allclose(box[3:6], size)
            assert box[6] == pytest.approx(turn, abs=1e-4)


def test_words_become_metadata(root: Path, recording: Recording) -> None:
    assert recording.scene.prompt == "Turn left, parked cars"
    assert dict(recording.scene.metadata) == {"country": "us", "time_of_day": "day"}
    night = load_nuscenes(root, "scene-0002", num_frames=8)
    assert dict(night.metadata) == {"country": "us", "weather": "rain", "time_of_day": "night"}
    assert recording.source.dataset == "nuscenes"
    assert recording.source.time == pytest.approx(1_533_151_603.5)
    assert recording.positions is not None
    assert np.abs(recording.positions - (42.351, -71.051)).max() < 0.002


def test_motion_of_the_can_bus(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path, keyframes=3, can=True)
    scene = load_nuscenes(root, "scene-0001", cameras=["CAM_BACK", "front"])
    assert scene.rig.names == ("back", "front")
    np.testing.assert_allclose(scene.speed, 7.0)
    np.testing.assert_allclose(scene.curvature, 0.02)
    (root / "can_bus" / "scene-0001_pose.json").write_text("[{}]")
    recording = read_log(root, "scene-0001")
    np.testing.assert_allclose(recording.scene.speed, SPEED, atol=0.03)
    assert any("motion taken from the poses" in note for note in recording.notes)


def test_a_camera_that_drops_pictures_is_reported(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path, keyframes=2)
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([row for row in rows if row["token"] not in ("data-0-CAM_BACK-0", "data-0-CAM_BACK-1")]))
    recording = read_log(root, "scene-0001")
    assert recording.scene.num_frames == 5
    assert recording.notes == ("2 of 7 frames of 'front' left out: 'back' has no picture within 0.042 s",)


def edit(root: Path, table: str, **changes: object) -> None:
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    rows[0].update(changes)
    path.write_text(json.dumps([{k: v for k, v in row.items() if v is not None} for row in rows]))


@pytest.mark.parametrize(
    ("table", "changes", "message"),
    [
        ("sample_annotation", {"sample_token": "gone"}, r"sample_annotation\.json: expected rows of the table sample"),
        ("sample_annotation", {"rotation": [2.0, 0, 0, 0]}, r"sample_annotation\.json: expected unit quaternions"),
        ("sample_data", {"filename": None}, r"sample_data\.json: expected 'filename' in every row"),
        ("ego_pose", {"token": "other"}, r"ego_pose\.json: expected a pose for each picture"),
        ("instance", {"category_token": "ufo"}, r"instance\.json: expected rows of the table category"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, table: str, changes: dict, message: str) -> None:
    root = write_nuscenes(tmp_path, keyframes=2)
    edit(root, table, **changes)
    with pytest.raises(ValueError, match=message):
        read_log(root, "scene-0001")


def test_missing_and_truncated_tables(tmp_path: Path) -> None:
    root = write_nuscenes(tmp_path, keyframes=2)
    path = root / "v1.0-mini" / "sample.json"
    text = path.read_text()
    for cut in (len(text) // 2, len(text) - 1, 1):
        path.write_text(text[:cut])
        with pytest.raises(ValueError, match=r"sample\.json: expected a whole JSON list, it ends or is damaged"):
            read_log(root, "scene-0001")
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"sample\.json: expected a JSON list of rows"):
        read_log(root, "scene-0001")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no table sample\.json"):
        read_log(root, "scene-0001")
    with pytest.raises(FileNotFoundError, match=r"expected nuScenes, v1\.0-<split>/ with"):
        list_logs(tmp_path / "nowhere")


def test_other_bad_input(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected one of its 2 scenes with keyframes, got 'scene-0099'"):
        read_log(root, "scene-0099")
    with pytest.raises(ValueError, match=r"expected cameras of back, back_left, .*, got 'top'"):
        read_log(root, "scene-0001", cameras=["top"])
    other = write_nuscenes(tmp_path, keyframes=2)
    recording = read_log(other, "scene-0001")
    picture = next((other / "sweeps" / "CAM_BACK").iterdir())
    picture.write_bytes(picture.read_bytes()[:200])
    with pytest.raises(ValueError, match=rf"{picture.name}: expected a picture, got a damaged one"):
        recording.clip(0, 7)
    picture.unlink()
    with pytest.raises(ValueError, match=rf"{picture.name}: expected a picture, got no such file"):
        recording.clip(0, 7)


@genuine
def test_genuine_keyframes() -> None:
    recording = read_log(REAL, "scene-0103")
    scene = recording.scene
    assert scene.rig.names == NUSCENES_CAMERAS
    assert scene.num_frames == 2
    assert recording.source.notes["largest_camera_offset"] < 0.05
    tables = {name: json.loads((REAL / "v1.0-mini" / f"{name}.json").read_text()) for name in ("sample", "ego_pose")}
    lidar = {row["timestamp"]: row for row in tables["ego_pose"]}
    poses = [lidar[row["timestamp"]] for row in tables["sample"]]
    driven = np.linalg.norm(np.subtract(poses[1]["translation"], poses[0]["translation"]))
    assert scene.speed.mean() * (tables["sample"][1]["timestamp"] - tables["sample"][0]["timestamp"]) * 1e-6 == (
        pytest.approx(driven, abs=0.1)
    )  # the CAN bus and the poses agree
    annotations = json.loads((REAL / "v1.0-mini" / "sample_annotation.json").read_text())
    counts = [sum(row["sample_token"] == sample["token"] for row in annotations) for sample in tables["sample"]]
    assert (scene.agents.category >= 0).sum(axis=1).tolist() == counts
    clip = recording.clip(0, 2, image_size=(90, 160))
    assert clip.frames.shape == (2, 6, 3, 90, 160)
    assert clip.frames.std() > 30
    assert clip.source.positions[0] == pytest.approx((42.3516, -71.0506), abs=1e-3)


@genuine
def test_genuine_box_centres_are_exact() -> None:
    from gaia2.data.log_files import rotation_matrices
    from gaia2.data.nuscenes_tables import read_tables

    tables = read_tables(REAL / "v1.0-mini")
    rows = tables.scenes["scene-0103"]
    scene = read_log(REAL, "scene-0103").scene
    poses = {stamp: (place, turn) for stamp, place, turn in tables.poses.values()}
    origin = min(row["timestamp"] for found in rows.pictures.values() for row in found)
    # at a moment when a camera has a pose of its own, and a label is taken as standing still
    stamp = rows.pictures["CAM_FRONT"][0]["timestamp"]
    place, turn = poses[stamp]
    back = rotation_matrices("pose", np.array([turn]))[0].T
    labels = [row for row in rows.annotations if row["timestamp"] == rows.samples[0]["timestamp"]]
    expected = np.array([back @ (np.array(row["translation"]) - place) for row in labels])
    from gaia2.data.nuscenes import _boxes, _poses

    table, _ = _boxes(rows, origin)
    assert table is not None
    still = type(table)(table.times, None, table.category, table.centre, table.size, table.heading)
    agents = still.agents(_poses(tables, rows, origin), [(stamp - origin) * 1e-6])
    np.testing.assert_allclose(np.sort(agents.boxes[0, :, 0]), np.sort(expected[:, 0]), atol=1e-6)
    assert len(expected) == agents.most_at_once
    assert scene.num_frames == 2


@genuine
def test_genuine_boxes_are_seen_where_they_are() -> None:
    """The sample's own labels are in the lidar's frame: the same boxes by another way, and where a truck is seen."""
    data = json.loads((SAMPLE / "sample.json").read_text())
    lidar = np.array(data["lidar2ego"])
    names = {index: name for name, index in data["categories"].items()}
    truck = [box for box in data["instances"] if names.get(box["category"]) == "truck"]
    boxes = []
    for box in truck:
        centre = lidar @ [*box["center_lidar"], 1.0]
        ahead = lidar[:3, :3] @ [np.cos(box["yaw_lidar"]), np.sin(box["yaw_lidar"]), 0]
        boxes.append([*centre[:3], *box["size_lwh"], np.arctan2(ahead[1], ahead[0])])
    camera = data["images"]["CAM_FRONT"]
    seen = project_boxes(
        torch.tensor(boxes), torch.zeros(len(boxes), dtype=torch.int64), torch.tensor([camera["cam2img"]]),
        torch.tensor([camera["cam2ego"]]), image_size=(900, 1600),
    )[0].numpy()  # fmt: skip
    seen = seen[seen[:, 12] >= 0]
    nearest = seen[seen[:, 6].argmin(), :4] * (1600, 900, 1600, 900)
    np.testing.assert_allclose(nearest, (40, 190, 617, 672), atol=12)  # measured in the picture
