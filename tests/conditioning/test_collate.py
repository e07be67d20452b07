from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.conditioning.encoder import ConditioningEncoder
from gaia2.conditioning.projection import project_boxes
from gaia2.conditioning.table import standard_conditions
from gaia2.scene import METADATA, Agents, Scene

NAN = float("nan")


def traffic(num_frames: int = 24, m: int = 5, seed: int = 0) -> Agents:
    """Agents all around that drift apart; some rows come and go."""
    rng = np.random.default_rng(seed)
    start = np.c_[rng.uniform(-40, 40, (m, 2)), np.full(m, 0.8), rng.uniform(1, 5, (m, 3)), rng.uniform(-3, 3, m)]
    boxes = np.tile(start, (num_frames, 1, 1))
    boxes[..., 0] += 0.3 * np.arange(num_frames)[:, None]
    category = np.where(rng.random((num_frames, m)) < 0.2, -1, rng.integers(0, 7, m))
    return Agents(boxes, category)


def queue(num_frames: int, m: int) -> Agents:
    """m cars in a row ahead, the farthest first; all in the front camera."""
    boxes = np.zeros((num_frames, m, 7))
    boxes[..., 0] = np.linspace(60, 8, m)
    boxes[..., 2:6] = (0.8, 4.0, 1.9, 1.6)
    return Agents(boxes, np.arange(m)[None].repeat(num_frames, 0) % 7)


def test_means_over_the_frames_of_a_latent_leave_absent_ones_out() -> None:
    speed = np.arange(24.0)
    speed[3:6] = NAN
    speed[16:] = NAN
    scene = Scene.create("front", num_frames=24, speed=speed, curvature=np.linspace(0, 0.23, 24))
    given = scene_conditioning(scene, dtype=torch.float64)
    expected = [np.mean([0, 1, 2, 6, 7]), np.mean(speed[8:16]), NAN]
    np.testing.assert_allclose(given["speed"][0], expected)
    np.testing.assert_allclose(given["curvature"][0], [0.035, 0.115, 0.195])


def test_timestamps_are_relative_to_the_present_latent_on_average_over_the_cameras() -> None:
    times = 1e9 + np.arange(16)[:, None] * 0.1 + np.array([0.0, 0.01, 0.02])
    scene = Scene.create("surround3", num_frames=16).replace(timestamps=times)
    for present in (0, 1):
        given = scene_conditioning(scene, present_frame=present)["timestamps"]
        expected = np.array([[0.0, 0.01, 0.02], [0.8, 0.81, 0.82]]) - 0.01 - 0.8 * present
        np.testing.assert_allclose(given[0], expected, atol=2e-6)


def test_cameras_are_those_of_the_rig() -> None:
    scene = Scene.create("van", num_frames=8)
    rig = scene.rig.replace(
        distortion=np.arange(20).reshape(5, 4) / 100, distortion_model=("fisheye", *["pinhole"] * 4)
    )
    given = scene_conditioning(scene.replace(rig=rig), dtype=torch.float64)
    height, width = rig.image_size.T
    k = rig.intrinsics
    expected = np.stack([k[:, 0, 0] / width, k[:, 1, 1] / height, k[:, 0, 2] / width, k[:, 1, 2] / height], axis=1)
    np.testing.assert_allclose(given["intrinsics"][0], expected)
    np.testing.assert_array_equal(given["extrinsics"][0], rig.extrinsics)
    np.testing.assert_array_equal(given["distortion"][0], rig.distortion)
    assert given["distortion_model"].tolist() == [[1, 0, 0, 0, 0]]
    # Another image size changes nothing as long as it has the same shape.
    halved = scene_conditioning(scene.replace(rig=rig.fit(image_size=tuple(rig.image_size[0] // 2))))
    torch.testing.assert_close(halved["intrinsics"].double(), given["intrinsics"], atol=1e-6, rtol=0)


def test_agents_are_those_of_the_middle_frame_of_each_latent() -> None:
    scene = Scene.create("surround", num_frames=24, agents=traffic(m=20))
    given = scene_conditioning(scene, max_agents=24, dtype=torch.float64)["agents"]
    assert given.shape == (1, 3, 5, 24, 13)
    for latent, frame in enumerate((4, 12, 20)):
        expected = project_boxes(
            torch.tensor(scene.agents.boxes[frame]),
            torch.tensor(scene.agents.category[frame]),
            torch.tensor(scene.rig.intrinsics),
            torch.tensor(scene.rig.extrinsics),
            image_size=torch.tensor(scene.rig.image_size),
        )
        torch.testing.assert_close(given[0, latent, :, :20], expected, equal_nan=True)
    assert (given[..., 20:, 12] == -1).all()
    assert (given[..., 12] >= 0).any(dim=-1).any(dim=1).all()
    assert given[..., 20:, :12].isnan().all()


def test_the_nearest_agents_of_each_camera_are_kept_and_it_is_said_once() -> None:
    scene = Scene.create("front", num_frames=8, agents=queue(8, 20))
    with pytest.warns(UserWarning, match="agents: expected at most max_agents=6 boxes in a camera, got more") as caught:
        agents = scene_conditioning([scene, scene], max_agents=6)["agents"]
    assert len(caught) == 1
    depth = agents[0, 0, 0, :, 6]
    expected = np.linspace(60, 8, 20)[-6:] - scene.rig.extrinsics[0, 0, 3]
    np.testing.assert_allclose(depth, expected, rtol=0.02)  # the camera may look a little down
    assert (depth.diff() < 0).all()


def test_agents_of_other_cameras_take_no_room() -> None:
    ahead, behind = queue(8, 6), queue(8, 6).boxes.copy()
    behind[..., 0] *= -0.5
    both = Agents(np.concatenate([behind, ahead.boxes], axis=1), np.tile(ahead.category, 2))
    scene = Scene.create("front", num_frames=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crowded = scene_conditioning(scene.replace(agents=both), max_agents=6)["agents"]
    torch.testing.assert_close(crowded, scene_conditioning(scene.replace(agents=ahead), max_agents=6)["agents"])


def test_an_agent_keeps_its_row_while_there_is_room() -> None:
    # Ten agents, four of them visible at some time: these four keep a row each, also while others are out of sight.
    boxes = queue(24, 10).boxes.copy()
    boxes[:, :6, 0] *= -1
    category = np.tile(np.arange(10) % 7, (24, 1))
    category[:8, 6] = -1
    category[8:16, 7] = -1
    agents = scene_conditioning(Scene.create("front", num_frames=24, agents=Agents(boxes, category)), max_agents=4)
    rows = agents["agents"][0, :, 0, :, 12].long().tolist()
    assert rows == [[-1, 0, 1, 2], [6, -1, 1, 2], [6, 0, 1, 2]]


def test_no_agents_and_no_room_for_any() -> None:
    scene = Scene.create("front", num_frames=8)
    assert (scene_conditioning(scene)["agents"][..., 12] == -1).all()
    assert scene_conditioning(scene, max_agents=0)["agents"].shape == (1, 1, 1, 0, 13)


def test_metadata_and_embeddings() -> None:
    plain = Scene.create("front", num_frames=8)
    told = Scene.create("front", num_frames=8, weather="snow", one_way=False).replace(clip_embedding=[1.0, 2.0])
    given = scene_conditioning([plain, told])
    assert "scenario_embedding" not in given
    assert given["clip_embedding"][0].isnan().all()
    assert given["clip_embedding"][1].tolist() == [1.0, 2.0]
    assert (given["metadata"][0] == -1).all()
    names = dict(zip(METADATA, given["metadata"][1].tolist(), strict=True))
    assert {name: value for name, value in names.items() if value >= 0} == {"weather": 4, "one_way": 0}
    wider = {**METADATA, "weather": ("hail", "snow")}
    assert scene_conditioning(told, vocabulary=wider)["metadata"][0, 1] == 1


def test_a_batch_is_its_scenes_one_by_one_and_feeds_the_encoder() -> None:
    scenes = [Scene.create("surround", num_frames=16, agents=traffic(16, seed=i), speed=3.0 * i) for i in range(2)]
    batch = scene_conditioning(scenes)
    for i, scene in enumerate(scenes):
        for key, value in scene_conditioning(scene).items():
            torch.testing.assert_close(value[0], batch[key][i], equal_nan=True)
    encoded = ConditioningEncoder(dim=8)(batch)
    assert encoded.tokens.shape == (2, 2, 5, 16 + 13, 8)
    assert encoded.tokens.isfinite().all()


def test_types() -> None:
    scene = Scene.create("front", num_frames=8)
    for dtype, real in (
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.bfloat16, torch.float32),
    ):
        types = {key: value.dtype for key, value in scene_conditioning(scene, dtype=dtype).items()}
        assert types.pop("metadata") == types.pop("distortion_model") == torch.int64
        assert set(types.values()) == {real}


def test_bad_input() -> None:
    scene = Scene.create("front", num_frames=16)
    with pytest.raises(ValueError, match="scenes: expected at least one scene, got none"):
        scene_conditioning([])
    with pytest.raises(
        ValueError, match=r"scenes: expected all to have 16 frames and 1 cameras, .* got 8 and 1 in scene 1"
    ):
        scene_conditioning([scene, scene.window(0, 8)])
    with pytest.raises(ValueError, match="got 16 and 5 in scene 1"):
        scene_conditioning([scene, Scene.create("surround", num_frames=16)])
    with pytest.raises(ValueError, match="expected a multiple of frames_per_latent=8 frames, got 12; cut them"):
        scene_conditioning(scene.window(0, 12))
    with pytest.raises(ValueError, match="present_frame: expected a latent from 0 to 1, got 2"):
        scene_conditioning(scene, present_frame=2)
    with pytest.raises(ValueError, match="max_agents: expected a whole number from 0 to 10000, got -1"):
        scene_conditioning(scene, max_agents=-1)
    embedded = [scene.replace(clip_embedding=np.zeros(d)) for d in (3, 4)]
    with pytest.raises(ValueError, match=r"clip_embedding: expected one width in all scenes, got \[3, 4\]"):
        scene_conditioning(embedded)
    with pytest.raises(ValueError, match="metadata: unknown name 'weather'"):
        scene_conditioning(scene.replace(weather="snow"), vocabulary={"country": ("uk",)})


def test_what_is_no_scene_or_no_number_is_refused() -> None:
    scene = Scene.create("front", num_frames=16)
    for scenes in ("front", None, iter([scene])):
        with pytest.raises(ValueError, match="scenes: expected a Scene or a list of them"):
            scene_conditioning(scenes)
    with pytest.raises(ValueError, match="scenes: expected Scenes, got 'front'"):
        scene_conditioning([scene, "front"])
    for number in (0, 100_001, 8.0):
        with pytest.raises(ValueError, match="frames_per_latent: expected a whole number from 1 to 100000"):
            scene_conditioning(scene, frames_per_latent=number)
    for present in (-1, 2):
        with pytest.raises(ValueError, match=f"present_frame: expected a latent from 0 to 1, got {present}"):
            scene_conditioning(scene, present_frame=present)
    with pytest.raises(ValueError, match=r"present_frame: expected a whole number, got 0\.5"):
        scene_conditioning(scene, present_frame=0.5)


def test_what_it_is_by_default() -> None:
    scene = Scene.create("front", num_frames=16, speed=np.arange(16.0))
    given = scene_conditioning(scene)
    assert given["speed"].tolist() == [[3.5, 11.5]]
    assert given["agents"].shape == (1, 2, 1, 16, 13)
    assert given["timestamps"][0, 0, 0] == 0
    assert scene_conditioning((scene, scene), frames_per_latent=4)["speed"].tolist() == [[1.5, 5.5, 9.5, 13.5]] * 2
    assert scene_conditioning(scene, max_agents=10_000)["agents"].shape[3] == 10_000


def test_a_world_models_conditions_take_the_place_of_vocabulary_and_boxes() -> None:
    scene = Scene.create("front", num_frames=8, weather="snow")
    own = standard_conditions(vocabulary={"weather": ("hail", "snow")}, max_agents=3)
    given = scene_conditioning(scene, max_agents=7, conditions=own)
    assert given["agents"].shape == (1, 1, 1, 3, 13)
    assert given["metadata"].tolist() == [[1]]
