"""The judge of small things: what its loss leaves out, how parts vote, and what it learns from."""

from __future__ import annotations

import math

import pytest
import torch

from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.detail_judge import DETAILS, THINGS, UNSURE, DetailJudge, DetailVerdict, clip_details
from gaia2.metrics.ground_judge import GroundJudge
from gaia2.metrics.ground_view import KINDS
from gaia2.metrics.street_moments import StreetMoments, part_things, visible_labels
from gaia2.metrics.street_training import CUT, _cuttings, train_details, train_ground
from gaia2.scene import METADATA

LIGHTS = METADATA["traffic_light"]


def verdict(lamps: float, colours: list[list[float]]) -> DetailVerdict:
    """Two pictures of two parts each: a lamp there with logit `lamps`, its colour with these logits."""
    things = torch.zeros(2, len(THINGS), 1, 2)
    things[:, THINGS.index("lamp")] = lamps
    values = {name: torch.zeros(2, len(METADATA[name]), 1, 2) for name in DETAILS}
    values["traffic_light"] = torch.tensor(colours)[..., None, None].expand(-1, -1, 1, 2)
    return DetailVerdict(things, values)


def test_a_light_is_there_if_a_part_surely_shows_one() -> None:
    red = [[0.0, 3.0, 0.0, 0.0, 0.0]] * 2
    assert clip_details(verdict(12.0, red))["traffic_light"].argmax() == LIGHTS.index("red")
    assert clip_details(verdict(4.0, red))["traffic_light"].argmax() == LIGHTS.index("none")


def test_pictures_vote_by_how_sure_they_are() -> None:
    votes = [[0.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, 3.0]]
    assert clip_details(verdict(12.0, votes))["traffic_light"].argmax() == LIGHTS.index("green")


def test_loss_is_of_parts_that_show_something() -> None:
    torch.manual_seed(0)
    seen = DetailVerdict(torch.randn(1, 3, 1, 3), {k: torch.randn(1, len(METADATA[k]), 1, 3) for k in DETAILS})
    things = torch.tensor([[[THINGS.index("nothing"), THINGS.index("sign"), UNSURE]]])
    labels = {name: torch.tensor([1]) for name in DETAILS}
    want = -seen.things.log_softmax(1)[0, [0, 1], 0, [0, 1]].mean()
    for name in ("speed_limit", "one_way"):  # no lamp: the light does not count
        want = want - seen.values[name].log_softmax(1)[0, 1, 0, 1]
    torch.testing.assert_close(DetailJudge(4).loss(seen, things, labels), want)


def test_parts_with_a_little_of_a_thing_are_left_out() -> None:
    classes = torch.full((4, 12), CLASSES.index("road"))
    classes[:3, :3] = CLASSES.index("sign")  # nine sixteenths
    classes[:1, 4:7] = CLASSES.index("lamp")  # three
    assert part_things(classes).tolist() == [[THINGS.index("sign"), UNSURE, THINGS.index("nothing")]]


def test_a_board_that_is_not_sure_has_a_vote_where_there_is_no_other() -> None:
    told = verdict(0.0, [[0.0] * 5] * 2)
    told.things[0, THINGS.index("sign"), 0, 1] = 2.0
    told.values["speed_limit"][0, 3, 0, 1] = 4.0
    assert clip_details(told)["speed_limit"].argmax() == 3
    told.things[1, THINGS.index("sign"), 0, :] = 12.0  # sure ones outvote it
    told.values["speed_limit"][1, 5] = 1.0
    assert clip_details(told)["speed_limit"].argmax() == 5


def test_what_is_hidden_or_too_far_is_not_visible() -> None:
    world = ProceduralWorld("surround", num_frames=2, rays=1)
    scene = world.sample_scenes([4])[0].replace(
        agents=None, pedestrian_crossing=True, intersection="crossroads", traffic_light="red", speed=0.0
    )
    scene = scene.replace(rig=scene.rig.fit(image_size=world.image_size))
    from gaia2.metrics.judge_pictures import part_classes

    _, masks = world.render_with_masks([scene], [4])
    parts = part_classes(masks.classes[0])
    assert all(visible_labels(scene, 4, parts, slice(None)).values())
    walled = torch.full_like(parts, CLASSES.index("building"))
    assert not any(visible_labels(scene, 4, walled, slice(None)).values())
    without = scene.replace(pedestrian_crossing=False, intersection="none", traffic_light="none")
    seen = visible_labels(without, 4, walled, slice(None))
    assert not seen.pop("number_of_lanes")  # there is a road, but it cannot be seen
    assert [seen[name] for name in ("pedestrian_crossing", "intersection", "traffic_light")] == [True] * 3


@pytest.fixture(scope="module")
def moments() -> StreetMoments:
    return StreetMoments.render(2, (64, 128))


def test_cuttings_are_of_the_picture_at_the_place(moments: StreetMoments) -> None:
    pictures, things = moments.pictures.flatten(0, 1), moments.things.flatten(0, 1)
    rows = torch.tensor([[3, 8, 20], [5, 0, 31]])
    cut, shown = _cuttings(pictures, things, rows, torch.Generator().manual_seed(0))
    assert cut.shape == (2, 3, 32, 32)
    assert (shown[:, 0] == UNSURE).all()
    found = [
        (y, x)
        for y in range(16 - CUT + 1)
        for x in range(32 - CUT + 1)
        if torch.equal(pictures[3, :, 4 * y : 4 * (y + CUT), 4 * x : 4 * (x + CUT)], cut[0])
    ]
    assert len(found) == 1
    (y, x), inner = found[0], slice(1, CUT - 1)
    assert y <= 8 < y + CUT
    assert x <= 20 < x + CUT
    assert torch.equal(shown[0, inner, inner], things[3, y + 1 : y + CUT - 1, x + 1 : x + CUT - 1])


@pytest.mark.long
def test_training_learns(moments: StreetMoments) -> None:
    ground = train_ground(moments, minutes=0.4)
    with torch.no_grad():
        logits = ground(moments.maps.float() / 255)
    lane = logits.softmax(dim=1)[:, KINDS.index("lane")]
    of_lanes = lane[moments.kinds == KINDS.index("lane")].mean()
    assert of_lanes > 2 * lane[(moments.kinds == KINDS.index("off")) & moments.open].mean()
    assert isinstance(ground, GroundJudge)
    details = train_details(moments, minutes=0.05)
    with torch.no_grad():
        told = details(moments.pictures.flatten(0, 1).float() / 255)
    things = moments.things.flatten(0, 1)
    share = told.things.softmax(dim=1)[:, THINGS.index("sign")]
    assert share[things == THINGS.index("sign")].mean() > 2 * share[things == 0].mean()
    assert math.isfinite(float(share.sum()))
