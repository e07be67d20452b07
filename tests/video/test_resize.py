from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.scene import named_rig
from gaia2.video.resize import fit_frames


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_same_size_is_the_same_picture() -> None:
    frames = random(2, 6, 10, 3)
    np.testing.assert_array_equal(fit_frames(frames, (6, 10)), frames)


def test_halving_averages_cells() -> None:
    frames = random(3, 8, 12, 3)
    expected = frames.reshape(3, 4, 2, 6, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(fit_frames(frames, (4, 6)), expected, atol=1)


@pytest.mark.parametrize(("size", "kept"), [((4, 4), np.s_[:, :, 4:8]), ((4, 6), np.s_[:, :, 3:9])])
def test_the_middle_is_kept(size: tuple[int, int], kept: tuple[slice, ...]) -> None:
    frames = random(2, 4, 12, 3)
    np.testing.assert_array_equal(fit_frames(frames, size), frames[kept])
    turned = frames.transpose(0, 2, 1, 3)
    np.testing.assert_array_equal(fit_frames(turned, size[::-1]), frames[kept].transpose(0, 2, 1, 3))


@settings(max_examples=30, deadline=None)
@given(source=st.tuples(st.integers(8, 60), st.integers(8, 60)), size=st.tuples(st.integers(4, 40), st.integers(4, 40)))
def test_pictures_follow_their_camera(source: tuple[int, int], size: tuple[int, int]) -> None:
    """A ramp over the picture has, after fitting, the value that the fitted camera's crop box says."""
    hv, wv = source
    y, x = (np.arange(hv) + 0.5) / hv, (np.arange(wv) + 0.5) / wv
    ramp = np.stack(np.broadcast_arrays(y[:, None], x[None], 0.5), axis=-1)
    got = fit_frames(np.round(ramp * 255).astype(np.uint8)[None], size)[0] / 255
    assert got.shape == (*size, 3)
    rig = named_rig("front", image_size=source)
    top, left, height, width = rig.crop_box(size)[0]
    rows = (top + (np.arange(size[0]) + 0.5) / size[0] * height) / hv
    columns = (left + (np.arange(size[1]) + 0.5) / size[1] * width) / wv
    # one source pixel of slack: enlarged pictures are made of whole pixels
    assert np.abs(got[..., 0] - rows[:, None]).max() <= 0.6 / hv + 0.01
    assert np.abs(got[..., 1] - columns[None]).max() <= 0.6 / wv + 0.01
