"""Agents: shapes, absent rows, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from gaia2.scene import AGENT_CATEGORIES, Agents

BOX = [12.0, -3.5, 0.8, 4.5, 1.9, 1.6, 0.1]


def test_an_absent_row_has_no_box_and_no_track():
    boxes = np.tile(BOX, (2, 2, 1))
    boxes[0, 1, 3] = 0  # not looked at, nothing is there
    agents = Agents(boxes, [[0, -1], [-1, 5]], [[7, 8], [9, 10]])
    assert np.isnan(agents.boxes).all(-1).tolist() == [[False, True], [True, False]]
    assert agents.track_id.tolist() == [[7, -1], [-1, 10]]
    assert agents.boxes[0, 0].tolist() == BOX
    assert (agents.num_frames, agents.max_agents) == (2, 2)


def test_a_single_feature_can_be_absent():
    agents = Agents([[[*BOX[:6], None]]], [[0]])
    assert np.isnan(agents.boxes[0, 0]).tolist() == [False] * 6 + [True]
    assert agents.track_id.tolist() == [[-1]]


def test_window_and_take():
    agents = Agents(np.tile(BOX, (4, 1, 1)), [[0], [1], [2], [3]])
    assert agents.window(1, 3).category[:, 0].tolist() == [1, 2]
    assert agents.take([3, 3, 0]).category[:, 0].tolist() == [3, 3, 0]
    assert Agents.empty(4).window(0, 2) == Agents.empty(2)
    assert Agents.empty(4) != Agents.empty(2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([BOX], [[0]]), r"boxes: expected shape \(tv, m, 7\), got \(1, 7\)"),
        (([[BOX[:6]]], [[0]]), r"boxes: expected shape \(tv, m, 7\), got \(1, 1, 6\)"),
        (([[BOX]], [[0, 1]]), r"category: expected shape \(tv=1, m=1\), got \(1, 2\)"),
        (([[BOX]], [[0]], [0]), r"track_id: expected shape \(tv=1, m=1\), got \(1,\)"),
        (([[BOX]], [[7]]), "expected -1 .absent. or one of 0 car, .*got 7 at frame 0, row 0; use 6"),
        (([[BOX]], [[-2]]), "category: expected -1"),
        (([[BOX]], [[0.5]]), "category: expected an array of integers"),
        (([[BOX]], [["car"]]), "category: expected an array of integers"),
        (([[[*BOX[:4], 0.0, 1.6, 0.0]]], [[0]]), "expected a positive width in metres, got 0 at frame 0, row 0"),
        (([[[*BOX[:3], -4.5, 1.9, 1.6, 0.0]]], [[0]]), "expected a positive length in metres, got -4.5"),
        (([[[np.inf, *BOX[1:]]]], [[0]]), r"boxes: expected finite numbers.*index \[0, 0, 0\]"),
    ],
)
def test_bad_agents_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Agents(*arguments)


def test_bad_frames_are_refused():
    agents = Agents.empty(4)
    with pytest.raises(ValueError, match="frames: expected indices from 0 to 3"):
        agents.take([4])
    with pytest.raises(ValueError, match=r"window: expected 0 <= start < stop <= 4.*got start=3, stop=3"):
        agents.window(3, 3)
    with pytest.raises(ValueError, match="agents: unknown key 'boxs'; did you mean 'boxes'"):
        Agents.from_dict({"boxes": [], "category": [], "boxs": []})


def test_categories_are_the_contract():
    assert AGENT_CATEGORIES == ("car", "truck", "bus", "motorcycle", "bicycle", "pedestrian", "other")


def test_a_track_is_one_agent_in_a_frame():
    boxes = np.tile(BOX, (2, 3, 1))
    with pytest.raises(ValueError, match=r"track_id: expected each id once in a frame, got 7 in the rows \[0, 2\] of"):
        Agents(boxes, np.zeros((2, 3), int), [[7, 8, 9], [7, 8, 7]])
    absent = Agents(boxes, [[0, 0, -1], [0, 0, 0]], [[7, 8, 7], [-1, 8, -1]])
    assert absent.track_id.tolist() == [[7, 8, -1], [-1, 8, -1]]
    with pytest.raises(ValueError, match="track_id: expected 0 or more, or -1 where unknown, got -2 at frame 0, row 0"):
        Agents([[BOX]], [[0]], [[-2]])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [(0, 4e6, "boxes: expected a centre in metres"), (4, 5e3, "a size in metres"), (6, 1e30, "a yaw in radians")],
)
def test_magnitudes_that_cannot_be_meant(field, value, message):
    box = list(BOX)
    box[field] = value
    with pytest.raises(ValueError, match=message):
        Agents([[box]], [[0]])
