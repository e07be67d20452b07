"""Labels as boxes of any frames."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.box_table import BoxTable, category_ids
from gaia2.data.ego import EgoPoses


def drive(rate: float = 20.0, speed: float = 10.0, yaw_rate: float = 0.3) -> EgoPoses:
    t = np.arange(-1, 6, 1 / rate)
    yaw = yaw_rate * t
    rows = [np.cos(yaw), -np.sin(yaw), 0 * t, np.sin(yaw), np.cos(yaw), 0 * t, 0 * t, 0 * t, 0 * t + 1]
    place = np.stack([1000 + speed * t, 500 + 0.5 * t**2, 0 * t], axis=1)
    return EgoPoses(t, place, np.stack(rows, axis=1).reshape(-1, 3, 3))


def labels(poses: EgoPoses, times, track, box) -> BoxTable:
    return BoxTable.from_ego(poses, times, track, np.zeros(len(times), dtype=int), box)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_at_the_labels_times_boxes_are_the_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = np.arange(6) * 0.5
    there = rng.random((6, 5)) < 0.7
    there[:, 0] |= ~there.any(axis=1)  # a time without labels is none of theirs
    frame, track = np.nonzero(there)
    boxes = np.concatenate(
        [
            rng.normal(0, 30, (len(frame), 3)),
            rng.uniform(0.5, 9, (len(frame), 3)),
            rng.uniform(-3.1, 3.1, (len(frame), 1)),
        ],
        axis=1,
    )
    category = rng.integers(0, 7, 5)[track]
    order = rng.permutation(len(frame))
    poses = drive()
    table = BoxTable.from_ego(poses, frames[frame][order], track[order], category[order], boxes[order])
    agents = table.agents(poses, frames)
    names = np.unique(track)
    for f in range(6):
        rows = np.flatnonzero(frame == f)
        rows = rows[np.argsort(np.hypot(boxes[rows, 0], boxes[rows, 1]))]
        k = len(rows)
        np.testing.assert_allclose(agents.boxes[f, :k], boxes[rows], atol=1e-9)
        assert agents.category[f].tolist() == [*category[rows], *[-1] * (agents.max_agents - k)]
        assert agents.track_id[f, :k].tolist() == np.searchsorted(names, track[rows]).tolist()


def test_between_labels_an_object_moves_evenly_in_the_world() -> None:
    poses = drive()
    times = np.array([0.0, 0.5, 1.0])
    world = np.stack([1030 + 4 * times, 510 - 2 * times, 0 * times + 1], axis=1)
    heading = np.tile([2 / np.sqrt(20) * 2, -2 / np.sqrt(20), 0], (3, 1))
    table = BoxTable(times, np.array(["a"] * 3), np.zeros(3, int), world, np.ones((3, 3)), heading)
    when = np.arange(0, 1.01, 1 / 12)
    agents = table.agents(poses, when)
    assert agents.boxes.shape == (13, 1, 7)
    position, rotation = poses.at(when)
    expected = np.stack([1030 + 4 * when, 510 - 2 * when, 0 * when + 1], axis=1) - position
    expected = np.einsum("tji,tj->ti", rotation, expected)
    np.testing.assert_allclose(agents.boxes[:, 0, :3], expected, atol=1e-9)
    np.testing.assert_allclose(agents.boxes[:, 0, 6], np.arctan2(-2, 4) - 0.3 * when, atol=1e-6)
    steps = np.diff(agents.boxes[:, 0, 0])
    assert np.abs(np.diff(steps)).max() < 0.1 * abs(steps.mean())  # nothing jumps twice a second


def test_agents_come_and_go_half_a_period_around_their_labels() -> None:
    poses = drive(speed=0.0, yaw_rate=0.0)
    times = np.array([0.0, 0.5, 1.0, 2.5, 3.0])  # gone for a second and a half
    boxes = np.array([[x, 0, 0, 4, 2, 1, 0.0] for x in (10, 11, 12, 20, 21)])
    other = np.array([[50, 0, 0, 4, 2, 1, 0.0]] * 7)
    table = labels(
        poses, np.r_[times, np.arange(7) * 0.5], np.r_[np.zeros(5), np.ones(7)].astype(int), np.r_[boxes, other]
    )
    when = np.arange(0, 3.3, 0.1)
    agents = table.agents(poses, when)
    present = (agents.track_id == 0).any(axis=1)
    assert present.tolist() == [t <= 1.26 or t > 2.24 for t in when.round(6)]
    x = np.array([agents.boxes[f, agents.track_id[f] == 0, 0][0] for f in np.flatnonzero(present)])
    t = when[present]
    np.testing.assert_allclose(x, np.where(t < 2, 10 + 2 * t, 20 + 2 * (t - 2.5)), atol=1e-9)


def test_headings_turn_the_short_way() -> None:
    poses = drive(speed=0.0, yaw_rate=0.0)
    table = labels(poses, [0.0, 0.1], [1, 1], [[5, 0, 0, 1, 1, 1, 3.1], [5, 0, 0, 1, 1, 1, -3.1]])
    yaw = table.agents(poses, [0.05]).boxes[0, 0, 6]
    assert abs(abs(yaw) - np.pi) < 1e-9


def test_untracked_boxes_are_those_of_the_nearest_labels() -> None:
    poses = drive(speed=0.0, yaw_rate=0.0)
    table = labels(poses, [0.0, 0.5, 1.0], None, [[x, 0, 0, 1, 1, 1, 0.0] for x in (1, 2, 3)])
    agents = table.agents(poses, [0.0, 0.2, 0.3, 0.5, 0.74, 0.76])
    assert agents.boxes[:, 0, 0].tolist() == [1, 1, 2, 2, 2, 3]
    assert (agents.track_id == -1).all()
    assert table.agents(poses, [0.25]).category.tolist() == [[0]]  # in the middle: one of both, not both


def test_two_labels_of_one_track_at_one_time_are_one_agent() -> None:
    poses = drive()
    table = labels(poses, [0.0, 0.0, 0.1], [3, 3, 3], [[x, 0, 0, 1, 1, 1, 0.0] for x in (1, 2, 3)])
    assert (table.agents(poses, [0.0, 0.1]).category >= 0).sum(axis=1).tolist() == [1, 1]


def test_no_boxes_are_no_agents() -> None:
    poses = drive()
    empty = labels(poses, [], [], np.zeros((0, 7)))
    assert empty.agents(poses, [0.0, 0.1]).boxes.shape == (2, 0, 7)
    assert labels(poses, [0.0], [1], [[1, 0, 0, 1, 1, 1, 0.0]]).agents(poses, [3.0, 4.0]).most_at_once == 0


def test_categories() -> None:
    ids, unknown = category_ids(["REGULAR_VEHICLE", "UFO", "pedestrian", "UFO"], {"REGULAR_VEHICLE": "car"})
    assert ids.tolist() == [0, 6, 5, 6]
    assert unknown == ("UFO",)
    assert category_ids([], {})[0].shape == (0,)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"boxes: expected size \(2, 3\), got \(3, 2\)"):
        BoxTable(np.zeros(2), None, np.zeros(2, int), np.zeros((2, 3)), np.zeros((3, 2)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="boxes: expected a track for each of 1 boxes, got 2"):
        labels(drive(), [0.0], [1, 2], [[1, 0, 0, 1, 1, 1, 0.0]])
