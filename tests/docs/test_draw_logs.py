"""The pictures of genuine logs."""

from __future__ import annotations

import draw_logs as drawing
import numpy as np

from gaia2.scene import Agents, Scene


def test_moments_stand_row_by_row() -> None:
    frames = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None] * 4, (60, 32, 64, 3))
    picture = drawing.over_time(frames, every=6, columns=5)
    assert picture.shape == (2 * 64, 5 * 128, 3)
    middles = picture[48::64, 64::128, 0]
    np.testing.assert_array_equal(middles, np.arange(0, 60, 6).reshape(2, 5) * 4)


def test_boxes_of_near_agents_alone_are_drawn() -> None:
    near, far = [12.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0], [60.0, 0.0, 0.8, 4.5, 1.9, 1.6, 0.0]
    frames = np.zeros((1, 1, 64, 128, 3), dtype=np.uint8)

    def drawn(*boxes: list[float]) -> np.ndarray:
        agents = Agents([list(boxes)], [[0] * len(boxes)])
        return drawing.with_boxes(frames, Scene.create("front", num_frames=1).replace(agents=agents))

    assert drawn(near).any()
    assert not drawn(far).any()
    np.testing.assert_array_equal(drawn(near, far), drawn(near))
    assert drawing.with_boxes(frames, Scene.create("front", num_frames=1)).any() == np.False_


def test_a_scene_ends_with_a_whole_latent() -> None:
    scene = drawing.whole_latents(Scene.create("front", num_frames=30), 8)
    assert scene.num_frames == 24
    assert scene.metadata["time_of_day"] == "day"
