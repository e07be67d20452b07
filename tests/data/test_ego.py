"""Poses between poses, and the motion they give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.ego import EgoPoses

RADIUS, SPEED = 50.0, 8.0


def circle(times: np.ndarray) -> EgoPoses:
    yaw = SPEED / RADIUS * times
    place = np.stack([RADIUS * np.sin(yaw), RADIUS - RADIUS * np.cos(yaw), 0 * yaw + 3], axis=1)
    zero = 0 * yaw
    return EgoPoses(times, place, np.stack([np.cos(yaw / 2), zero, zero, np.sin(yaw / 2)], axis=1))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 1))
def test_rotations_turn_evenly_about_one_axis(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    start = rng.normal(size=4)
    axis, angle = rng.normal(size=3), rng.uniform(0, 3)
    turn = np.r_[np.cos(angle / 2), np.sin(angle / 2) * axis / np.linalg.norm(axis)]
    part = np.r_[np.cos(share * angle / 2), np.sin(share * angle / 2) * axis / np.linalg.norm(axis)]
    start /= np.linalg.norm(start)

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.r_[a[0] * b[0] - a[1:] @ b[1:], a[0] * b[1:] + b[0] * a[1:] + np.cross(a[1:], b[1:])]

    poses = EgoPoses([0, 1], np.zeros((2, 3)), np.stack([start, product(start, turn)]))
    expected = EgoPoses([0], np.zeros((1, 3)), product(start, part)[None]).rotation
    np.testing.assert_allclose(poses.at([share])[1], expected, atol=1e-9)


@pytest.mark.parametrize("rate", [1.0, 2.0, 10.0, 100.0])
def test_motion_of_sparse_and_dense_poses(rate: float) -> None:
    poses = circle(np.arange(0, 10 + 1e-9, 1 / rate))
    when = np.linspace(0, 10, 41)
    speed, curvature = poses.motion(when)
    np.testing.assert_allclose(speed, SPEED, rtol=0.02 if rate < 5 else 1e-3)
    np.testing.assert_allclose(curvature, 1 / RADIUS, rtol=0.02 if rate < 5 else 2e-3)


def test_long_series_are_fitted_in_blocks() -> None:
    poses = circle(np.arange(0, 120, 0.05))
    when = np.arange(0, 119, 0.1)
    speed, curvature = poses.motion(when)
    np.testing.assert_allclose(speed, SPEED, rtol=1e-3)
    np.testing.assert_allclose(curvature, 1 / RADIUS, rtol=2e-3)


def test_poses_are_put_in_order_and_kept_once() -> None:
    poses = EgoPoses([2, 0, 2, 1], [[2, 0, 0], [0, 0, 0], [9, 9, 9], [1, 0, 0]], np.tile(np.eye(3), (4, 1, 1)))
    assert poses.times.tolist() == [0, 1, 2]
    assert poses.position[:, 0].tolist() == [0, 1, 2]
    assert poses.at([-1, 0.5, 5])[0][:, 0].tolist() == [0, 0.5, 2]
    assert EgoPoses([1], [[1, 2, 3]], np.eye(3)[None]).at([7, 8])[0].tolist() == [[1, 2, 3]] * 2


def test_to_world_and_back() -> None:
    poses = circle(np.arange(0, 10, 0.1))
    np.testing.assert_allclose(poses.to_world([0.0], np.array([[5.0, 1, 0]])), [[5, 1, 3]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], np.zeros((0, 3)), np.zeros((0, 4))), "expected times .* of at least one pose"),
        (([0, 1], np.zeros((2, 3)), np.zeros((2, 2))), r"got \(2,\), \(2, 3\) and \(2, 2\)"),
        (([0, np.nan], np.zeros((2, 3)), np.tile(np.eye(3), (2, 1, 1))), "expected finite times and positions"),
        (([0], np.zeros((1, 3)), 2 * np.eye(3)[None]), "some that are not orthonormal"),
        (([0], np.zeros((1, 3)), [[2, 0, 0, 0]]), "expected unit quaternions"),
    ],
)
def test_bad_poses(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        EgoPoses(*arguments)
