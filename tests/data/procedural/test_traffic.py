"""Sampled scenes: plausible, complete, and exact in the ego's frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gaia2.data.procedural import ProceduralWorld
from gaia2.scene import AGENT_CATEGORIES, METADATA

CAR = AGENT_CATEGORIES.index("car")


@pytest.fixture(scope="module")
def scenes():
    return ProceduralWorld(image_size=(32, 64), num_frames=12).sample_scenes(range(300))


def ego_in_world(scene, substeps: int = 60):
    """The ego's poses by many small Euler steps, independent of the library's integration."""
    times, poses, pose = scene.timestamps.mean(1), [(0.0, 0.0, 0.0)], np.zeros(3)
    for i in range(len(times) - 1):
        dt = (times[i + 1] - times[i]) / substeps
        for j in range(substeps):
            share = (j + 0.5) / substeps
            v = scene.speed[i] + share * (scene.speed[i + 1] - scene.speed[i])
            k = (scene.curvature[i] + scene.curvature[i + 1]) / 2
            pose = pose + dt * v * np.array([math.cos(pose[2]), math.sin(pose[2]), k])
        poses.append(tuple(pose))
    return np.array(poses)


def in_world(scene):
    """Agents' centres and yaws in the ego's start frame, `(tv, m, 2)` and `(tv, m)`."""
    x, y, yaw = ego_in_world(scene).T[:, :, None]
    bx, by = scene.agents.boxes[..., 0], scene.agents.boxes[..., 1]
    centre = np.stack([x + np.cos(yaw) * bx - np.sin(yaw) * by, y + np.sin(yaw) * bx + np.cos(yaw) * by], axis=-1)
    return centre, scene.agents.boxes[..., 6] + yaw


def test_the_same_seed_gives_the_same_scene_in_any_batch(scenes):
    world = ProceduralWorld(image_size=(32, 64), num_frames=12)
    again = world.sample_scenes([17, 4])
    assert again[0] == scenes[17]
    assert again[1] == scenes[4]
    assert scenes[0] != scenes[1]


def test_parked_vehicles_stand_still_in_the_world(scenes):
    checked = 0
    for scene in scenes[:120]:
        centre, yaw = in_world(scene)
        for row in (7, 8, 9):  # the rows of parked vehicles
            seen = scene.agents.category[:, row] >= 0
            if seen.sum() < 2 or scene.speed.max() < 1:
                continue
            checked += 1
            assert set(scene.agents.category[seen, row]) == {CAR}
            assert np.ptp(centre[seen, row], axis=0).max() < 0.02
            assert np.ptp(np.unwrap(yaw[seen, row])) < 1e-3
    assert checked > 40


def test_moving_agents_go_where_they_look_at_plausible_speed(scenes):
    checked = 0
    for scene in scenes[:120]:
        centre, yaw = in_world(scene)
        step = np.diff(centre, axis=0) / np.diff(scene.timestamps[:, 0])[:, None, None]
        speed = np.linalg.norm(step, axis=-1)
        fast = speed > 1.5
        heading = (yaw[1:] + yaw[:-1]) / 2
        along = (step[..., 0] * np.cos(heading) + step[..., 1] * np.sin(heading))[fast] / speed[fast]
        checked += fast.sum()
        assert np.nanmax(speed, initial=0.0) < 30
        ahead = along > 0.98
        assert ahead.mean() > 0.9 if len(ahead) else True  # a lane's heading, not the small change of lane
    assert checked > 500


def test_boxes_stand_on_the_ground_and_have_their_category_s_size(scenes):
    boxes = np.concatenate([s.agents.boxes.reshape(-1, 7) for s in scenes])
    category = np.concatenate([s.agents.category.reshape(-1) for s in scenes])
    present = category >= 0
    np.testing.assert_allclose(boxes[present, 2], boxes[present, 5] / 2)
    assert np.isnan(boxes[~present]).all()
    lengths = {name: boxes[category == i, 3].mean() for i, name in enumerate(AGENT_CATEGORIES) if name != "other"}
    assert lengths["bus"] > lengths["truck"] > lengths["car"] > lengths["motorcycle"] > lengths["pedestrian"]
    assert np.hypot(boxes[present, 0], boxes[present, 1]).max() <= 100.1
    assert 3 < np.mean([(s.agents.category >= 0).any(0).sum() for s in scenes]) < 10


def test_nobody_stands_inside_the_ego(scenes):
    overlaps = 0
    for scene in scenes:
        box = scene.agents.boxes
        length = np.where(np.abs(np.cos(box[..., 6])) > 0.7, box[..., 3], box[..., 4])
        overlaps += bool(((np.abs(box[..., 0]) < length / 2 + 2.2) & (np.abs(box[..., 1]) < 1.2)).any())
    assert overlaps / len(scenes) < 0.04


def test_oncoming_traffic_is_on_the_country_s_side(scenes):
    for scene in scenes:
        if scene.metadata["one_way"] or scene.metadata["number_of_lanes"] < 2:
            continue
        oncoming = scene.agents.boxes[0, 4:7]
        near = np.abs(scene.curvature).max() < 1e-3
        for x, y in oncoming[:, :2]:
            if near and abs(x) < 40:
                assert (y < 0) == (scene.metadata["country"] == "uk")


def test_distributions(scenes):
    speeds = np.array([s.speed.mean() for s in scenes])
    assert 0.10 < (np.array([s.speed.max() for s in scenes]) == 0).mean() < 0.30
    assert speeds.max() > 18
    assert max(s.speed.max() for s in scenes) <= 25
    curvature = np.array([s.curvature.mean() for s in scenes])
    assert 0.30 < (np.abs(curvature) < 1e-3).mean() < 0.65
    assert np.abs(curvature).max() < 0.022
    assert 0.35 < (curvature[np.abs(curvature) > 1e-3] > 0).mean() < 0.65
    for name, values in METADATA.items():
        drawn = [s.metadata[name] for s in scenes]
        shares = np.array([np.mean([value == other for other in drawn]) for value in values])
        assert shares.min() > (0.0 if name == "speed_limit" else 0.45 / len(values)), name
    both = [(s.metadata["weather"], s.metadata["time_of_day"]) for s in scenes]
    assert len(set(both)) == 20
    category = np.concatenate([s.agents.category[0] for s in scenes])
    shares = np.bincount(category[category >= 0], minlength=7) / (category >= 0).sum()
    assert shares.min() > 0.06


def test_red_lights_stop_the_ego_before_the_line(scenes):
    stopping = [s for s in scenes if s.metadata["traffic_light"] == "red" and s.speed[0] > 2]
    assert stopping
    assert all(s.speed[-1] < s.speed[0] for s in stopping)


def test_cameras_are_jittered_and_stay_rigid(scenes):
    base = ProceduralWorld(image_size=(32, 64), num_frames=2, rig_jitter=False).sample_scenes([0])[0].rig
    heights = np.array([s.rig.extrinsics[:, 2, 3] for s in scenes])
    assert heights.std(0).min() > 0.02
    focal = np.array([s.rig.intrinsics[:, 0, 0] for s in scenes]) / base.intrinsics[:, 0, 0]
    assert 0.02 < focal.std() < 0.06
    for scene in scenes[:50]:
        rotation = scene.rig.extrinsics[:, :3, :3]
        turn = rotation @ base.extrinsics[:, :3, :3].transpose(0, 2, 1)
        angle = np.degrees(np.arccos((np.trace(turn, axis1=1, axis2=2) - 1) / 2))
        assert angle.max() < 7


def test_frame_rates_are_drawn_from_those_given():
    world = ProceduralWorld(image_size=(32, 64), num_frames=3, frame_rates=(10.0, 25.0))
    steps = {round(float(s.timestamps[1, 0]), 4) for s in world.sample_scenes(range(20))}
    assert steps == {0.1, 0.04}
