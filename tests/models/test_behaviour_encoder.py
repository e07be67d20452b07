from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.conditioning.action import CURVATURE_MAX, CURVATURE_SCALE, SPEED_MAX, SPEED_SCALE
from gaia2.conditioning.scenario import ROAD
from gaia2.data.procedural import ProceduralWorld
from gaia2.models.behaviour_encoder import MOMENTS, Behaviour, BehaviourEncoder, behaviour_of
from gaia2.scene import AGENT_CATEGORIES, METADATA, Agents, Scene, ego_poses


def symlog(y: np.ndarray, scale: float, limit: float) -> np.ndarray:
    return np.sign(y) * np.log1p(scale * np.abs(y)) / np.log1p(scale * limit)


def scenes(count: int = 4, **changes: Any) -> list[Scene]:
    return ProceduralWorld(rig="front", num_frames=13, **changes).sample_scenes(range(40, 40 + count))


def encoder(**changes: Any) -> BehaviourEncoder:
    torch.manual_seed(0)
    return BehaviourEncoder(**{"embedding_dim": 24, "dim": 16, "num_heads": 2, "num_blocks": 2} | changes).eval()


def test_what_is_read_is_what_the_scene_says() -> None:
    scene = scenes(1)[0]
    read = behaviour_of([scene])
    at = [0, 4, 8, 12]
    times = scene.frame_times - scene.frame_times[0]
    pose = ego_poses(times, scene.speed, scene.curvature)[at]
    ego = read.ego[0].numpy()
    np.testing.assert_allclose(ego[:, 0], times[at], atol=1e-6)
    np.testing.assert_allclose(ego[:, 1:3], symlog(pose[:, :2], 0.3, 100), atol=1e-6)
    np.testing.assert_allclose(ego[:, 3], pose[:, 2], atol=1e-6)
    np.testing.assert_allclose(ego[:, 4], symlog(scene.speed[at], SPEED_SCALE, SPEED_MAX), atol=1e-6)
    np.testing.assert_allclose(ego[:, 5], symlog(scene.curvature[at], CURVATURE_SCALE, CURVATURE_MAX), atol=1e-6)
    assert (ego[:, 6] == 1).all()
    for k, frame in enumerate(at):
        boxes, category = scene.agents.boxes[frame], scene.agents.category[frame]
        there = category >= 0
        order = np.argsort(np.hypot(boxes[there, 0], boxes[there, 1]))
        boxes, category = boxes[there][order], category[there][order]
        found = read.category[0, k] >= 0
        assert read.category[0, k][found].tolist() == category.tolist()
        made = read.boxes[0, k][found].numpy()
        np.testing.assert_allclose(made[:, 1:3], symlog(boxes[:, :2], 0.3, 100), atol=1e-6)
        np.testing.assert_allclose(made[:, 4:7], np.log(boxes[:, 3:6]), atol=1e-6)
        np.testing.assert_allclose(np.arctan2(made[:, 7], made[:, 8]), np.angle(np.exp(1j * boxes[:, 6])), atol=1e-6)
        assert read.boxes[0, k][~found].abs().max() == 0
    assert read.road[0].tolist() == [METADATA[name].index(scene.metadata[name]) for name in ROAD]


def test_only_the_nearest_boxes_count_and_unknown_ones_do_not() -> None:
    boxes = np.array([[x, 0.0, 0.8, 4.0, 2.0, 1.5, 0.0] for x in (50.0, 5.0, 20.0, 8.0)])
    boxes[3, 6] = np.nan
    agents = Agents(boxes=np.tile(boxes, (8, 1, 1)), category=np.tile([0, 1, 2, 3], (8, 1)))
    read = behaviour_of([Scene.create("front", 8, speed=None, curvature=None, agents=agents)], max_agents=2)
    assert read.category[0].tolist() == [[1, 2]] * MOMENTS
    assert read.category.shape == (1, MOMENTS, 2)
    assert (read.ego[0, :, 1:] == 0).all()  # nothing is known of the ego's motion
    assert (read.road == -1).all()


def test_the_embedding_is_of_what_happens_not_of_how_it_looks_nor_of_the_order_of_the_boxes() -> None:
    model = encoder()
    scene = scenes(1)[0]
    shuffled = np.random.default_rng(0).permutation(scene.agents.category.shape[1])
    agents = Agents(boxes=scene.agents.boxes[:, shuffled], category=scene.agents.category[:, shuffled])
    other_rig = scenes(1, image_size=(32, 64))[0].rig
    alike = [
        scene,
        scene.replace(agents=agents),
        scene.replace(weather="snow", time_of_day="night", country="us"),
        scene.replace(rig=other_rig),
    ]
    embeddings = model.embed(alike)
    np.testing.assert_allclose(embeddings[1:], embeddings[:1].repeat(3, axis=0), atol=1e-4)
    different = [
        scene.replace(speed=scene.speed + 5),
        scene.replace(curvature=scene.curvature + 0.02),
        scene.replace(speed=None),
        scene.replace(agents=None),
        scene.replace(one_way=not scene.metadata["one_way"]),
        scene.replace(intersection=None),
        scene.replace(
            agents=Agents(boxes=np.add(scene.agents.boxes, [3, 0, 0, 0, 0, 0, 0]), category=scene.agents.category)
        ),
    ]
    changes = np.abs(model.embed(different) - embeddings[:1]).max(axis=1)
    assert (changes > 1e-3).all(), changes


def test_embeddings_have_mean_0_and_variance_1_and_survive_saving(tmp_path: Path) -> None:
    model = encoder()
    made = model.embed(scenes())
    assert made.shape == (4, 24)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(made.var(axis=1), 1, atol=1e-3)
    np.testing.assert_allclose(made[2:3], model.embed(scenes()[2:3]), atol=1e-5)
    model.save_pretrained(tmp_path)
    np.testing.assert_array_equal(BehaviourEncoder.from_pretrained(tmp_path).embed(scenes()), made)


def test_a_vocabulary_of_its_own_is_kept_and_read_by_name(tmp_path: Path) -> None:
    """As if the library's had other names and orders when the weights were made."""
    own: dict[str, tuple[Any, ...]] = {
        "one_way": METADATA["one_way"][::-1],
        "number_of_lanes": METADATA["number_of_lanes"],
    }
    categories = AGENT_CATEGORIES[::-1]
    model = encoder(facts=own, agent_categories=categories)
    model.save_pretrained(tmp_path)
    again = BehaviourEncoder.from_pretrained(tmp_path)
    assert (again.config.facts, again.config.agent_categories) == (
        [[k, list(v)] for k, v in own.items()],
        [*categories],
    )
    given = scenes()
    np.testing.assert_array_equal(again.embed(given), model.embed(given))

    read = behaviour_of(given, 16)
    last = len(AGENT_CATEGORIES) - 1
    turned = Behaviour(
        read.ego,
        read.boxes,
        torch.where(read.category >= 0, last - read.category, -1),
        torch.stack([1 - read.road[:, ROAD.index("one_way")], read.road[:, ROAD.index("number_of_lanes")]], dim=1),
    )
    np.testing.assert_allclose(model(turned).detach().numpy(), model.embed(given), atol=1e-5)


def test_what_an_encoder_does_not_know_is_refused() -> None:
    agents = Agents(boxes=np.ones((8, 1, 7)), category=np.full((8, 1), AGENT_CATEGORIES.index("truck")))
    with pytest.raises(ValueError, match="expected the categories that the model was trained with, car, got truck"):
        encoder(agent_categories=("car",)).embed([Scene.create("front", 8, agents=agents)])
    with pytest.raises(ValueError, match="number_of_lanes: unknown value 3"):
        encoder(facts={"number_of_lanes": (1, 2)}).embed([Scene.create("front", 8, number_of_lanes=3)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "num_heads"),
        ({"num_blocks": 0}, "num_blocks"),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"facts": {"one_way": ()}}, "facts: expected at least one value of 'one_way'"),
        ({"facts": 3}, "facts: expected names and their allowed values"),
    ],
)
def test_sizes_that_cannot_be_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(**changes)


def test_one_scene_alone_or_none_is_refused() -> None:
    for given in (scenes(1)[0], []):
        with pytest.raises(ValueError, match="scenes: expected a list of at least one Scene"):
            encoder().embed(given)  # type: ignore[arg-type]


def test_an_embedding_stands_in_for_what_it_was_made_of() -> None:
    model, scene = encoder(), scenes(1)[0]
    made = model.stand_in(scene)
    np.testing.assert_array_equal(made.scenario_embedding, model.embed([scene])[0])
    assert np.isnan(made.speed).all()
    assert np.isnan(made.curvature).all()
    assert (made.agents.category == -1).all()
    assert made.metadata == {name: scene.metadata[name] for name in ("country", "weather", "time_of_day")}
    np.testing.assert_array_equal(made.rig.extrinsics, scene.rig.extrinsics)
