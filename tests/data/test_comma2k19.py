"""comma2k19 segments: a small one with known numbers, and a genuine one where it is at hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from gaia2.data.comma2k19 import list_logs, load_comma2k19, read_log
from gaia2.data.comma2k19_vehicles import COMMA2K19_VEHICLES, Vehicle, steering_offset, steering_to_curvature
from gaia2.scene import Scene
from tests.data.datasets import picture, which

REAL = Path(__file__).parents[2].parent / "shared/data/comma2k19/b0c9d2329ad1606b|2018-08-02--08-34-47/40"
genuine = pytest.mark.skipif(not REAL.is_dir(), reason=f"no genuine comma2k19 segment at {REAL}")

CIVIC = "99c94dc769b5d96e|2018-05-01--08-13-53"
RAV4 = "b0c9d2329ad1606b|2018-08-02--08-34-47"
WHEEL_DEG, SPEED, BOOT = 30.0, 12.0, 46408.5
PITCH_DOWN, YAW_LEFT = math.radians(3.0), math.radians(1.0)


def quaternion(axis: int, angle: float) -> np.ndarray:
    q = np.zeros(4)
    q[0], q[1 + axis] = math.cos(angle / 2), math.sin(angle / 2)
    return q


def times_quaternion(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = a[0] * b[0] - a[1:] @ b[1:]
    return np.array([w, *(a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:]))])


def segment(root: Path, route: str = RAV4, frames: int = 61) -> Path:
    """Straight ahead at 12 m/s with the wheel turned by 30 degrees, the camera looking down and to the left."""
    folder = root / route / "3"
    frame_times = BOOT + np.arange(frames) / 20 + 0.0004 * (np.arange(frames) % 3)
    can_times = BOOT - 0.05 + np.arange(0, frames / 20 + 0.1, 0.012)
    # device axes are forward, right, down: yaw to the left is negative about down, then the nose dips about right
    attitude = times_quaternion(quaternion(2, -YAW_LEFT), quaternion(1, -PITCH_DOWN))
    earth = times_quaternion(quaternion(0, 0.7), quaternion(2, 2.1))
    forward = np.array([1.0, 0, 0])
    w, r = earth[0], earth[1:]
    velocity = SPEED * (forward + 2 * np.cross(r, np.cross(r, forward) + w * forward))
    arrays = {
        "global_pose/frame_times": frame_times,
        "global_pose/frame_orientations": np.tile(times_quaternion(earth, attitude), (frames, 1)),
        "global_pose/frame_velocities": np.tile(velocity, (frames, 1)),
        "processed_log/CAN/speed/t": can_times,
        "processed_log/CAN/speed/value": np.full((len(can_times), 1), SPEED),
        "processed_log/CAN/steering_angle/t": can_times,
        "processed_log/CAN/steering_angle/value": np.full(len(can_times), WHEEL_DEG),
    }
    for name, array in arrays.items():
        put(folder / name, array)
    return folder


def put(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.save(file, array)


def test_motion_and_time(tmp_path):
    scene = load_comma2k19(segment(tmp_path))
    assert scene.num_frames == 61
    frame = np.arange(61)
    np.testing.assert_allclose(scene.timestamps[:, 0], frame / 20 + 0.0004 * (frame % 3), atol=1e-9)
    np.testing.assert_allclose(scene.speed, SPEED)
    expected = math.tan(math.radians(30 / 16.88)) / 2.65 / (1 + 1.14e-3 * 144)
    np.testing.assert_allclose(scene.curvature, expected)
    assert scene.agents.max_agents == 0
    part = load_comma2k19(tmp_path / RAV4 / "3", frame_rate=10.0, start=1.0, num_frames=8)
    np.testing.assert_allclose(part.timestamps[:, 0], np.arange(8) / 10)


def test_rig(tmp_path):
    rig = load_comma2k19(segment(tmp_path)).rig
    assert rig.names == ("front",)
    assert rig.image_size.tolist() == [[874, 1164]]
    assert rig.intrinsics[0].tolist() == [[910, 0, 582], [0, 910, 437], [0, 0, 1]]
    assert rig.extrinsics[0, :3, 3].tolist() == [1.5, 0, 1.22]
    expected = [
        math.cos(PITCH_DOWN) * math.cos(YAW_LEFT),
        math.cos(PITCH_DOWN) * math.sin(YAW_LEFT),
        -math.sin(PITCH_DOWN),
    ]
    np.testing.assert_allclose(rig.extrinsics[0, :3, 2], expected, atol=1e-9)
    assert rig.extrinsics[0, 2, 0] == pytest.approx(0, abs=1e-9)  # the image is level


@pytest.mark.parametrize("how", ["no poses", "slow"])
def test_without_fast_poses_the_camera_is_level(tmp_path, how):
    folder = segment(tmp_path)
    if how == "slow":
        put(folder / "global_pose/frame_velocities", np.full((61, 3), 0.1))
    else:
        (folder / "global_pose/frame_orientations").unlink()
    rotation = load_comma2k19(folder).rig.extrinsics[0, :3, :3]
    assert rotation.tolist() == [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]


def test_time_without_can_messages_is_absent(tmp_path):
    folder = segment(tmp_path)
    times = np.load(folder / "processed_log/CAN/speed/t")
    kept = (times < BOOT + 1.0) | (times > BOOT + 2.0)
    put(folder / "processed_log/CAN/steering_angle/t", times[kept])
    put(folder / "processed_log/CAN/steering_angle/value", np.full(kept.sum(), WHEEL_DEG))
    scene = load_comma2k19(folder)
    time = scene.timestamps[:, 0]
    absent = np.isnan(scene.curvature)
    assert absent[(time > 1.26) & (time < 1.74)].all()
    assert not absent[(time < 1.24) | (time > 1.76)].any()
    assert not np.isnan(scene.speed).any()


def test_the_vehicle_is_known_from_the_route_or_given(tmp_path):
    def first(folder: Path, **arguments) -> float:
        return load_comma2k19(folder, **arguments).curvature[0]

    wheel = math.radians(WHEEL_DEG)
    civic = math.tan(wheel / 15.38) / 2.70 / (1 + 6.2e-4 * 144)
    assert first(segment(tmp_path, CIVIC)) == pytest.approx(civic)
    assert first(segment(tmp_path, CIVIC.replace("|", "_"))) == pytest.approx(civic)  # file systems without |
    assert first(segment(tmp_path, RAV4), vehicle="honda_civic") == pytest.approx(civic)
    own = Vehicle(steer_ratio=14.0, wheelbase=3.0)
    assert first(segment(tmp_path, "other"), vehicle=own) == pytest.approx(math.tan(wheel / 14) / 3)
    with pytest.raises(ValueError, match=r"known dongle id .*got 'other'; say vehicle='toyota_rav4', 'honda_civic'"):
        load_comma2k19(tmp_path / "other" / "3")
    with pytest.raises(
        ValueError, match="vehicle: expected one of 'toyota_rav4', 'honda_civic' or a Vehicle, got 'bmw'"
    ):
        load_comma2k19(tmp_path / "other" / "3", vehicle="bmw")
    with pytest.raises(ValueError, match="vehicle: expected a positive steer_ratio and wheelbase"):
        load_comma2k19(tmp_path / "other" / "3", vehicle=Vehicle(0.0, 2.7))


def test_understeer_is_that_of_the_tyre_model():
    # the steady state of the linear bicycle model, solved for yaw rate and side slip instead of by its formula
    mass, front, rear, stiff_front, stiff_rear = 1791.0, 1.166, 1.484, 121.6e3, 151.0e3
    speed, wheel = 20.0, math.radians(20.0)
    ratio = COMMA2K19_VEHICLES["toyota_rav4"].steer_ratio
    turn = -front * stiff_front + rear * stiff_rear
    stiff = stiff_front + stiff_rear
    system = [
        [-stiff / (mass * speed), turn / (mass * speed) - speed],
        [turn / speed, -(front**2 * stiff_front + rear**2 * stiff_rear) / speed],
    ]
    force = [stiff_front / mass, front * stiff_front]
    yaw_rate = -np.linalg.solve(system, force)[1] * wheel / ratio
    got = steering_to_curvature(np.array(wheel), np.array(speed), COMMA2K19_VEHICLES["toyota_rav4"])
    assert float(got) == pytest.approx(yaw_rate / speed, rel=0.01)


def test_a_missing_file_is_named(tmp_path):
    folder = segment(tmp_path)
    (folder / "processed_log/CAN/speed/value").unlink()
    with pytest.raises(FileNotFoundError, match="no file processed_log/CAN/speed/value; expected a comma2k19 segment"):
        load_comma2k19(folder)
    with pytest.raises(FileNotFoundError, match="no such folder; expected a comma2k19 segment"):
        load_comma2k19(tmp_path / "none")


@pytest.mark.parametrize(
    "name",
    [
        "global_pose/frame_times",
        "global_pose/frame_orientations",
        "global_pose/frame_velocities",
        "processed_log/CAN/speed/t",
        "processed_log/CAN/steering_angle/value",
    ],
)
def test_a_truncated_file_is_refused(tmp_path, name):
    folder = segment(tmp_path)
    for size in (0, 50, -40):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:size])
        with pytest.raises(ValueError, match=rf"{Path(name).name}: expected a numpy array file, got a damaged one"):
            load_comma2k19(folder)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("processed_log/CAN/speed/value", np.zeros(3), "speed: expected one value for each time, got 3 values and"),
        ("processed_log/CAN/speed/t", np.zeros(0), "expected one value for each time, got .* and 0 times"),
        ("processed_log/CAN/speed/t", np.full(265, np.nan), "t: expected finite numbers"),
        ("processed_log/CAN/speed/value", np.array(["fast"] * 3), "value: expected finite numbers"),
        ("processed_log/CAN/speed/value", np.array([{}]), "value: expected a numpy array file, got a damaged one"),
        ("global_pose/frame_times", np.zeros((61, 2)), r"frame_times: expected shape \(k,\), got \(61, 2\)"),
        ("global_pose/frame_times", np.arange(61.0)[::-1], "timestamps: camera 'front': expected times that increase"),
        ("global_pose/frame_orientations", np.zeros((60, 4)), r"expected shape \(61, 4\), got \(60, 4\)"),
        ("global_pose/frame_orientations", np.zeros((61, 4)), r"expected unit quaternions .*got norm 0\.0000"),
    ],
)
def test_damaged_values_are_refused(tmp_path, name, array, message):
    folder = segment(tmp_path)
    put(folder / name, array)
    with pytest.raises(ValueError, match=message):
        load_comma2k19(folder)


@pytest.fixture(scope="module")
def real() -> Scene:
    return load_comma2k19(REAL)


def smooth(values: np.ndarray, frames: int = 41) -> np.ndarray:
    window = np.hanning(frames + 2)[1:-1]
    return np.convolve(values, window / window.sum(), "valid")


@genuine
def test_genuine_segment(real):
    assert real.num_frames == 1200
    assert real.duration == pytest.approx(59.95, abs=0.01)
    assert real.timestamps[0, 0] == 0
    # the CAN speed is that of the global poses
    velocity = np.linalg.norm(np.load(REAL / "global_pose/frame_velocities"), axis=1)
    np.testing.assert_allclose(real.speed, velocity, atol=0.5)
    assert np.trapezoid(real.speed, real.frame_times) == pytest.approx(
        np.trapezoid(velocity, real.frame_times), rel=0.02
    )
    # the camera looks ahead, some degrees down
    assert 2 < math.degrees(-math.asin(real.rig.extrinsics[0, 2, 2])) < 5
    assert abs(math.degrees(math.asin(real.rig.extrinsics[0, 1, 2]))) < 2
    assert Scene.from_json(real.to_json()) == real


def real_yaw(times: np.ndarray) -> np.ndarray:
    """Yaw of the device's forward axis in the local east-north-up frame."""
    w, x, y, z = np.load(REAL / "global_pose/frame_orientations").T
    forward = np.stack([w * w + x * x - y * y - z * z, 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=1)
    place = np.load(REAL / "global_pose/frame_positions")[0]
    up = place / np.linalg.norm(place)
    east = np.cross([0, 0, 1.0], up)
    east /= np.linalg.norm(east)
    return np.unwrap(np.arctan2(forward @ np.cross(up, east), forward @ east))


@genuine
def test_genuine_curvature_is_that_of_the_poses(real):
    yaw = real_yaw(real.frame_times)
    yaw_rate = smooth(np.gradient(yaw, real.frame_times))
    curvature, speed = smooth(real.curvature), smooth(real.speed)
    assert speed.min() > 5
    measured = yaw_rate / speed
    # a nearly straight road, where the wheel moves by 7 degrees in all: its play and the road camber blur the relation
    assert np.corrcoef(curvature, measured)[0, 1] > 0.85
    slope = np.polyfit(curvature, measured, 1)[0]
    assert 0.65 < slope < 1.3
    assert measured.std() / curvature.std() == pytest.approx(1, abs=0.25)
    np.testing.assert_allclose(curvature, measured, atol=3e-4)
    # without tyre slip the same angles promise much sharper turns than were driven
    rav4 = COMMA2K19_VEHICLES["toyota_rav4"]._replace(understeer=0.0)
    kinematic = smooth(load_comma2k19(REAL, vehicle=rav4).curvature)
    assert measured.std() / kinematic.std() < 0.7


@genuine
def test_genuine_heading_does_not_drift(real):
    """A sensor offset of a fifth of a degree turned the heading by 0.05 rad a minute; less it, by a tenth of that."""
    yaw = real_yaw(real.frame_times)
    steps = np.diff(real.frame_times)

    def drift(curvature: np.ndarray) -> np.ndarray:
        rate = real.speed * curvature
        return np.r_[0, np.cumsum((rate[1:] + rate[:-1]) / 2 * steps)] - (yaw - yaw[0])

    left = drift(real.curvature)
    assert abs(left[-1]) < 0.006
    assert np.abs(left).max() < 0.016
    constants = COMMA2K19_VEHICLES["toyota_rav4"]
    angle = np.arctan(
        real.curvature * constants.wheelbase * (1 + constants.understeer * real.speed**2)
    ) * constants.steer_ratio  # fmt: skip
    offset = math.radians(read_offset())
    assert math.degrees(offset) == pytest.approx(-0.195, abs=0.01)
    before = drift(steering_to_curvature(angle + offset, real.speed, constants))
    assert abs(before[-1]) > 0.045


def read_offset() -> float:
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / RAV4 / "40"
        shutil.copytree(REAL, copy)
        write_video(copy, 3)
        return float(read_log(folder, f"{RAV4}/40").source.notes["steering_offset_degrees"])


@pytest.mark.parametrize("offset", [-3.0, 0.0, 0.7])
def test_the_steering_offset_is_found(offset):
    rng = np.random.default_rng(0)
    times = np.arange(0, 60, 0.05)
    speed = 15 + 5 * np.sin(times / 20)
    angle = 0.3 * np.sin(times / 7)
    civic = COMMA2K19_VEHICLES["honda_civic"]
    heading = np.cumsum(speed * steering_to_curvature(angle, speed, civic)) * 0.05 + rng.normal(0, 0.003, len(times))
    shown = angle + math.radians(offset)
    shown[100:200] = np.nan
    known = ~np.isnan(shown)
    heading -= np.cumsum(np.where(known, 0, speed * steering_to_curvature(angle, speed, civic))) * 0.05
    assert math.degrees(steering_offset(times, shown, speed, heading, civic)) == pytest.approx(offset, abs=0.05)
    assert steering_offset(times, shown, 0.01 * speed, heading, civic) == 0  # hardly moved
    assert steering_offset(times, shown + 1.0, speed, heading, civic) == 0  # no sensor is off by 57 degrees


def write_video(folder: Path, frames: int) -> None:
    import av

    with av.open(str(folder / "video.hevc"), "w", format="hevc") as container:
        stream = container.add_stream(
            "libx265", rate=20, options={"x265-params": "log-level=none:bframes=2", "crf": "4", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = 1164, 874, "yuv420p"
        for frame in range(frames):
            pixels = picture(0, frame, (874, 1164))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def test_pictures(tmp_path):
    folder = segment(tmp_path, frames=16)
    write_video(folder, 16)
    assert list_logs(tmp_path) == [f"{RAV4}/3"]
    assert list_logs(folder) == ["."]
    recording = read_log(tmp_path, f"{RAV4}/3")
    assert recording.scene.rig.names == ("front",)
    clips = list(recording.clips(6, image_size=(20, 30)))
    assert [[which(p) for (p,) in clip.frames] for clip in clips] == [[(0, f) for f in range(s, s + 6)] for s in (0, 6)]
    assert clips[1].source.log == f"{RAV4}/3"
    np.testing.assert_allclose(clips[1].scene.speed, SPEED)
    assert which(recording.clip(2, 3, image_size=(20, 30)).frames[0, 0]) == (0, 2)  # back again
    with pytest.raises(FileNotFoundError, match=r"expected a comma2k19 segment, .* below it, got none"):
        list_logs(tmp_path / "none")
    (folder / "video.hevc").unlink()
    with pytest.raises(FileNotFoundError, match=r"video\.hevc: expected a video file, got no such file"):
        read_log(tmp_path, f"{RAV4}/3")


def test_a_video_cut_short_gives_what_is_there(tmp_path):
    folder = segment(tmp_path, frames=16)
    write_video(folder, 9)
    recording = read_log(tmp_path, f"{RAV4}/3")
    assert recording.clip(0, 8, image_size=(20, 30)).num_frames == 8
    with pytest.raises(ValueError, match=r"video\.hevc: expected at least 10 frames, the video ends after 9"):
        recording.clip(8, 16, image_size=(20, 30))
