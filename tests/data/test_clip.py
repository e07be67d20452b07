"""Clip: frames must be those of the scene."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.clip import Clip
from gaia2.data.source import Source
from gaia2.scene import Scene, named_rig


@pytest.fixture
def scene() -> Scene:
    return Scene.create(named_rig("surround3", (16, 32)), num_frames=4)


def test_tensors_and_arrays_are_kept(scene):
    tensor = torch.randint(0, 256, (4, 3, 3, 16, 32), dtype=torch.uint8)
    clip = Clip(scene, tensor, "a.mp4")
    assert clip.frames is tensor
    assert (clip.num_frames, clip.source) == (4, Source("a.mp4"))
    part = Clip(scene, tensor.numpy()).window(1, 3)
    np.testing.assert_array_equal(part.frames, tensor[1:3])
    assert part.scene == scene.window(1, 3)
    with pytest.raises(AttributeError):
        clip.source = "b"


@pytest.mark.parametrize("make", [np.zeros, lambda shape, dtype: torch.zeros(shape, dtype=getattr(torch, dtype))])
@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 3, 3, 16, 32), "float32", "frames: expected a uint8 tensor or array .*, got float32"),
        (
            (5, 3, 3, 16, 32),
            "uint8",
            r"expected \(tv=4, n=3, 3, hv=16, wv=32\).*got \(5, 3, 3, 16, 32\); cut the scene",
        ),
        ((4, 2, 3, 16, 32), "uint8", r"got \(4, 2, 3, 16, 32\)"),
        ((4, 3, 16, 32, 3), "uint8", r"got \(4, 3, 16, 32, 3\)"),
        ((4, 3, 3, 32, 16), "uint8", r"got \(4, 3, 3, 32, 16\).*use rig\.fit"),
    ],
)
def test_frames_of_another_shape_are_refused(scene, make, shape, dtype, message):
    with pytest.raises(ValueError, match=message):
        Clip(scene, make(shape, dtype))


def test_other_things_are_refused(scene):
    with pytest.raises(ValueError, match="scene: expected a Scene, got dict"):
        Clip({}, np.zeros((4, 3, 3, 16, 32), np.uint8))
    with pytest.raises(ValueError, match=r"frames: expected a uint8 tensor or array .*, got list"):
        Clip(scene, [[0]])
    sizes = scene.replace(rig=scene.rig.replace(image_size=[(16, 32), (16, 32), (32, 16)]))
    with pytest.raises(ValueError, match=r"one image size for all cameras of a clip, got \[\(16, 32\), \(32, 16\)\]"):
        Clip(sizes, np.zeros((4, 3, 3, 16, 32), np.uint8))
