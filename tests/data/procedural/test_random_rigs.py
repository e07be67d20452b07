from __future__ import annotations

import numpy as np
import pytest

from gaia2.data.procedural.random_rigs import random_rig


@pytest.mark.parametrize("cameras", [1, 2, 3, 4, 5, 6])
def test_rigs_are_as_varied_as_they_say(cameras: int) -> None:
    rigs = [random_rig(seed, cameras, (64, 128)) for seed in range(300)]
    pose = np.stack([rig.extrinsics for rig in rigs])
    pitch = np.degrees(np.arcsin(-pose[:, :, 2, 2]))  # of the optical axis below the horizon
    height = pose[:, :, 2, 3]
    assert np.abs(pitch).max() <= 12
    assert pitch.min() < -9 < 9 < pitch.max()
    assert (height.min(), height.max()) == pytest.approx((1.0, 3.5), abs=0.15)
    focal = np.stack([rig.intrinsics[:, 0, 0] for rig in rigs])
    fisheye = np.array([rig.distortion_model[0] == "fisheye" for rig in rigs])
    view = np.degrees(np.where(fisheye[:, None], 64 / focal, np.arctan(64 / focal)) * 2)
    assert (view.min(), view.max()) == pytest.approx((45.0, 110.0), abs=2.0)
    lensless = np.mean([not rig.distortion.any() for rig in rigs])
    assert 0.4 < lensless < 0.6
    assert 0.17 < fisheye.mean() < 0.33


def test_the_first_camera_looks_ahead_and_all_of_them_around() -> None:
    for seed in range(50):
        pose = random_rig(seed, 6, (64, 128)).extrinsics
        heading = np.degrees(np.arctan2(pose[:, 1, 2], pose[:, 0, 2]))
        assert abs(heading[0]) < 25
        gaps = np.diff(np.sort(np.append(heading, heading.min() + 360)))
        assert gaps.max() < 110


def test_a_seed_always_gives_the_same_rig_and_another_seed_another() -> None:
    one, again, other = (random_rig(seed, 3, (64, 128)) for seed in (5, 5, 6))
    assert np.array_equal(one.extrinsics, again.extrinsics)
    assert np.array_equal(one.intrinsics, again.intrinsics)
    assert not np.allclose(one.extrinsics, other.extrinsics)


def test_impossible_numbers_of_cameras_are_refused() -> None:
    with pytest.raises(ValueError, match="num_cameras: expected a whole number from 1 to 6, got 0"):
        random_rig(0, 0, (64, 128))
