"""The drawing of a log from above."""

from __future__ import annotations

import draw_top_view as drawing
import numpy as np

from gaia2.scene import Agents, Scene, named_rig


def test_frusta_open_as_the_lenses_do() -> None:
    scene = Scene.create(named_rig("surround"), num_frames=1)
    for camera, (yaw, fov) in enumerate([(0, 70), (60, 80), (-60, 80)]):
        mount, right_or_left, other = drawing.frustum(scene, camera, 20.0)
        np.testing.assert_allclose(mount, scene.rig.extrinsics[camera, :2, 3])
        angles = [np.degrees(np.arctan2(*(corner - mount)[::-1])) for corner in (right_or_left, other)]
        np.testing.assert_allclose(angles, [yaw + fov / 2, yaw - fov / 2], atol=1e-6)  # the picture's left edge first
        np.testing.assert_allclose(np.linalg.norm(right_or_left - mount), 20, atol=1e-6)


def test_cuboids_and_the_place_of_things() -> None:
    corners = drawing.cuboid(np.array([10, 5, 0, 4, 2, 1.5, np.pi / 2]))
    np.testing.assert_allclose(corners, [[9, 7], [9, 3], [11, 3], [11, 7]], atol=1e-9)
    scene = Scene.create(named_rig("front"), num_frames=1)
    boxes = [[[20.0, 10.0, 1, 4, 4, 2, 0], [-20.0, -10.0, 1, 4, 4, 2, 0]]]
    scene = scene.replace(agents=Agents(boxes, [[0, 5]]))
    picture = np.asarray(drawing.top_view(scene, 0, reach=40, scale=4)).astype(int)
    # 20 m ahead and 10 m to the left of the middle: up and left, in a car's blue; the pedestrian down and right, red
    car, pedestrian = picture[160 - 80 + 4, 160 - 40 + 4], picture[160 + 80 + 4, 160 + 40 + 4]
    assert car[2] > 90 > car[0]
    assert pedestrian[0] > 90 > pedestrian[1]
