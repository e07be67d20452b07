"""Road coordinates against circles worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.procedural.motion import (
    advance,
    fill_absent,
    from_road,
    lane_fit,
    road_curvature,
    to_road,
)
from gaia2.data.procedural.road import metadata_ids, plan_roads
from gaia2.data.procedural.trajectory import drive, scene_motion
from gaia2.scene import Scene, ego_poses

F64 = torch.float64


def test_advance_equals_one_integration_step():
    t = torch.tensor([[0.0, 0.7]], dtype=F64)
    expected = torch.from_numpy(ego_poses(t, torch.full_like(t, 11.0), torch.full_like(t, 0.03))).unbind(-1)
    zero = torch.zeros(1, dtype=F64)
    got = advance(zero, zero, zero, zero + 7.7, zero + 0.03)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b[:, 1])


def test_absent_values_take_the_nearest_earlier_then_later():
    nan = math.nan
    values = torch.tensor([[nan, 2.0, nan, 5.0, nan], [nan] * 5])
    filled = fill_absent(values, torch.tensor([7.0, 9.0]))
    assert filled.tolist() == [[2.0, 2.0, 2.0, 5.0, 5.0], [9.0] * 5]


@settings(max_examples=60, deadline=None)
@given(st.floats(-0.03, 0.03), st.floats(-60, 60), st.floats(-25, 25))
def test_road_coordinates_against_the_circle(curvature, s, d):
    if abs(curvature) < 1e-4:
        curvature = 0.0
    k = torch.tensor(curvature, dtype=F64)
    x, y, heading = from_road(torch.tensor(s, dtype=F64), torch.tensor(d, dtype=F64), k)
    if curvature == 0:
        expected = s, d
    else:
        radius, angle = 1 / curvature, s * curvature
        expected = (radius - d) * math.sin(angle), radius - (radius - d) * math.cos(angle)
    assert (float(x), float(y)) == pytest.approx(expected, abs=1e-6)
    s2, d2, cos, sin = to_road(x, y, k)
    assert (float(s2), float(d2)) == pytest.approx((s, d), abs=0.01 if curvature == 0 else 1e-6)
    assert (float(cos), float(sin)) == pytest.approx((math.cos(heading), math.sin(heading)), abs=1e-3)


def test_road_coordinates_are_stable_in_single_precision():
    k = torch.tensor([0.0, 1e-9, 1e-7, 1e-5, 1e-3], dtype=torch.float32)
    x, y = torch.full((5,), 80.0), torch.full((5,), 3.0)
    s, d, _, _ = to_road(x, y, k)
    exact_s, exact_d, _, _ = to_road(x.double(), y.double(), k.double())
    torch.testing.assert_close(s.double(), exact_s, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(d.double(), exact_d, rtol=1e-4, atol=1e-3)


def test_road_curvature_moves_the_path_circle_to_the_reference_line():
    # the ego drives a left circle of 50 m, 4 m left of the reference line, whose circle is then 54 m
    path = torch.full((1, 9), 1 / 50, dtype=F64)
    assert float(road_curvature(path, torch.tensor([4.0], dtype=F64))) == pytest.approx(1 / 54)


def test_lane_fit_takes_out_offset_and_slope():
    t = torch.linspace(0, 40, 30, dtype=F64)[None]
    offset, heading = lane_fit(t, 0.05 * t, torch.zeros(1, dtype=F64))
    assert float(heading) == pytest.approx(-0.05, abs=0.005)
    assert float(offset) == pytest.approx(0.0, abs=0.1)
    zero = torch.zeros_like(t)
    for value in lane_fit(t, zero, torch.zeros(1, dtype=F64)):
        assert float(value.abs()) < 2e-3


def test_road_place_goes_on_growing_around_more_than_a_full_circle():
    scene = Scene.create("front", num_frames=300, speed=20.0, curvature=0.025, number_of_lanes=2, country="us")
    seeds = torch.tensor([3])
    plan = plan_roads(metadata_ids([scene.metadata], seeds), seeds)
    way = drive(*scene_motion([scene], torch.device("cpu")), plan, seeds)
    offset = float((plan.side * plan.ego)[0])
    steps = way.s[0, :, 0].diff()
    assert float(way.s[0, -1, 0]) > 2 * 2 * math.pi / 0.025 * 0.9
    # along the reference line, a circle that lies `offset` to the right of the driven one
    torch.testing.assert_close(steps, torch.full_like(steps, 2.0 * (1 + 0.025 * offset)), rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(way.d[0, :, 0], torch.full_like(way.d[0, :, 0], offset), rtol=0, atol=0.05)


def test_cameras_with_later_shutters_see_from_further_on():
    scene = Scene.create("surround3", num_frames=4, speed=10.0, curvature=0.0, country="us", number_of_lanes=2)
    times = np.array(scene.timestamps) + np.array([0.0, 0.03, 0.06])
    seeds = torch.tensor([0])
    plan = plan_roads(metadata_ids([scene.metadata], seeds), seeds)
    way = drive(*scene_motion([scene.replace(timestamps=times)], torch.device("cpu")), plan, seeds)
    torch.testing.assert_close(way.s[0, :, 1] - way.s[0, :, 0], torch.full((4,), 0.3, dtype=F64), rtol=0, atol=1e-5)
    torch.testing.assert_close(way.frame_x[0], way.x[0, :, 1])
