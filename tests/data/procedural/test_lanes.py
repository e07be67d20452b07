"""Lane lines lie where the pictures show them."""

from __future__ import annotations

import numpy as np
import pytest

from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES

PLAIN = dict(bus_lane=False, cycle_lane=False, intersection="none", pedestrian_crossing=False, traffic_light="none")


def ground_points(rig: object, chosen: np.ndarray) -> np.ndarray:
    """Where the pixels `(hv, wv)` of the rig's only camera see the ground, `(k, 2)`."""
    rows, columns = np.nonzero(chosen)
    pixels = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1)
    rays = pixels @ np.linalg.inv(rig.intrinsics[0]).T @ rig.extrinsics[0, :3, :3].T
    place = rig.extrinsics[0, :3, 3]
    distance = place[2] / -rays[:, 2]
    return place[:2] + distance[:, None] * rays[:, :2]


@pytest.mark.parametrize(("seed", "lanes", "country"), [(3, 2, "us"), (5, 4, "germany"), (8, 5, "uk")])
def test_painted_pixels_lie_on_the_lines(seed: int, lanes: int, country: str) -> None:
    world = ProceduralWorld(rig="front", image_size=(96, 192), num_frames=6, rays=1)
    scene = world.sample_scenes([seed])[0].replace(
        **PLAIN,
        number_of_lanes=lanes,
        country=country,
        one_way=False,
        agents=None,
        speed=np.full(6, 15.0),
        curvature=np.full(6, 0.02),
    )
    lines = world.lane_lines([scene], [seed], reach=(-10.0, 30.0), points=400)[0]
    assert np.isfinite(lines[:, : lanes + 1]).all()
    assert np.isnan(lines[:, lanes + 1 :]).all()
    _, masks = world.render_with_masks([scene], [seed])
    for frame in (0, 5):
        painted = masks.classes[0, frame, 0].numpy() == CLASSES.index("lane_mark")
        near = (masks.depth[0, frame, 0].float() < 25).numpy()
        points = ground_points(scene.rig, painted & near)
        assert len(points) > 50
        known = lines[frame, : lanes + 1].reshape(-1, 2)
        distance = np.linalg.norm(points[:, None] - known, axis=-1).min(axis=1)
        # paint is up to 0.4 m beside a line, and the uk's kerb lines 0.75 m
        assert np.quantile(distance, 0.97) < (1.1 if country == "uk" else 0.7)


def test_lines_are_a_lane_apart_and_the_ego_is_between_two() -> None:
    world = ProceduralWorld(rig="front", num_frames=4)
    scene = world.sample_scenes([11])[0].replace(number_of_lanes=3, one_way=True, curvature=np.zeros(4))
    lines = world.lane_lines([scene], [11], reach=(0.0, 10.0), points=2)[0, 0, :4, 0]
    np.testing.assert_allclose(np.abs(np.diff(lines[:, 1])), 3.5, atol=1e-6)
    assert lines[:, 1].min() < 0 < lines[:, 1].max()
    with pytest.raises(ValueError, match="points: expected at least 2, got 1"):
        world.lane_lines([scene], [11], points=1)
