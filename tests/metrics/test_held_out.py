"""The list of held-out scenes: fixed, apart from all training, and pairs that differ in one control."""

from __future__ import annotations

import numpy as np
import pytest

from gaia2.metrics.held_out import CONTROLS, FIRST_SEED, changed, fingerprint, held_out_scenes
from gaia2.scene import METADATA


def test_more_scenes_begin_with_the_same() -> None:
    few, more = held_out_scenes(1, 1, 1, num_frames=4), held_out_scenes(3, 2, 1, num_frames=4)
    assert [s.name for s in few if s.group != "pair"] == ["random-0000", "surround-0000"]
    by_name = {s.name: s for s in more}
    assert all(by_name[s.name].scene == s.scene and by_name[s.name].seed == s.seed for s in few)
    assert all(s.seed >= FIRST_SEED for s in more)
    assert len({s.seed for s in more if not s.base}) == 6


def test_fingerprint_changes_with_anything() -> None:
    scenes = held_out_scenes(2, 0, 0, num_frames=4)
    assert fingerprint(scenes) == fingerprint(held_out_scenes(2, 0, 0, num_frames=4))
    assert fingerprint(scenes) != fingerprint(scenes[:1])
    other = [
        scenes[0].__class__(scenes[0].name, "random", scenes[0].seed, scenes[0].scene.replace(speed=3.0)),
        scenes[1],
    ]
    assert fingerprint(scenes) != fingerprint(other)


def test_pairs_differ_in_one_control() -> None:
    base, *pairs = held_out_scenes(0, 0, 1, num_frames=4)
    assert tuple(p.control for p in pairs) == CONTROLS
    assert all(p.base == base.name and p.seed == base.seed for p in pairs)
    for pair in pairs:
        differing = {name for name in METADATA if pair.scene.metadata.get(name) != base.scene.metadata.get(name)}
        if not np.array_equal(pair.scene.speed, base.scene.speed):
            differing.add("speed")
        if not np.array_equal(pair.scene.curvature, base.scene.curvature):
            differing.add("curvature")
        if pair.scene.agents != base.scene.agents:
            differing.add("agents")
        if pair.scene.rig != base.scene.rig:
            differing.add("camera pitch")
        assert differing == {pair.control}


def test_pitched_cameras_look_down_where_they_are() -> None:
    base = held_out_scenes(0, 0, 1, num_frames=4)[0].scene
    down = changed(base, "camera pitch")
    before, after = (scene.rig.extrinsics for scene in (base, down))
    np.testing.assert_allclose(before[:, :3, 3], after[:, :3, 3])
    fall = np.rad2deg(np.arcsin(-after[:, 2, 2]) - np.arcsin(-before[:, 2, 2]))
    np.testing.assert_allclose(fall, 6.0, atol=0.1)


def test_bad_input() -> None:
    base = held_out_scenes(0, 1, 0, num_frames=4)[0].scene
    with pytest.raises(ValueError, match="control: expected one of weather"):
        changed(base, "mood")
