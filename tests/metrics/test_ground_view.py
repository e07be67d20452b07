"""Maps of the ground: against the renderer's masks, the lane lines, and a lens worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from einops import reduce

from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.ground_view import CELLS, KINDS, PATCH, GroundCameras, ground_kinds, map_points, mirrored
from gaia2.scene import Scene

SIZE = (64, 128)
WORLD = ProceduralWorld("surround", num_frames=2, rays=1)


def street(seed: int, **metadata) -> Scene:
    asked = {"intersection": "none", "pedestrian_crossing": False, "traffic_light": "none"} | metadata
    return WORLD.sample_scenes([seed])[0].replace(agents=None, weather="clear", time_of_day="day", **asked)


def test_a_cell_is_where_a_level_camera_sees_it() -> None:
    rig = Scene.create("front").rig.fit(image_size=SIZE)
    cameras = GroundCameras(rig, SIZE)
    height, (fx, fy) = rig.extrinsics[0, 2, 3], np.diag(rig.intrinsics[0])[:2]
    place = map_points()[60, 100]  # ahead and to the left
    forward, left = float(place[0] - rig.extrinsics[0, 0, 3]), float(place[1] - rig.extrinsics[0, 1, 3])
    column = rig.intrinsics[0, 0, 2] - fx * left / forward
    row = rig.intrinsics[0, 1, 2] + fy * height / forward
    got = (cameras.unit.unflatten(1, CELLS)[0, 60, 100] + 1) / 2 * torch.tensor([SIZE[1], SIZE[0]])
    assert got.tolist() == pytest.approx([column, row], abs=1e-3)
    # a patch of the ground, of sixteen cells of half a metre by a fifth, seen from there
    beyond = map_points()[60:64, 100:104].flatten(0, 1) - torch.tensor(rig.extrinsics[0, :2, 3])
    away = (beyond.square().sum(dim=1) + height**2).sqrt()
    want = float((fx**2 * 0.5 * 0.2 * height / away**3).sum())
    assert float(cameras.pixels[60 // PATCH, 100 // PATCH]) == pytest.approx(want, rel=1e-3)
    behind = cameras.see(torch.ones(1, 1, 3, *SIZE))[0, :, -1]
    assert not behind.any()  # nobody looks back


def test_each_cell_is_seen_by_one_camera() -> None:
    cameras = GroundCameras(street(1).rig.fit(image_size=SIZE), SIZE)
    assert int(cameras.chosen.sum(dim=0).max()) == 1
    pictures = torch.arange(5.0).reshape(1, 5, 1, 1, 1).expand(1, 5, 3, *SIZE)
    told = cameras.see(pictures)[0, 0]
    where = cameras.chosen.any(dim=0).unflatten(0, CELLS)
    assert torch.equal(told[where].round().long(), cameras.chosen.int().argmax(dim=0).unflatten(0, CELLS)[where])


@pytest.mark.parametrize(
    ("kind", "names", "metadata"),
    [
        ("crossing", ("crossing",), {"pedestrian_crossing": True}),
        ("lane", ("road", "lane_mark"), {}),
        ("roundabout", ("road", "lane_mark", "ground"), {"intersection": "roundabout"}),
    ],
)
def test_patches_are_what_the_renderer_shows_there(kind: str, names: tuple[str, ...], metadata: dict) -> None:
    scene = street(4, **metadata)
    _, masks = WORLD.render_with_masks([scene], [4])
    cameras = GroundCameras(scene.rig.fit(image_size=SIZE), SIZE)
    shown = torch.stack([(masks.classes[0] == CLASSES.index(name)).float() for name in names]).sum(dim=0)
    share = reduce(cameras.see(shown[:, :, None])[:, 0], "t (u p) (v q) -> t u v", "mean", p=PATCH, q=PATCH)
    # cells nearby, of more than a pixel a patch
    here = (ground_kinds([scene], [4])[0] == KINDS.index(kind)) & (cameras.pixels > 1)
    assert int(here.sum()) > 8
    assert float(share[here].mean()) > 0.75


def test_lanes_are_between_the_outer_lines() -> None:
    scene = street(3, number_of_lanes=4, one_way=False)
    lines = WORLD.lane_lines([scene], [3], reach=(0.0, 20.0), points=41)[0, 0]
    lanes = ground_kinds([scene], [3])[0, 0] == KINDS.index("lane")
    place = reduce(map_points(), "(u p) (v q) c -> u v c", "mean", p=PATCH, q=PATCH)
    known = lines[np.isfinite(lines[:, :, 0]).all(axis=1)]
    for row in range(18, 25):
        x = float(place[row, 0, 0])
        outer = [np.interp(x, line[:, 0], line[:, 1]) for line in (known[0], known[-1])]
        y = place[row, :, 1].numpy()
        inside = (y > min(outer)) & (y < max(outer))
        assert np.abs(inside.sum() - int(lanes[row].sum())) <= 1
        assert (inside == lanes[row].numpy()).mean() > 0.96


def test_arms_are_on_their_side() -> None:
    both = ground_kinds([street(5, intersection="crossroads")], [5])
    one = ground_kinds([street(5, intersection="t_junction")], [5])
    left, right = KINDS.index("arm left"), KINDS.index("arm right")
    assert (both == left).any()
    assert (both == right).any()
    assert (one == left).any() != (one == right).any()
    place = reduce(map_points(), "(u p) (v q) c -> u v c", "mean", p=PATCH, q=PATCH)
    assert float(place[(both[0, 0] == left)][:, 1].mean()) > float(place[(both[0, 0] == right)][:, 1].mean())


def test_a_looking_glass_exchanges_the_sides() -> None:
    kinds = torch.tensor([[[KINDS.index("arm left"), KINDS.index("lane")]]])
    maps = torch.arange(8.0).reshape(1, 4, 1, 2)
    seen, said = mirrored(maps, kinds)
    assert said.tolist() == [[[KINDS.index("lane"), KINDS.index("arm right")]]]
    assert torch.equal(seen, maps[..., [1, 0]])


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="rig: expected the size of the pictures"):
        GroundCameras(Scene.create("front").rig.fit(image_size=SIZE), (32, 64))
