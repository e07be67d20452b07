"""The judge of the street: what its network's patches make of lanes, crossings and junctions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.data.procedural import ProceduralWorld
from gaia2.metrics.ground_judge import GroundJudge, ground_loss, lane_evidence, street_evidence
from gaia2.metrics.ground_view import KINDS, PATCH_METRES, ground_kinds, mirrored
from gaia2.scene import METADATA

ROWS, COLUMNS = 32, 64


def sure_of(kinds: torch.Tensor) -> torch.Tensor:
    """Logits of a judge that sees kinds `(t, u, v)` as they are, and nothing before them."""
    return 8.0 * torch.nn.functional.one_hot(kinds.long(), len(KINDS) + 1).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize("lanes", METADATA["number_of_lanes"])
@pytest.mark.parametrize("one_way", [False, True])
def test_lanes_of_streets_that_are_seen_as_they_are(lanes: int, one_way: bool) -> None:
    world = ProceduralWorld("surround", num_frames=4, rays=1)
    seeds = list(range(6))
    asked = {"number_of_lanes": lanes, "one_way": one_way}
    scenes = [scene.replace(intersection="none", curvature=0.0, **asked) for scene in world.sample_scenes(seeds)]
    for kinds in ground_kinds(scenes, seeds):
        told = street_evidence(sure_of(kinds), torch.ones(ROWS, COLUMNS))["number_of_lanes"]
        assert METADATA["number_of_lanes"][int(told.argmax())] == lanes


@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("junction", METADATA["intersection"])
def test_junctions_and_crossings_of_streets_that_are_seen_as_they_are(junction: str, crossing: bool) -> None:
    world = ProceduralWorld("surround", num_frames=4, rays=1)
    seeds = list(range(6))
    asked = {"intersection": junction, "pedestrian_crossing": crossing, "number_of_lanes": 2}
    scenes = [scene.replace(curvature=0.0, speed=6.0, **asked) for scene in world.sample_scenes(seeds)]
    near = [k for k in ground_kinds(scenes, seeds) if junction == "none" or (k >= KINDS.index("arm left")).any()]
    assert len(near) >= 3  # the others' junctions are too far ahead
    for kinds in near:
        told = street_evidence(sure_of(kinds), torch.ones(ROWS, COLUMNS))
        assert METADATA["intersection"][int(told["intersection"].argmax())] == junction
        assert bool(told["pedestrian_crossing"].argmax()) == crossing


@settings(max_examples=30, deadline=None)
@given(lanes=st.integers(1, 6), left=st.floats(-6.0, 6.0), seed=st.integers(0, 2**16))
def test_a_strip_as_wide_as_so_many_lanes_wherever_it_lies(lanes: int, left: float, seed: int) -> None:
    middle = PATCH_METRES[1] * (torch.arange(COLUMNS) + 0.5 - COLUMNS / 2)
    inside = ((middle - left).abs() < 3.5 * lanes / 2).float()
    odds = (4 * inside - 2).expand(3, ROWS, COLUMNS).clone()
    torch.manual_seed(seed)
    wrong = torch.rand(odds.shape) < 0.1  # some patches are taken for what they are not
    odds[wrong] *= -1
    assert int(lane_evidence(odds, torch.ones(ROWS, COLUMNS)).argmax()) == lanes - 1


@pytest.mark.parametrize("why", ["no camera sees it", "something stands before it"])
def test_what_is_not_seen_has_nothing_to_say(why: str) -> None:
    logits = 10 * torch.randn(2, len(KINDS) + 1, ROWS, COLUMNS)
    if why == "something stands before it":
        logits[:, -1] = 200.0
    told = street_evidence(logits, torch.full((ROWS, COLUMNS), float(why != "no camera sees it")))
    assert not told["number_of_lanes"].any()
    assert told["pedestrian_crossing"].argmax() == 0
    assert told["intersection"].argmax() == 0


def test_the_two_clearest_maps_decide() -> None:
    kinds = torch.full((4, ROWS, COLUMNS), KINDS.index("lane"))
    kinds[0, 10:12, 28:36] = KINDS.index("crossing")
    pixels = torch.ones(ROWS, COLUMNS)
    once = float(street_evidence(sure_of(kinds), pixels)["pedestrian_crossing"][1])
    kinds[3, 4:6, 28:36] = KINDS.index("crossing")
    twice = float(street_evidence(sure_of(kinds), pixels)["pedestrian_crossing"][1])
    kinds[2, 4:6, 28:36] = KINDS.index("crossing")
    assert once < twice == float(street_evidence(sure_of(kinds), pixels)["pedestrian_crossing"][1])


def test_loss_is_of_patches_that_are_seen_and_rare_ones_count_more() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, len(KINDS) + 1, 1, 4)
    kinds = torch.tensor([[[KINDS.index("lane"), KINDS.index("crossing"), KINDS.index("crossing"), 0]]])
    open_patches, seen = torch.tensor([[[True, True, False, True]]]), torch.tensor([[[True, True, True, False]]])
    each = -logits.log_softmax(1)[0, [KINDS.index("lane"), KINDS.index("crossing"), len(KINDS)], 0, [0, 1, 2]].numpy()
    want = np.average(each, weights=[1.0, 2.0, 1.0])
    assert float(ground_loss(logits, kinds, open_patches, seen)) == pytest.approx(want, rel=1e-5)


def test_a_street_and_its_mirror_image_are_seen_alike() -> None:
    torch.manual_seed(0)
    judge, maps = GroundJudge(width=4).eval(), torch.rand(2, 4, 128, 256)
    with torch.no_grad():
        seen, in_glass = judge.both_ways(maps), judge.both_ways(maps.flip(-1))
        assert not torch.allclose(judge(maps), judge(maps.flip(-1)).flip(-1), atol=1e-3)
    _, expected = mirrored(maps, seen[:, :-1].argmax(dim=1))
    assert torch.equal(in_glass[:, :-1].argmax(dim=1), expected)
    left, right = KINDS.index("arm left"), KINDS.index("arm right")
    torch.testing.assert_close(in_glass[:, left], seen[:, right].flip(-1))
    torch.testing.assert_close(in_glass[:, -1], seen[:, -1].flip(-1))
