"""Argoverse 2 logs: a small one with known numbers, and a genuine one where it is at hand."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from gaia2.data.argoverse2 import ARGOVERSE2_CAMERAS, list_logs, load_argoverse2, read_log
from gaia2.scene import AGENT_CATEGORIES, Scene
from tests.data.datasets import jpeg, picture, put, which

pa = pytest.importorskip("pyarrow", reason="needs pyarrow (the datasets extra)")
feather = pytest.importorskip("pyarrow.feather")

RADIUS, SPEED, SWEEPS = 40.0, 6.0, 21
START_NS = 315_966_253_660_000_000
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "argoverse2" / "7fab2350-7eaf-3b7e-a39d-6937a4c1bede"
genuine = pytest.mark.skipif(not REAL.is_dir(), reason=f"no genuine Argoverse 2 log at {REAL}")

FILES = {
    "poses": "city_SE3_egovehicle.feather",
    "boxes": "annotations.feather",
    "lenses": "calibration/intrinsics.feather",
    "mounts": "calibration/egovehicle_SE3_sensor.feather",
}


def tables() -> dict[str, dict[str, list]]:
    """A left turn on a circle; a parked car, a pedestrian in every other sweep, a hidden cone in the last one."""
    time = np.arange(-20, 2021, 5) * 1e-3
    yaw = 0.5 + SPEED / RADIUS * time
    poses = {
        "timestamp_ns": (START_NS + np.round(time * 1e9)).astype(np.int64),
        **{"qw": np.cos(yaw / 2), "qx": 0 * yaw, "qy": 0 * yaw, "qz": np.sin(yaw / 2)},
        **{"tx_m": 3000 + RADIUS * np.sin(yaw), "ty_m": 100 - RADIUS * np.cos(yaw), "tz_m": 0 * yaw + 12},
    }
    names = [f"ring_{name}" for name in sorted(ARGOVERSE2_CAMERAS)] + ["stereo_front_left"]
    n = len(names)
    lenses = {
        "sensor_name": names,
        **{"fx_px": [1700.0 + i for i in range(n)], "fy_px": [1701.0] * n, "cx_px": [777.0] * n, "cy_px": [1013.0] * n},
        **{"k1": [-0.24] * n, "k2": [-0.2] * n, "k3": [0.3] * n},
        **{"height_px": np.array([2048] * n, np.uint16), "width_px": np.array([1550] * n, np.uint16)},
    }
    mounts = {  # another order than the lenses, and a lidar
        "sensor_name": ["up_lidar", *reversed(names)],
        **{"qw": [1.0] + [0.5] * n, "qx": [0.0] + [-0.5] * n, "qy": [0.0] + [0.5] * n, "qz": [0.0] + [-0.5] * n},
        **{"tx_m": [9.0, *map(float, range(n))], "ty_m": [0.0] * (n + 1), "tz_m": [1.6] + [1.4] * n},
    }
    rows = []
    for sweep in range(SWEEPS):
        stamp = START_NS + sweep * 100_000_000
        rows.append(
            [stamp, "bbb", "REGULAR_VEHICLE", 4.5, 1.9, 1.6, math.cos(0.6), 0, 0, math.sin(0.6), 20, -3, 0.5, 90]
        )
        if sweep % 2:
            rows.append([stamp, "aaa", "PEDESTRIAN", 0.6, 0.7, 1.8, 0.0, 0, 0, 1.0, 3 + sweep, 4, 0.6, 12])
    rows.append([stamp, "ccc", "CONSTRUCTION_CONE", 0.3, 0.3, 0.8, 1, 0, 0, 0, 2, 0, 0, 0])
    columns = ["timestamp_ns", "track_uuid", "category", "length_m", "width_m", "height_m"]
    columns += ["qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m", "num_interior_pts"]
    boxes = {name: list(column) for name, column in zip(columns, zip(*rows[::-1], strict=True), strict=True)}
    return {"poses": poses, "boxes": boxes, "lenses": lenses, "mounts": mounts}


def write(folder: Path, content: dict[str, dict[str, list]]) -> Path:
    (folder / "calibration").mkdir(parents=True, exist_ok=True)
    for key, table in content.items():
        feather.write_feather(pa.table(table), folder / FILES[key])
    return folder


@pytest.fixture
def log(tmp_path) -> Path:
    return write(tmp_path / "log", tables())


def test_rig(log):
    rig = load_argoverse2(log).rig
    assert rig.names == ARGOVERSE2_CAMERAS
    assert rig.image_size.tolist() == [[2048, 1550]] * 7
    row = sorted(ARGOVERSE2_CAMERAS).index("side_left")
    camera = rig.names.index("side_left")
    assert rig.intrinsics[camera].tolist() == [[1700 + row, 0, 777], [0, 1701, 1013], [0, 0, 1]]
    assert rig.distortion[camera].tolist() == [-0.24, -0.2, 0, 0, 0.3, 0, 0, 0]
    # q = (1, -1, 1, -1) / 2 is a camera that looks ahead; mounts are written in reverse, at x = 0, 1, ...
    expected = [[0, 0, 1, 7 - row], [-1, 0, 0, 0], [0, -1, 0, 1.4], [0, 0, 0, 1]]
    np.testing.assert_allclose(rig.extrinsics[camera], expected, atol=1e-12)


def test_motion(log):
    scene = load_argoverse2(log)
    assert scene.num_frames == SWEEPS
    np.testing.assert_allclose(scene.timestamps, np.tile(np.arange(SWEEPS)[:, None] / 10, (1, 7)), atol=1e-9)
    np.testing.assert_allclose(scene.speed, SPEED, rtol=2e-4)
    np.testing.assert_allclose(scene.curvature, 1 / RADIUS, rtol=1e-3)


def test_agents(log):
    agents = load_argoverse2(log).agents
    car, pedestrian, other = (AGENT_CATEGORIES.index(name) for name in ("car", "pedestrian", "other"))
    assert agents.boxes.shape == (SWEEPS, 3 - 1, 7)
    assert agents.category[:4].tolist() == [[car, -1], [pedestrian, car], [car, -1], [pedestrian, car]]
    assert agents.track_id[:2].tolist() == [[1, -1], [0, 1]]
    np.testing.assert_allclose(agents.boxes[0, 0], [20, -3, 0.5, 4.5, 1.9, 1.6, 1.2])
    np.testing.assert_allclose(np.abs(agents.boxes[1, 0]), [4, 4, 0.6, 0.6, 0.7, 1.8, np.pi])
    assert agents.category[-1].tolist() == [other, car]
    assert agents.track_id[-1].tolist() == [2, 1]
    # the pedestrian passes the car's distance, which is 20.2 m
    assert agents.category[17].tolist() == [car, pedestrian]
    seen = load_argoverse2(log, min_interior_points=1).agents
    assert seen.category[-1].tolist() == [car, -1]
    assert seen.track_id[:2].tolist() == [[1, -1], [0, 1]]


def test_a_part_of_the_log(log):
    part = load_argoverse2(
        log, cameras=["ring_rear_left", "front_center", "stereo_front_left"], start=0.5, num_frames=8
    )
    assert part.rig.names == ("rear_left", "front_center", "stereo_front_left")
    assert part.timestamps[0].tolist() == [0, 0, 0]
    assert part.num_frames == 8
    whole = load_argoverse2(log).agents
    np.testing.assert_array_equal(part.agents.boxes, whole.boxes[5:13])
    fast = load_argoverse2(log, frame_rate=20.0, num_frames=24)
    np.testing.assert_allclose(fast.timestamps[:, 0], np.arange(24) / 20)
    np.testing.assert_allclose(fast.speed, SPEED, rtol=2e-4)
    np.testing.assert_array_equal(fast.agents.boxes[::2], whole.boxes[:12])


def test_a_missing_file_is_named(log):
    (log / FILES["boxes"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"no file annotations\.feather; expected an Argoverse 2 sensor log"):
        load_argoverse2(log)
    with pytest.raises(FileNotFoundError, match="no such folder; expected an Argoverse 2 sensor log"):
        load_argoverse2(log / "none")


@pytest.mark.parametrize("name", FILES.values())
def test_a_truncated_file_is_refused(log, name):
    for size in (0, 20, -30):
        content = (log / name).read_bytes()
        (log / name).write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{Path(name).name}: expected a feather file, got a damaged one"):
            load_argoverse2(log)


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("poses", "qz", None, r"egovehicle\.feather: expected the columns .*, got none named qz"),
        ("poses", "tx_m", np.nan, "expected numbers in every row of the column tx_m"),
        ("poses", "qw", 3.0, r"egovehicle\.feather: expected unit quaternions .*row 0"),
        ("boxes", "tz_m", "high", "expected numbers in every row of the column tz_m"),
        ("boxes", "category", 5, "expected a name in every row of the column category"),
        ("boxes", "width_m", 0.0, "boxes: expected a positive width in metres"),
        ("lenses", "fx_px", 0.0, "intrinsics: camera 'front_center': expected positive focal lengths"),
        ("lenses", "sensor_name", "ring_other", "expected a pose for every camera, got none for .*ring_other"),
    ],
)
def test_damaged_values_are_refused(tmp_path, table, column, value, message):
    content = tables()
    if value is None:
        del content[table][column]
    else:
        content[table][column] = [value] * len(content[table][column])
    with pytest.raises(ValueError, match=message):
        load_argoverse2(write(tmp_path, content))


def test_other_bad_input(log, monkeypatch):
    with pytest.raises(ValueError, match="got 'front_centre'; did you mean 'front_center'"):
        load_argoverse2(log, cameras=["front_centre"])
    with pytest.raises(ValueError, match="num_frames: expected 1 to 21"):
        load_argoverse2(log, num_frames=22)
    empty = {name: pa.array(column).slice(0, 0) for name, column in tables()["boxes"].items()}
    write(log, {"boxes": empty})
    with pytest.raises(ValueError, match="expected annotated sweeps, got an empty table"):
        load_argoverse2(log)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'gaia2\[datasets\]'"):
        load_argoverse2(log)


@genuine
def test_genuine_log():
    scene = load_argoverse2(REAL)
    assert scene.rig.names == ARGOVERSE2_CAMERAS
    assert scene.rig.image_size[0].tolist() == [2048, 1550]
    assert scene.num_frames == 156
    assert scene.duration == pytest.approx(15.5, abs=0.01)
    assert (scene.agents.category >= 0).sum() == 11_364
    assert len(np.unique(scene.agents.track_id)) == 115  # 114 tracks, and -1
    # the cameras look where their names say
    forward = dict(zip(scene.rig.names, scene.rig.extrinsics[:, :3, 2], strict=True))
    assert forward["front_center"][0] > 0.99
    assert forward["side_left"][1] > 0.9
    assert forward["rear_right"][0] < -0.5
    # boxes stand on the ground: cars near by have one bottom height within a few centimetres
    car = (scene.agents.category == 0) & (np.hypot(*scene.agents.boxes[..., :2].transpose(2, 0, 1)) < 15)
    bottom = scene.agents.boxes[car][:, 2] - scene.agents.boxes[car][:, 5] / 2
    assert np.median(bottom) == pytest.approx(-0.35, abs=0.1)
    assert Scene.from_json(scene.to_json()) == scene


@genuine
def test_genuine_speed_integrates_to_the_distance_driven():
    scene = load_argoverse2(REAL)
    poses = feather.read_table(REAL / FILES["poses"]).to_pydict()
    stamps = np.array(poses["timestamp_ns"], dtype=np.int64)
    place = np.stack([poses["tx_m"], poses["ty_m"]], axis=1)
    first = np.unique(feather.read_table(REAL / FILES["boxes"]).column("timestamp_ns").to_numpy())[0]
    inside = (stamps >= first) & (stamps <= first + round(scene.duration * 1e9))
    driven = np.linalg.norm(np.diff(place[inside], axis=0), axis=1).sum()
    assert np.trapezoid(np.abs(scene.speed), scene.frame_times) == pytest.approx(driven, rel=0.01)
    # yaw, integrated from speed times curvature, is that of the poses
    q = np.stack([poses[name] for name in ("qw", "qx", "qy", "qz")], axis=1)[inside]
    yaw = np.arctan2(2 * (q[:, 0] * q[:, 3] + q[:, 1] * q[:, 2]), 1 - 2 * (q[:, 2] ** 2 + q[:, 3] ** 2))
    turned = np.unwrap(yaw)[-1] - yaw[0]
    rate = np.nan_to_num(scene.speed * scene.curvature)
    assert np.trapezoid(rate, scene.frame_times) == pytest.approx(turned, abs=0.02)


CAMERA_TIMES = np.arange(0, 2.0, 0.05)


def write_pictures(folder: Path, late: str = "") -> Path:
    """Pictures of the seven ring cameras at 20 Hz, each a few milliseconds after the front one; one starts late."""
    for number, name in enumerate(ARGOVERSE2_CAMERAS):
        for frame, t in enumerate(CAMERA_TIMES):
            if name != late or frame >= 4:
                stamp = START_NS + round(t * 1e9) + number * 2_000_000
                file = folder / "sensors" / "cameras" / f"ring_{name}" / f"{stamp}.jpg"
                put(file, jpeg(picture(number % 6, frame, (2048 // 64, 1550 // 64))))
    return folder


@pytest.fixture
def pictured(tmp_path) -> Path:
    content = tables()
    n = len(content["lenses"]["sensor_name"])
    content["lenses"]["height_px"], content["lenses"]["width_px"] = [2048 // 64] * n, [1550 // 64] * n
    folder = write_pictures(write(tmp_path / "train" / "log-1", content))
    put(folder / "map" / "log_map_archive_log-1____PIT_city_31785.json", "{}")
    return tmp_path / "train"


def test_pictures_at_20_hz(pictured):
    assert list_logs(pictured) == ["log-1"]
    assert list_logs(pictured / "log-1") == ["."]
    recording = read_log(pictured, "log-1")
    scene = recording.scene
    assert scene.num_frames == 40
    np.testing.assert_allclose(np.diff(scene.timestamps, axis=0), 0.05, atol=1e-9)
    np.testing.assert_allclose(
        scene.timestamps - scene.timestamps[:, :1], np.tile(np.arange(7) * 0.002, (40, 1)), atol=1e-6
    )
    np.testing.assert_allclose(scene.speed, SPEED, rtol=2e-4)
    clip = recording.clip(4, 12)
    assert [[which(p) for p in frame] for frame in clip.frames] == [
        [(c % 6, f) for c in range(7)] for f in range(4, 12)
    ]
    assert clip.source.log == "log-1"
    assert clip.source.positions[0] == pytest.approx((40.4427, -79.977), abs=0.002)  # (3000, 100) m of Pittsburgh
    assert clip.source.time == pytest.approx(START_NS * 1e-9 + 0.2, abs=1e-3)
    assert recording.scene.metadata["country"] == "us"


def test_boxes_between_the_sweeps(pictured):
    scene = read_log(pictured, "log-1").scene
    # the car is 20 m ahead and 3 m to the right at every sweep, so it moves on the ego's circle
    car = scene.agents.boxes[scene.agents.category == 0]
    assert len(car) == 40
    np.testing.assert_allclose(car[:, :6], np.tile([20, -3, 0.5, 4.5, 1.9, 1.6], (40, 1)), atol=5e-3)


def test_cameras_that_start_late_and_splits_without_boxes(tmp_path, pictured):
    folder = pictured / "log-1"
    (folder / FILES["boxes"]).unlink()
    for path in sorted((folder / "sensors" / "cameras" / "ring_rear_left").iterdir())[:4]:
        path.unlink()
    recording = read_log(pictured, "log-1")
    assert recording.scene.num_frames == 36
    assert recording.notes == ("4 of 40 frames of 'front_center' left out: 'rear_left' has no picture within 0.025 s",)
    assert recording.scene.agents.max_agents == 0
    with pytest.raises(FileNotFoundError, match="no pictures sensors/cameras/ring_stereo_front_left"):
        read_log(pictured, "log-1", cameras=["stereo_front_left"])
    put(folder / "sensors" / "cameras" / "ring_rear_left" / "first.jpg", b"")
    with pytest.raises(ValueError, match=r"first\.jpg: expected a file name <timestamp_ns>\.jpg"):
        read_log(pictured, "log-1")
    with pytest.raises(FileNotFoundError, match=r"expected an Argoverse 2 sensor log, .* below it, got none"):
        list_logs(tmp_path / "none")


def test_unknown_categories_are_told(tmp_path):
    content = tables()
    content["boxes"]["category"][0] = "HOVERCRAFT"
    folder = write_pictures(write(tmp_path / "log", content))
    assert read_log(folder, ".").notes == ("unknown categories, taken as other: HOVERCRAFT",)


@genuine
def test_genuine_box_centres_are_exact_and_project_as_opencv_does():
    cv2 = pytest.importorskip("cv2")
    torch = pytest.importorskip("torch")
    from gaia2.conditioning.lens import project_points

    scene = load_argoverse2(REAL)
    table = feather.read_table(REAL / FILES["boxes"]).to_pydict()
    stamps = np.array(table["timestamp_ns"])
    for frame in (0, 77, 155):
        rows = stamps == np.unique(stamps)[frame]
        place = np.stack([np.array(table[name])[rows] for name in ("tx_m", "ty_m", "tz_m")], axis=1)
        ours = scene.agents.boxes[frame, : rows.sum(), :3]
        np.testing.assert_allclose(ours, place[np.argsort(np.hypot(place[:, 0], place[:, 1]))], atol=1e-11)
    rig = scene.rig
    for camera in range(7):
        points = (
            np.c_[scene.agents.boxes[0, :, :3], np.ones(scene.agents.max_agents)]
            @ np.linalg.inv(rig.extrinsics[camera]).T
        )
        points = points[(points[:, 2] > 1) & (np.abs(points[:, :2]) < points[:, 2:3]).all(axis=1), :3]
        if not len(points):
            continue
        k1, k2, _, _, k3 = rig.distortion[camera, :5]
        expected, _ = cv2.projectPoints(
            points, np.zeros(3), np.zeros(3), rig.intrinsics[camera], np.array([k1, k2, 0, 0, k3])
        )
        got = project_points(
            *(torch.tensor(value) for value in (points, rig.intrinsics[camera], rig.distortion[camera]))
        )
        np.testing.assert_allclose(got.numpy(), expected[:, 0], rtol=0, atol=1e-12)
