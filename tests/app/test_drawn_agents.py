from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.app.drawn_agents import SIZES, DrawnAgent, from_agents, to_agents
from gaia2.scene import AGENT_CATEGORIES, Agents, ego_poses

TIMES = np.arange(16) / 10
STILL = np.zeros((16, 3))

numbers = st.floats(-40, 40).map(lambda number: round(number, 3))
drawn = st.builds(
    DrawnAgent,
    category=st.sampled_from(AGENT_CATEGORIES),
    x=numbers,
    y=numbers,
    yaw=st.floats(-3.1, 3.1),
    speed=st.floats(0.5, 20) | st.floats(-20, -0.5),
    curvature=st.floats(-0.1, 0.1),
    size=st.none() | st.just((3.0, 1.0, math.nan)) | st.just((4.0, 2.0, 1.5)),
    z=st.none() | st.just(1.25),
)


def test_an_agent_is_told_from_where_the_ego_vehicle_is() -> None:
    """A standing car beside a circle that the ego drives: distance by the law of cosines, bearing by its own angle."""
    radius, speed = 20.0, 5.0
    ego = ego_poses(TIMES, np.full(16, speed), np.full(16, 1 / radius))
    boxes = to_agents([DrawnAgent("car", x=0.0, y=30.0, yaw=0.5)], TIMES, ego).boxes[:, 0]
    angle = speed * TIMES / radius
    # the circle's centre is (0, 20); the car stands 10 m beyond it, the ego begins 20 m on this side of it
    distance = np.sqrt(10**2 + radius**2 - 2 * 10 * radius * np.cos(np.pi - angle))
    np.testing.assert_allclose(np.hypot(boxes[:, 0], boxes[:, 1]), distance, atol=1e-9)
    np.testing.assert_allclose(boxes[:, 6], 0.5 - angle, atol=1e-9)
    place = np.array([radius * np.sin(angle[-1]), 20 - radius * np.cos(angle[-1])])
    ahead, left = (np.array([np.cos(a), np.sin(a)]) for a in (angle[-1], angle[-1] + np.pi / 2))
    np.testing.assert_allclose(boxes[-1, :2], [ahead @ ([0, 30] - place), left @ ([0, 30] - place)], atol=1e-9)


def test_an_agent_that_keeps_pace_stays_where_it_is() -> None:
    ego = ego_poses(TIMES, np.full(16, 9.0), np.zeros(16))
    boxes = to_agents([DrawnAgent("bus", x=25.0, y=3.5, speed=9.0)], TIMES, ego).boxes[:, 0]
    np.testing.assert_allclose(boxes[:, :2], np.tile([25.0, 3.5], (16, 1)), atol=1e-9)
    assert boxes[0, 2:6].tolist() == [1.6, *SIZES["bus"]]  # it stands on the road


@given(agents=st.lists(drawn, max_size=4), speed=st.floats(-10, 30), curvature=st.floats(-0.1, 0.1))
@settings(max_examples=60, deadline=None)
def test_what_is_drawn_comes_back(agents: list[DrawnAgent], speed: float, curvature: float) -> None:
    ego = ego_poses(TIMES, np.full(16, speed), np.full(16, curvature))
    made = to_agents(agents, TIMES, ego)
    back = from_agents(made, TIMES, ego)
    assert [(one.category, one.track) for one in back] == [(one.category, None) for one in agents]
    again = to_agents(back, TIMES, ego)
    np.testing.assert_allclose(again.boxes, made.boxes, atol=1e-6)
    np.testing.assert_array_equal(again.track_id, made.track_id)
    for one, other in zip(agents, back, strict=True):
        assert (other.speed, other.curvature) == pytest.approx((one.speed, one.curvature), abs=1e-6)
        assert DrawnAgent.from_dict(json.loads(json.dumps(one.to_dict(), allow_nan=False))).to_dict() == one.to_dict()


def test_a_recorded_track_comes_back_frame_by_frame() -> None:
    random = np.random.default_rng(0)
    boxes = np.empty((16, 2, 7))
    boxes[..., :2] = np.cumsum(random.normal(size=(16, 2, 2)), axis=0) + 10
    boxes[..., 2:6] = (0.9, 4.2, 1.8, 1.5)
    boxes[..., 6] = random.normal(size=(16, 2))
    category = np.full((16, 2), 3)
    category[:4, 1] = category[12, 1] = -1  # comes later, and is hidden once
    agents = Agents(boxes, category, np.tile([7, 40], (16, 1)))
    ego = ego_poses(TIMES, np.linspace(0, 12, 16), np.full(16, -0.02))
    back = from_agents(agents, TIMES, ego)
    assert [one.track is not None for one in back] == [True, True]
    again = to_agents([DrawnAgent.from_dict(one.to_dict()) for one in back], TIMES, ego)
    np.testing.assert_allclose(again.boxes, agents.boxes, atol=1e-9)
    np.testing.assert_array_equal(again.category, agents.category)


def test_rows_of_one_track_id_are_one_agent() -> None:
    boxes = np.tile([10.0, 0, 0.8, 4.5, 1.9, 1.6, 0], (16, 2, 1))
    category = np.zeros((16, 2), int)
    category[::2, 0] = category[1::2, 1] = -1  # it changes its row at every frame
    agents = Agents(boxes, category, np.full((16, 2), 5))
    (back,) = from_agents(agents, TIMES, STILL)
    assert (back.x, back.speed, back.track) == (10.0, 0.0, None)


def test_absent_features() -> None:
    boxes = np.tile([10.0, 0, np.nan, 4.5, 1.9, np.nan, np.nan], (16, 2, 1))
    boxes[:, 1, 0] = np.nan  # nobody knows where that one is
    (back,) = from_agents(Agents(boxes, np.zeros((16, 2), int)), TIMES, STILL)
    made = to_agents([back], TIMES, STILL).boxes[0, 0]
    np.testing.assert_array_equal(made, [10.0, 0, np.nan, 4.5, 1.9, np.nan, 0.0])


def test_no_agents() -> None:
    assert to_agents([], TIMES, STILL) == Agents.empty(16)
    assert from_agents(Agents.empty(16), TIMES, STILL) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"category": "tram"}, r"category: expected one of car, .*, got 'tram'"),
        ({"x": "far"}, "x: expected metres from -10000 to 10000, got 'far'"),
        ({"x": math.inf}, "x: expected metres"),
        ({"yaw": None}, "yaw: expected radians"),
        ({"speed": 400}, "speed: expected m/s from -150 to 150, got 400"),
        ({"curvature": 2}, "curvature: expected 1/m from -1 to 1, got 2"),
        ({"size": [1, 2]}, r"size: expected three numbers, got \[1, 2\]"),
        ({"size": [1, 2, -1]}, "size: expected a number from 0.01 to 100"),
        ({"track": []}, "track: expected poses"),
        ({"track": [[1, None, 2]]}, "track: expected poses of three numbers"),
        ({"colour": "red"}, "agent: .*colour"),
    ],
)
def test_bad_agents(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DrawnAgent.from_dict({"category": "car", "x": 1.0, "y": 2.0} | change)
