"""A folder of one's own: what docs/own_data.md says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.codec import encode_video
from gaia2.data.frames_of_reference import CAMERA_AXES, axes_matrix
from gaia2.data.own_folder import list_logs, read_log
from gaia2.scene import AGENT_CATEGORIES, named_rig
from tests.data.datasets import SIZE, jpeg, picture, put, which, write_drive


def change(path: Path, **values: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def change_camera(folder: Path, camera: str, **values: object) -> None:
    path = folder / "calibration.json"
    data = json.loads(path.read_text())
    data["cameras"][camera].update(values)
    path.write_text(json.dumps({**data, "cameras": data["cameras"]}))


@pytest.mark.parametrize("videos", [True, False])
def test_a_drive(tmp_path: Path, videos: bool) -> None:
    write_drive(tmp_path / "a" / "monday", videos=videos)
    assert list_logs(tmp_path) == ["a/monday"]
    recording = read_log(tmp_path, "a/monday")
    scene = recording.scene
    assert scene.rig.names == ("front", "rear")
    np.testing.assert_allclose(scene.rig.extrinsics[1, :3, 3], [1.5, 0.1, 1.5])
    np.testing.assert_allclose(scene.timestamps, np.tile(np.arange(24)[:, None] / 10, (1, 2)), atol=1e-6)
    np.testing.assert_allclose(scene.speed, 5.0, atol=1e-6)
    np.testing.assert_allclose(scene.curvature, 0.0, atol=1e-9)
    seen = scene.agents.category[:, 0] == AGENT_CATEGORIES.index("car")
    assert seen.tolist() == [t <= 2.01 for t in scene.frame_times]  # the last label is at 1.5 s, half a second apart
    t = scene.frame_times[seen]
    np.testing.assert_allclose(scene.agents.boxes[seen, 0, 0], 20 - 5 * t, atol=1e-9)
    clips = list(recording.clips(8, image_size=(18, 32)))
    assert len(clips) == 3
    assert [[which(p) for p in frame] for frame in clips[1].frames] == [[(0, f), (1, f)] for f in range(8, 16)]
    assert clips[1].scene.timestamps[0].tolist() == [0, 0]
    assert str(clips[1].source) == "folder/a/monday"
    assert clips[1].source.time == pytest.approx(0.8)


def test_videos_and_a_calibration_alone(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=8)
    for name in ("poses.csv", "boxes.csv"):
        (tmp_path / name).unlink()
    recording = read_log(tmp_path, ".", cameras=["rear"])
    assert recording.scene.rig.names == ("rear",)
    assert np.isnan(recording.scene.speed).all()
    assert recording.scene.agents.max_agents == 0


def test_a_rig_as_the_library_writes_it(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=8)
    rig = named_rig("surround", SIZE).select(["front_left", "front"])
    for old, new in (("front", "front_left"), ("rear", "front")):
        (tmp_path / "cameras" / f"{old}.mp4").rename(tmp_path / "cameras" / f"tmp_{new}.mp4")
    for new in rig.names:
        (tmp_path / "cameras" / f"tmp_{new}.mp4").rename(tmp_path / "cameras" / f"{new}.mp4")
    put(tmp_path / "calibration.json", json.dumps({"rig": rig.to_dict()}))
    assert read_log(tmp_path, ".").scene.rig == rig


def test_other_tables_and_units(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=8, videos=False)
    change(tmp_path / "calibration.json", time_unit="ms")
    for path in sorted((tmp_path / "cameras" / "front").iterdir()):
        path.rename(path.with_stem(f"{1000 * float(path.stem):.0f}"))
    (tmp_path / "cameras" / "rear.csv").write_text("time\n" + "\n".join(str(100 * f + 7) for f in range(8)))
    (tmp_path / "poses.csv").unlink()
    (tmp_path / "boxes.csv").unlink()
    put(tmp_path / "motion.json", json.dumps({"time": [0, 1000], "speed": [2, 4], "curvature": [0.01, None]}))
    put(tmp_path / "places.csv", "time,latitude,longitude\n0,50,8\n1000,50.1,8.2\n")
    put(tmp_path / "about.json", json.dumps({"dataset": "mine", "metadata": {"weather": "rain"}, "time": 1e9}))
    recording = read_log(tmp_path, ".")
    np.testing.assert_allclose(recording.scene.timestamps, np.arange(8)[:, None] / 10 + [0, 0.007], atol=1e-9)
    when = recording.scene.frame_times
    np.testing.assert_allclose(recording.scene.speed, 2 + 2 * when)
    np.testing.assert_allclose(recording.positions, np.stack([50 + 0.1 * when, 8 + 0.2 * when], axis=1))
    assert recording.source.dataset == "mine"
    assert dict(recording.scene.metadata) == {"weather": "rain"}
    assert recording.clip(2, 5).source.time == pytest.approx(1e9 + 0.2)


RIGHT_HANDED = ["right-down-forward", "forward-left-up", "right-up-backward", "backward-right-up"]
LEFT_HANDED = ["forward-right-up", "right-up-forward", "left-down-forward"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(RIGHT_HANDED), st.booleans())
def test_a_point_stays_where_it_is_whatever_the_axes(tmp_path_factory, seed, camera_axes, left_handed) -> None:
    """A camera described in other axes sees a point in the same place."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    pose[:3, :3] *= np.sign(np.linalg.det(pose[:3, :3]))
    pose[:3, 3] = rng.normal(size=3)
    theirs = axes_matrix("camera", camera_axes, CAMERA_AXES)  # theirs to ours
    vehicle, words = np.eye(3), "forward-left-up"
    if left_handed:  # a simulator: vehicle and camera both left-handed, x forward, y right, z up
        vehicle, words, camera_axes = np.diag([1.0, -1, 1]), "forward-right-up", "forward-right-up"
        theirs = axes_matrix("camera", camera_axes, CAMERA_AXES)
    described = np.eye(4)  # camera to vehicle, in their axes
    described[:3, :3] = vehicle.T @ pose[:3, :3] @ theirs
    described[:3, 3] = vehicle.T @ pose[:3, 3]
    folder = write_drive(tmp_path_factory.mktemp("drive"), cameras=("front",), frames=4)
    data = json.loads((folder / "calibration.json").read_text())
    camera = data["cameras"]["front"]
    del camera["rotation"], camera["translation"]
    camera["extrinsics"] = described.tolist()
    put(folder / "calibration.json", json.dumps({**data, "camera_axes": camera_axes, "ego_axes": words}))
    np.testing.assert_allclose(read_log(folder, ".").scene.rig.extrinsics[0], pose, atol=1e-9)


@pytest.mark.parametrize("axes", LEFT_HANDED)
def test_a_left_handed_camera_on_a_right_handed_vehicle_is_refused(tmp_path: Path, axes: str) -> None:
    write_drive(tmp_path, frames=4)
    change(tmp_path / "calibration.json", camera_axes=axes)
    with pytest.raises(
        ValueError, match=r"calibration\.json: extrinsics: camera 'front': expected a rotation .* got a"
    ):
        read_log(tmp_path, ".")


def box_of(folder: Path, header: str, row: str, **calibration: object) -> np.ndarray:
    change(folder / "calibration.json", **calibration)
    put(folder / "boxes.csv", f"time,track,category,length,width,height,x,y,z,{header}\n0.4,1,truck,8,2.5,3,{row}\n")
    agents = read_log(folder, ".").scene.agents
    assert agents.category[4].tolist() == [AGENT_CATEGORIES.index("truck")]
    return agents.boxes[4, 0]


def test_boxes_in_any_frame_are_the_same_boxes(tmp_path: Path) -> None:
    """A box 15 m ahead, 3 m to the left, turned by 0.3, told in five frames; ego at (102, 7), looking along x."""
    write_drive(tmp_path, frames=8)
    expected = [15, 3, 1, 8, 2.5, 3, 0.3]
    np.testing.assert_allclose(box_of(tmp_path, "yaw", "15,3,1,0.3"), expected, atol=1e-9)
    np.testing.assert_allclose(box_of(tmp_path, "yaw", "117,10,1,0.3", boxes="world"), expected, atol=1e-9)
    w, z = np.cos(0.15), np.sin(0.15)
    np.testing.assert_allclose(
        box_of(tmp_path, "qw,qx,qy,qz", f"117,10,1,{w},0,0,{z}", boxes="world"), expected, atol=1e-9
    )
    lidar = [[0, -1, 0, 1.0], [1, 0, 0, 0.5], [0, 0, 1, 1.8], [0, 0, 0, 1]]  # x to the left
    turned = box_of(tmp_path, "yaw", f"2.5,-14,-0.8,{0.3 - np.pi / 2}", boxes="lidar", lidar_to_ego=lidar)
    np.testing.assert_allclose(turned, expected, atol=1e-9)
    # the camera is at (1.5, 0, 1.5): x right, y down, z forward; rotation_y is 0 to its right and turns clockwise above
    seen = box_of(tmp_path, "rotation_y", f"-3,0.5,13.5,{-np.pi / 2 - 0.3}", boxes="front")
    np.testing.assert_allclose(seen, expected, atol=1e-9)


def test_a_left_handed_world(tmp_path: Path) -> None:
    """x forward, y right, z up, yaw clockwise: a left turn has a negative yaw there, and a positive curvature here."""
    write_drive(tmp_path, frames=8)
    t = np.arange(0, 0.8, 0.05)
    yaw = -0.2 * t
    rows = [f"{a},{b},{c},0,{d}" for a, b, c, d in zip(t, 25 * np.sin(-yaw), -25 * (1 - np.cos(yaw)), yaw, strict=True)]
    put(tmp_path / "poses.csv", "time,x,y,z,yaw\n" + "\n".join(rows))
    data = json.loads((tmp_path / "calibration.json").read_text())
    for camera in data["cameras"].values():
        camera.update(rotation=np.eye(3).tolist())
    put(tmp_path / "calibration.json", json.dumps(data))
    box = box_of(tmp_path, "yaw", "15,-3,1,-0.3", ego_axes="forward-right-up", camera_axes="forward-right-up")
    np.testing.assert_allclose(box, [15, 3, 1, 8, 2.5, 3, 0.3], atol=1e-9)
    scene = read_log(tmp_path, ".").scene
    np.testing.assert_allclose(scene.speed, 5.0, rtol=1e-3)
    np.testing.assert_allclose(scene.curvature, 0.04, rtol=1e-3)
    np.testing.assert_allclose(scene.rig.extrinsics[1, :3, 3], [1.5, -0.1, 1.5])


def test_rolling_shutters_late_cameras_and_offsets(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=10)
    change_camera(tmp_path, "rear", stamp="start", readout=0.03, time_offset=0.002)
    recording = read_log(tmp_path, ".")
    np.testing.assert_allclose(recording.scene.timestamps[:, 1] - recording.scene.timestamps[:, 0], 0.017, atol=1e-9)
    pixels = np.stack([picture(1, frame) for frame in range(3, 10)])
    (tmp_path / "cameras" / "rear.mp4").write_bytes(encode_video(pixels, 10.0, quality=4))
    put(tmp_path / "cameras" / "rear.csv", "time\n" + "\n".join(f"{f / 10:.1f}" for f in range(3, 10)))
    recording = read_log(tmp_path, ".")
    assert recording.scene.num_frames == 7
    assert recording.notes == ("3 of 10 frames of 'front' left out: 'rear' has no picture within 0.050 s",)
    assert [which(p) for p in recording.clip(0, 1).frames[0]] == [(0, 3), (1, 3)]


def test_lenses(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=4)
    change_camera(tmp_path, "rear", distortion=[0.1, 0.01, 0.001, 0.0], distortion_model="fisheye")
    rig = read_log(tmp_path, ".").scene.rig
    assert rig.distortion_model == ("pinhole", "fisheye")
    assert rig.distortion[1].tolist() == [0.1, 0.01, 0.001, 0, 0, 0, 0, 0]
    change_camera(tmp_path, "front", rectified=True, distortion=[0.1])
    with pytest.raises(ValueError, match=r"camera 'front': expected no distortion of rectified pictures, got \[0\.1\]"):
        read_log(tmp_path, ".")


def test_unknown_categories_and_no_boxes_are_told(tmp_path: Path) -> None:
    write_drive(tmp_path, frames=8)
    header = "time,track,category,x,y,z,yaw\n"
    put(tmp_path / "boxes.csv", header + "0,1,hovercraft,9,0,0,0\n")
    recording = read_log(tmp_path, ".")
    assert recording.notes == ("unknown categories, taken as other: hovercraft",)
    assert np.isnan(recording.scene.agents.boxes[0, 0, 3:6]).all()
    put(tmp_path / "boxes.csv", header)
    assert read_log(tmp_path, ".").scene.agents.max_agents == 0


def bad_calibration(folder: Path, text: str) -> None:
    put(folder / "calibration.json", text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: bad_calibration(f, "{"), r"calibration\.json: Expecting"),
        (lambda f: bad_calibration(f, "{}"), "expected either the key cameras or the key rig"),
        (lambda f: change(f / "calibration.json", colour="red"), "calibration: unknown key 'colour'"),
        (lambda f: change(f / "calibration.json", time_unit="hours"), "time_unit: expected one of s, ms, us, ns"),
        (lambda f: change(f / "calibration.json", boxes="moon"), "boxes: expected their frame, ego, world, lidar or a"),
        (lambda f: change(f / "calibration.json", boxes="lidar"), r"expected lidar_to_ego \(4, 4\)"),
        (lambda f: change(f / "calibration.json", ego_axes="up-up-up"), "ego_axes: expected where x, y and z point"),
        (lambda f: change_camera(f, "rear", intrinsics={"fx": 1}), "camera 'rear': intrinsics: expected the key 'fy'"),
        (lambda f: change_camera(f, "rear", stamp="noon"), "camera 'rear': stamp: expected one of start, middle, end"),
        (
            lambda f: change_camera(f, "rear", image_size=[10, 20]),
            r"camera 'rear', frame 0: expected a picture of \(10, 20",
        ),
        (lambda f: (f / "cameras" / "rear.mp4").unlink(), "expected rear.mp4 or rear/"),
        (lambda f: (f / "cameras" / "rear.mp4").write_bytes(b"none"), r"rear\.mp4: expected a video file"),
        (
            lambda f: put(f / "cameras" / "rear" / "0.jpg", b""),
            "expected one video or one folder of pictures of 'rear'",
        ),
        (lambda f: put(f / "cameras" / "rear.csv", "time\n5\n9\n"), "expected moments at which all of front, rear"),
        (
            lambda f: put(f / "poses.csv", "time,x,y,z,qw,qx,qy,qz\n0,1,2,3,4,5,6\n"),
            r"poses\.csv: line 2: expected 8 values",
        ),
        (
            lambda f: put(f / "poses.csv", "time,x,y,z,yaw\n0,1,2,3,north\n"),
            "column yaw, row 0: expected a finite number",
        ),
        (
            lambda f: put(f / "poses.csv", "time,x,y,z\n0,1,2,3\n"),
            r"poses\.csv: expected the columns yaw, got time, x, y, z",
        ),
        (lambda f: put(f / "poses.csv", ""), r"poses\.csv: expected a first line with the columns' names"),
        (lambda f: put(f / "poses.csv", "time,x,y,z,yaw\n"), r"poses\.csv: poses: expected .* at least one pose"),
        (lambda f: put(f / "poses.json", "[]"), r"expected one table, got poses\.csv and poses\.json"),
        (lambda f: (f / "poses.csv").unlink(), r"boxes\.csv: expected poses\.csv beside boxes"),
        (lambda f: put(f / "boxes.csv", "time,x,y,z,yaw\n"), r"boxes\.csv: expected a column category"),
        (lambda f: put(f / "boxes.csv", "time,x,y,z,category\n"), r"boxes\.csv: expected a column yaw, or qw qx qy qz"),
        (lambda f: put(f / "about.json", '{"colour": 1}'), r"about\.json: about\.json: unknown key 'colour'"),
        (
            lambda f: put(f / "about.json", '{"metadata": {"weather": "hail"}}'),
            "metadata: weather: unknown value 'hail'",
        ),
    ],
)
def test_bad_drives(tmp_path: Path, damage, message: str) -> None:
    write_drive(tmp_path, frames=4)
    damage(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_log(tmp_path, ".").clip(0, 2, image_size=(8, 16))


def test_a_video_cut_short(tmp_path: Path) -> None:
    write_drive(tmp_path, cameras=("front",), frames=8)
    put(tmp_path / "cameras" / "front.csv", "time\n" + "\n".join(str(f / 10) for f in range(12)))
    recording = read_log(tmp_path, ".")
    assert [c.num_frames for c in [recording.clip(0, 8)]] == [8]
    with pytest.raises(ValueError, match=r"front\.mp4: expected at least 9 frames, the video ends after 8"):
        recording.clip(4, 12)
    assert recording.clip(2, 4).num_frames == 2


def test_pictures_without_times(tmp_path: Path) -> None:
    write_drive(tmp_path, cameras=("front",), frames=4, videos=False)
    put(tmp_path / "cameras" / "front" / "last.jpg", jpeg(picture(0, 9)))
    with pytest.raises(ValueError, match=r"last\.jpg: expected the time as the file's name, or a table front\.csv"):
        read_log(tmp_path, ".")
    put(tmp_path / "cameras" / "front.csv", "time\n0\n1\n")
    with pytest.raises(ValueError, match=r"expected a time for each of the 5 pictures in .*front, got 2"):
        read_log(tmp_path, ".")
    with pytest.raises(FileNotFoundError, match=r"expected drives, .* \(see docs/own_data\.md\), below it, got none"):
        list_logs(tmp_path / "none")


def test_clips_span_no_gap(tmp_path: Path) -> None:
    write_drive(tmp_path, cameras=("front",), frames=20, videos=False)
    for frame in (6, 7):
        (tmp_path / "cameras" / "front" / f"{frame / 10:.3f}.jpg").unlink()
    recording = read_log(tmp_path, ".")
    assert recording.starts(4) == [0, 6, 10, 14]
    assert recording.starts(4, stride=2) == [0, 2, 6, 8, 10, 12, 14]
    assert recording.starts(13) == []
    assert read_log(tmp_path, ".", frame_step=2).scene.num_frames == 9
