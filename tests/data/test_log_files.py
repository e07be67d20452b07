"""Motion from poses against analytic trajectories, and cutting a log."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.log_files import check_log_folder, cut_scene, motion_from_poses, rotation_matrices
from gaia2.scene import Scene


def yaw_matrices(yaw: np.ndarray) -> np.ndarray:
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)
    rows = [[np.cos(yaw), -np.sin(yaw), zero], [np.sin(yaw), np.cos(yaw), zero], [zero, zero, one]]
    return np.array(rows).transpose(2, 0, 1)


@given(
    radius=st.floats(8, 500), left=st.booleans(), speed=st.floats(1, 25), reverse=st.booleans(), yaw0=st.floats(-4, 4)
)
@settings(max_examples=50, deadline=None)
def test_a_circle_has_its_speed_and_curvature(radius, left, speed, reverse, yaw0):
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(-0.2, 3.2, 600))  # irregular, as logs are
    signed_speed = -speed if reverse else speed
    curvature = (1 if left else -1) / radius
    yaw = yaw0 + curvature * signed_speed * times
    place = np.stack([np.sin(yaw), -np.cos(yaw), 0 * yaw], axis=1) / curvature + [5000.0, -3000, 20]
    at = np.linspace(0, 3, 31)
    got_speed, got_curvature = motion_from_poses(times, place, yaw_matrices(yaw), at)
    # fitting a parabola over 0.6 s shortens an arc of angle a by about a²/18
    bend = (0.3 * speed / radius) ** 2
    np.testing.assert_allclose(got_speed, signed_speed, rtol=1e-6 + 0.2 * bend)
    np.testing.assert_allclose(got_curvature, curvature, rtol=1e-6 + 0.2 * bend)


def test_braking_to_a_stop_is_exact_and_curvature_goes_absent():
    times = np.linspace(0, 4, 801)
    distance = 8 * times - times**2  # 8 m/s, -2 m/s², at rest at 4 s
    place = np.stack([distance, 0 * times, 0 * times], axis=1)
    at = np.linspace(0, 4, 41)
    speed, curvature = motion_from_poses(times, place, yaw_matrices(0 * times), at)
    np.testing.assert_allclose(speed, 8 - 2 * at, atol=1e-6)
    assert np.isnan(curvature[at > 3.76]).all()
    np.testing.assert_allclose(curvature[at < 3.74], 0, atol=1e-9)


def test_noise_is_smoothed():
    rng = np.random.default_rng(1)
    times = np.linspace(0, 5, 1000)
    place = np.stack([10 * times, 0 * times, 0 * times], axis=1) + rng.normal(0, 0.01, (1000, 3))
    speed, _ = motion_from_poses(times, place, yaw_matrices(0 * times), np.linspace(0.5, 4.5, 41))
    assert np.abs(speed - 10).max() < 0.05  # single differences are off by metres a second


def test_too_few_poses_are_absent():
    times = np.array([0.0, 0.1, 0.2, 5.0])
    speed, curvature = motion_from_poses(times, np.zeros((4, 3)), yaw_matrices(times), np.array([0.1, 5.0]))
    assert np.isnan(speed).all()
    assert np.isnan(curvature).all()


def test_rotation_matrices_turn_as_quaternions_do():
    q = np.random.default_rng(2).normal(size=(20, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    matrices = rotation_matrices("q", q)
    np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)
    # v + 2 r x (r x v + w v), the sandwich product without matrices
    v, w, r = np.array([0.3, -1.2, 2.0]), q[:, :1], q[:, 1:]
    np.testing.assert_allclose(matrices @ v, v + 2 * np.cross(r, np.cross(r, v) + w * v), atol=1e-12)
    with pytest.raises(ValueError, match=r"q: expected unit quaternions .*got norm 2\.0000 in row 0"):
        rotation_matrices("q", np.array([[2.0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="got norm nan in row 1"):
        rotation_matrices("q", np.array([[1.0, 0, 0, 0], [np.nan, 0, 0, 0]]))


def test_cutting_at_the_logs_own_rate_keeps_its_frames():
    times = np.cumsum([7.0, 0.1, 0.1003, 0.0997, 0.1, 0.1])
    scene = Scene.create("front", 6, speed=np.arange(6.0)).replace(timestamps=times)
    part = cut_scene(scene, frame_rate=10.0, start=0.1, num_frames=3)
    assert part.speed.tolist() == [1, 2, 3]
    np.testing.assert_allclose(part.timestamps[:, 0], [0, 0.1003, 0.2])
    assert cut_scene(scene, frame_rate=10.0, start=0.0, num_frames=None).num_frames == 6


def test_cutting_at_another_rate_resamples_from_zero():
    scene = Scene.create("front", 11, 10.0, speed=np.arange(11.0))
    part = cut_scene(scene, frame_rate=20.0, start=0.2, num_frames=4)
    np.testing.assert_allclose(part.speed, [2, 2.5, 3, 3.5])
    np.testing.assert_allclose(part.timestamps[:, 0], [0, 0.05, 0.1, 0.15])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1.0}, r"start: expected seconds within the log, 0 to 1\.00, got -1"),
        ({"start": 1.5}, r"start: expected seconds within the log, 0 to 1\.00"),
        ({"num_frames": 12}, "num_frames: expected 1 to 11, the frames of this log from 0 s on, got 12"),
        ({"num_frames": 0}, "num_frames: expected 1 to 11"),
        ({"frame_rate": 20.0, "num_frames": 100}, "resample: expected times within the scene"),
        ({"frame_rate": 0.0}, "frame_rate: expected a positive number"),
    ],
)
def test_cutting_what_is_not_there(arguments, message):
    scene = Scene.create("front", 11, 10.0)
    with pytest.raises(ValueError, match=message):
        cut_scene(scene, **{"frame_rate": 10.0, "start": 0.0, "num_frames": None, **arguments})


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such folder; expected a log"):
        check_log_folder(tmp_path / "none", [], "a log")
    with pytest.raises(FileNotFoundError, match="no file a/b; expected a log"):
        check_log_folder(tmp_path, ["a/b"], "a log")
