"""The ego's path against circles worked out by hand and against fine steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.scene import ego_poses


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 30), st.floats(0.0005, 0.05), st.booleans(), st.integers(2, 40))
def test_constant_curvature_is_a_circle(speed, curvature, left, steps):
    k = curvature if left else -curvature
    t = np.linspace(0, 3, steps)
    x, y, yaw = ego_poses(t, np.full_like(t, speed), np.full_like(t, k)).T
    angle = speed * t * k
    np.testing.assert_allclose(yaw, angle, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x, np.sin(angle) / k, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(y, (1 - np.cos(angle)) / k, rtol=1e-9, atol=1e-9)


def test_changing_speed_and_curvature_converge_to_fine_integration():
    t = np.linspace(0, 4, 41)
    speed, curvature = 8 + 3 * np.sin(t), 0.01 * np.cos(1.3 * t)
    fine = np.linspace(0, 4, 400_001)
    v, k = 8 + 3 * np.sin(fine), 0.01 * np.cos(1.3 * fine)
    dt = fine[1] - fine[0]
    yaw = np.concatenate([[0], np.cumsum((v * k)[:-1] * dt)])
    x, y = np.sum(v * np.cos(yaw)) * dt, np.sum(v * np.sin(yaw)) * dt
    assert ego_poses(t, speed, curvature)[-1].tolist() == pytest.approx([x, y, yaw[-1]], abs=0.02)


def test_a_batch_is_each_path_on_its_own():
    t = np.tile(np.linspace(0, 2, 9), (3, 1))
    rng = np.random.default_rng(0)
    speed, curvature = rng.uniform(0, 20, (3, 9)), rng.uniform(-0.03, 0.03, (3, 9))
    together = ego_poses(t, speed, curvature)
    for row in range(3):
        np.testing.assert_array_equal(together[row], ego_poses(t[row], speed[row], curvature[row]))


@pytest.mark.parametrize(
    ("name", "speed", "curvature"),
    [("speed", np.zeros(3), np.zeros(4)), ("curvature", np.zeros(4), np.array([0, np.nan, 0, 0]))],
)
def test_bad_input_is_named(name, speed, curvature):
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        ego_poses(np.arange(4.0), speed, curvature)


def test_one_frame_stays_where_it_is():
    np.testing.assert_array_equal(ego_poses(np.zeros((2, 1)), np.ones((2, 1)), np.ones((2, 1))), np.zeros((2, 1, 3)))
