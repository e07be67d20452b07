from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.clip import Clip
from gaia2.data.mirror import mirror, mirror_scene
from gaia2.data.procedural import ProceduralWorld


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return ProceduralWorld(rig="random", num_cameras=3, image_size=(32, 64), num_frames=8, rays=1).sample(range(12))


def test_boxes_of_the_mirrored_scene_are_the_mirrored_boxes(clips: list[Clip]) -> None:
    assert {clip.scene.rig.distortion_model[0] for clip in clips} == {"pinhole", "fisheye"}
    assert any(clip.scene.rig.distortion[0, 3] for clip in clips)
    for clip in clips:
        plain = scene_conditioning(clip.scene, dtype=torch.float64)["agents"]
        mirrored = scene_conditioning(mirror_scene(clip.scene), dtype=torch.float64)["agents"]
        expected = plain.clone()
        expected[..., 0], expected[..., 2] = 1 - plain[..., 2], 1 - plain[..., 0]
        expected[..., 4] *= -1  # to the right of the camera
        expected[..., 10] *= -1  # sine of the yaw
        torch.testing.assert_close(mirrored, expected, atol=1e-6, rtol=0, equal_nan=True)


def test_frames_are_swapped_and_twice_mirrored_is_as_before(clips: list[Clip]) -> None:
    clip = clips[0]
    once, twice = mirror(clip), mirror(mirror(clip))
    assert np.array_equal(once.frames, clip.frames[..., ::-1])
    assert np.array_equal(twice.frames, clip.frames)
    np.testing.assert_allclose(twice.scene.rig.extrinsics, clip.scene.rig.extrinsics)
    np.testing.assert_allclose(twice.scene.rig.intrinsics, clip.scene.rig.intrinsics)
    np.testing.assert_array_equal(twice.scene.agents.boxes, clip.scene.agents.boxes)
    assert (once.scene.curvature == -clip.scene.curvature).all()
    assert "country" not in once.scene.metadata
    tensor = mirror(Clip(clip.scene, torch.from_numpy(clip.frames)))
    assert np.array_equal(tensor.frames.numpy(), once.frames)


def test_a_mirrored_rig_is_a_rig(clips: list[Clip]) -> None:
    for clip in clips:
        rotation = mirror_scene(clip.scene).rig.extrinsics[:, :3, :3]
        np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
