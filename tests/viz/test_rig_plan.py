"""The plan of a rig shows its cameras where they are and as wide as they see."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gaia2.scene import RIG_NAMES, named_rig
from gaia2.viz.rig_plan import rig_plan, views


@pytest.mark.parametrize("name", RIG_NAMES)
def test_every_camera_is_drawn(name: str) -> None:
    rig = named_rig(name)
    root = ElementTree.fromstring(rig_plan(rig))
    texts = [part.text or "" for part in root.iter("{http://www.w3.org/2000/svg}text")]
    assert [text.rpartition(" ")[0] for text in texts] == list(rig.names)
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == rig.num_cameras


@pytest.mark.parametrize("name", RIG_NAMES)
def test_the_edges_of_the_pictures_are_the_edges_of_the_views(name: str) -> None:
    """Rays through the middle of the left and right edges, turned into the ego frame."""
    rig = named_rig(name)
    _, spread, places = views(rig)
    for index in range(rig.num_cameras):
        k, pose = rig.intrinsics[index], rig.extrinsics[index]
        edges = np.array([[0.0, k[1, 2], 1.0], [rig.image_size[index, 1], k[1, 2], 1.0]]).T
        left, right = (pose[:3, :3] @ np.linalg.inv(k) @ edges).T
        cosine = left @ right / np.linalg.norm(left) / np.linalg.norm(right)
        assert spread[index] == pytest.approx(np.arccos(cosine), abs=1e-6)
        np.testing.assert_array_equal(places[index], pose[:2, 3])


def test_left_is_left() -> None:
    rig = named_rig("surround")
    heading = dict(zip(rig.names, views(rig)[0], strict=True))
    assert abs(heading["front"]) < 0.05
    assert all(angle > 0.2 for name, angle in heading.items() if "left" in name)
    assert all(angle < -0.2 for name, angle in heading.items() if "right" in name)
