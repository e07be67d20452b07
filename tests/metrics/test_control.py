"""Control figures from readings that a test prescribes: what is read off is known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.control import (
    SEEN,
    Facts,
    agent_measures,
    control_measures,
    mirror_test,
    motion_measures,
    shuffled,
    visible_boxes,
)
from gaia2.metrics.judge_pictures import AGENTS, NUMBERS, asked_numbers, part_classes
from gaia2.metrics.latent_shift import shift_row, within_clip_variance
from gaia2.metrics.measure import (
    Measure,
    correlation,
    mean,
    mean_error,
    median_relative_error,
    ratio_of_sums,
    same_sign,
    slope,
)
from gaia2.scene import AGENT_CATEGORIES, METADATA, Agents, Scene, camera_extrinsics

CLIPS, FRAMES = 40, 8
TM = 2


def scene_of(seed: int) -> Scene:
    rng = np.random.default_rng(seed)
    box = [12.0, rng.uniform(-4, 4), 0.8, 4.5, 1.9, 1.6, 0.0]
    category = int(rng.integers(len(AGENT_CATEGORIES)))
    made = Scene.create(
        "front",
        num_frames=FRAMES,
        speed=float(rng.uniform(2, 20)),
        curvature=float(rng.choice([-1, 1]) * rng.uniform(0.004, 0.02)),
        agents=Agents([[box]] * FRAMES, [[category]] * FRAMES),
        **{name: values[rng.integers(len(values))] for name, values in METADATA.items()},
    )
    pose = np.array(made.rig.extrinsics)
    pose[0] = camera_extrinsics((1.7, 0.0, rng.uniform(1, 3)), pitch_down=rng.uniform(-8, 8))
    return made.replace(rig=made.rig.replace(extrinsics=pose).fit(image_size=(64, 128)))


def facts_of(scene: Scene) -> Facts:
    """Facts in which the scene's box is all that is there, and fills what it covers."""
    from gaia2.metrics.agent_overlap import box_masks

    masks = box_masks(scene)[2::4]
    classes = torch.where(masks >= 0, masks + AGENTS[0], CLASSES.index("road"))
    return Facts(scene, part_classes(classes))


def reading_of(facts: Facts) -> dict[str, torch.Tensor]:
    """What a judge without fault would say."""
    agents = torch.stack([(facts.parts == index).half() for index in AGENTS], dim=2)
    scene = facts.scene
    reading = {
        "agents": agents,
        "speed": torch.tensor(scene.speed.mean()),
        "curvature": torch.tensor(scene.curvature.mean()),
        "change": torch.tensor(2.0 if scene.speed.max() < 0.2 else 9.0),
    }
    for name, values in METADATA.items():
        logits = torch.zeros(len(values))
        logits[values.index(scene.metadata[name])] = 1.0
        reading[f"label {name}"] = logits
    reading |= {f"number {name}": asked_numbers(scene.rig, (64, 128))[name] for name in NUMBERS}
    return reading


@pytest.fixture(scope="module")
def facts() -> list[Facts]:
    return [facts_of(scene_of(seed)) for seed in range(CLIPS)]


@pytest.fixture(scope="module")
def readings(facts: list[Facts]) -> list[dict[str, torch.Tensor]]:
    return [reading_of(f) for f in facts]


def test_faultless_readings_give_the_best_figures(facts, readings) -> None:
    got = {name: measure.value() for name, measure in control_measures(readings, facts).items()}
    for name in METADATA:
        assert got[f"{name} right"] == 1.0
    for name in ("agents found", "agents class right", "curvature sign"):
        assert got[name] == 1.0
    for name in ("horizon r", "focal r", "height r", "speed r", "curvature r", "horizon slope", "curvature gain"):
        if name != "focal r":  # all scenes have one focal length
            assert math.isclose(got[name], 1.0, abs_tol=1e-6), name
    assert got["agents AUC"] == 1.0
    assert all(got[f"{name} seen (AUC)"] == 1.0 for name in SEEN.values())
    assert got["agents false at empty places"] == 0.0
    assert got["horizon error (pixels)"] < 1e-5
    assert math.isnan(got["focal r"])


def test_readings_of_other_clips_are_at_chance(facts, readings) -> None:
    order = shuffled(["random"] * CLIPS)
    got = {n: m.value() for n, m in control_measures([readings[i] for i in order], facts).items()}
    assert got["agents AUC"] < 0.75
    assert abs(got["speed r"]) < 0.5
    assert got["number_of_lanes right"] < 0.5


def test_measured_motion_that_is_off_by_a_share(facts, readings) -> None:
    off = [r | {"speed": 0.9 * r["speed"], "curvature": -1.2 * r["curvature"]} for r in readings]
    got = {n: m.value() for n, m in control_measures(off, facts).items()}
    assert math.isclose(got["speed error (median, share)"], 0.1, rel_tol=1e-4)
    assert math.isclose(got["curvature gain"], -1.2, rel_tol=1e-4)
    assert got["curvature sign"] == 0.0
    assert math.isclose(got["curvature error (median, share)"], 2.2, rel_tol=1e-4)


def test_hidden_boxes_do_not_count(facts) -> None:
    fact = facts[0]
    assert len(visible_boxes(fact)) == TM
    hidden = torch.full_like(fact.parts, CLASSES.index("building"))
    assert visible_boxes(Facts(fact.scene, hidden)) == []


def test_evidence_decides_auc_and_found(facts, readings) -> None:
    """Half of the boxes with an agent of probability 1, the rest like empty places, of probability 0.1."""
    changed = []
    for index, reading in enumerate(readings):
        agents = torch.full_like(reading["agents"], 0.1 / len(AGENTS))
        changed.append(reading | {"agents": torch.maximum(agents, reading["agents"]) if index % 2 else agents})
    got = agent_measures(changed, facts)
    assert math.isclose(got["agents AUC"].value(), 0.75, abs_tol=0.02)
    assert math.isclose(got["agents found"].value(), 0.5, abs_tol=0.02)
    assert got["agents false at empty places"].value() == 0.0


def test_mirror_accepts_an_honest_judge(facts, readings) -> None:
    assert mirror_test(readings, facts, ["random"] * CLIPS) == {}


def test_mirror_refuses_a_judge_that_is_told_the_answer(facts, readings) -> None:
    # readings that follow the scene they are compared with, whatever clip they are said to be of: a leak
    order = shuffled(["random"] * CLIPS)
    leaked = [dict(r) for r in readings]
    for place, clip in enumerate(order):
        for name in ("label weather", "speed", "number horizon", "agents"):
            leaked[clip][name] = readings[place][name]
    refused = mirror_test(leaked, facts, ["random"] * CLIPS)
    assert {"weather right", "speed r", "horizon r", "agents AUC"} <= set(refused)
    assert "country right" not in refused
    assert "in shuffled clips, chance" in refused["weather right"]


def test_mirror_refuses_a_judge_that_cannot_tell_genuine_clips(facts, readings) -> None:
    blind = [r | {"label weather": torch.zeros(len(METADATA["weather"]))} for r in readings]
    refused = mirror_test(blind, facts, ["random"] * CLIPS)
    assert set(refused) == {"weather right"}
    assert "on genuine clips, the most frequent value alone" in refused["weather right"]


def test_shuffled_keeps_groups_and_uses_all_once() -> None:
    groups = ["a", "b", "a", "a", "b"]
    order = shuffled(groups)
    assert sorted(order) == list(range(5))
    assert all(groups[i] == groups[j] and i != j for i, j in enumerate(order))


def test_horizon_is_where_level_rays_land() -> None:
    front = Scene.create("front").rig.fit(image_size=(64, 128))
    level = asked_numbers(front, (64, 128))
    assert math.isclose(float(level["horizon"]), float(front.intrinsics[0, 1, 2]), abs_tol=1e-4)
    pose = np.array(front.extrinsics)
    pose[0] = camera_extrinsics((1.7, 0.0, 1.5), pitch_down=5.0)
    down = asked_numbers(front.replace(extrinsics=pose), (64, 128))
    rise = front.intrinsics[0, 1, 1] * math.tan(math.radians(5.0))
    assert math.isclose(float(level["horizon"] - down["horizon"]), rise, abs_tol=1e-3)


def test_figures_of_rows() -> None:
    rows = np.array([[1.0, 2.0], [2.0, 4.0], [4.0, 8.0], [np.nan, 1.0]])
    assert math.isclose(correlation(rows), 1.0)
    assert math.isclose(slope(rows), 2.0)
    assert math.isclose(mean_error(rows), 7 / 3)
    assert math.isclose(median_relative_error(rows), 1.0)
    assert same_sign(rows * [1, -1]) == 0.0
    assert math.isclose(ratio_of_sums(rows[:3]), 0.5)
    assert math.isnan(mean(rows[3:, :1]))
    assert math.isnan(correlation(rows[:2]))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for draw in range(60):
        low, high = Measure([rng.normal(1.0, 1.0, (1, 1)) for _ in range(30)], mean).interval(draws=100, seed=draw)
        held += low <= 1.0 <= high
    assert held >= 0.8 * 60


def test_share_of_a_shift() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, noise = (torch.randn(3, 2, 4, 8, 16, generator=generator) for _ in range(3))
    same = Measure([shift_row(a, b, a + noise, b + noise)], ratio_of_sums).value()
    half = Measure([shift_row(a, b, noise, noise + 0.5 * (b - a))], ratio_of_sums).value()
    none = Measure([shift_row(a, b, noise, torch.randn(noise.shape, generator=generator))], ratio_of_sums).value()
    assert math.isclose(same, 1.0, abs_tol=1e-5)
    assert math.isclose(half, 0.5, abs_tol=1e-5)
    assert abs(none) < 0.05


def test_variance_is_that_within_a_clip_and_camera() -> None:
    latents = torch.zeros(2, 2, 2, 2, 1)
    latents[:, 1] = 7.0  # another camera differs as a whole: no variance within either
    assert within_clip_variance(latents) == 0.0
    latents[0, 0] = 1.0
    assert math.isclose(
        within_clip_variance(latents), float(torch.tensor([1.0] * 4 + [0.0] * 4).var()) / 2, rel_tol=1e-6
    )


def test_overlap_of_agents_is_that_of_their_parts(facts) -> None:
    parts = torch.zeros_like(facts[0].parts)
    parts[0, 0, 2:4, 4:8] = AGENTS[0]  # 8 parts of a car
    parts[0, 0, 8:10, 4:8] = AGENTS[1]  # 8 of a truck, which is not seen
    fact = Facts(facts[0].scene, parts)
    seen = torch.zeros_like(reading_of(fact)["agents"])
    seen[0, 0, 0, 2:4, 6:10] = 0.6  # half of the car's, and 4 more
    value = agent_measures([reading_of(fact) | {"agents": seen}], [fact])["agents IoU"].value()
    assert value == pytest.approx((4 / 12 + 0) / 2)


def test_change_while_standing_is_of_clips_that_stand_only(facts, readings) -> None:
    stands = Facts(facts[0].scene.replace(speed=0.0), facts[0].parts)
    readings = [r | {"change": torch.tensor(2.0 if i == 0 else 9.0)} for i, r in enumerate(readings)]
    measure = motion_measures(readings, [stands, *(Facts(f.scene.replace(speed=5.0), f.parts) for f in facts[1:])])
    assert measure["change while standing (levels)"].value() == 2.0
    assert measure["change while standing (levels)"].count == 1
