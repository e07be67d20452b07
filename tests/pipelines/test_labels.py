from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.cells import covered
from gaia2.conditioning.collate import scene_conditioning
from gaia2.pipelines.labels import agent_region, agent_tubes, project_agents
from gaia2.scene import Agents, CameraRig
from tests.pipelines.helpers import scene, with_agents


def pinhole(points: np.ndarray, rig: CameraRig, camera: int) -> np.ndarray:
    """Pixels of ego points, computed with the camera matrix alone."""
    inverse = np.linalg.inv(rig.extrinsics[camera])
    seen = rig.intrinsics[camera] @ (inverse[:3, :3] @ points.T + inverse[:3, 3:])
    return (seen[:2] / seen[2]).T


def test_boxes_bound_the_projected_corners() -> None:
    given_scene = with_agents(scene(8, "front"))
    boxes = project_agents(given_scene)
    assert boxes.shape == (8, 1, 2, 13)
    height, width = given_scene.rig.image_size[0]
    for frame in (0, 7):
        x, y, z, length, wide, high, _ = given_scene.agents.boxes[frame, 0]
        corners = np.array([[x + i * length / 2, y + j * wide / 2, z + k * high / 2]
                            for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])  # fmt: skip
        pixels = pinhole(corners, given_scene.rig, 0)
        expected = np.concatenate([pixels.min(axis=0), pixels.max(axis=0)]) / (width, height, width, height)
        np.testing.assert_allclose(boxes[frame, 0, 0, :4], expected, atol=1e-9)
    assert boxes[0, 0, :, 12].tolist() == [0, 5]


def test_labels_are_the_conditions_of_the_middle_frames() -> None:
    given_scene = with_agents(scene(16, "surround3"))
    conditions = scene_conditioning(given_scene)["agents"][0, ..., :2, :].double().numpy()
    np.testing.assert_allclose(project_agents(given_scene)[[4, 12]], conditions, atol=1e-4, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), columns=st.integers(1, 9))
def test_covered_cells_are_those_that_overlap(seed: int, rows: int, columns: int) -> None:
    corners = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(seed)).sort(dim=-1).values
    boxes = torch.stack([corners[..., 0, 0], corners[..., 1, 0], corners[..., 0, 1], corners[..., 1, 1]], dim=-1)
    boxes[0, 1] = torch.nan
    got = covered(boxes, rows, columns)
    for image in range(2):
        for row in range(rows):
            for column in range(columns):
                hit = any(
                    min(x2, (column + 1) / columns) > max(x1, column / columns)
                    and min(y2, (row + 1) / rows) > max(y1, row / rows)
                    for x1, y1, x2, y2 in boxes[image].tolist()
                    if x1 == x1
                )
                assert got[image, row, column] == hit


def test_tubes_of_chosen_agents_grow_by_the_dilation() -> None:
    base = with_agents(scene(8, "front"))
    base = base.replace(rig=base.rig.fit((32, 64)))
    car, both, tight = (
        agent_tubes(base, [7], dilation=2),
        agent_tubes(base, dilation=2),
        agent_tubes(base, [7], dilation=0),
    )
    assert car.shape == (8, 1, 32, 64)
    assert both.sum() > car.sum() > tight.sum() > 0
    x1, y1, x2, y2 = project_agents(base)[3, 0, 0, :4] * (64, 32, 64, 32)
    rows, columns = np.nonzero(car[3, 0])
    assert (columns.min(), columns.max() + 1) == (np.floor(x1 - 2), np.ceil(x2 + 2))
    assert (rows.min(), rows.max() + 1) == (np.floor(y1 - 2), np.ceil(y2 + 2))


def test_tubes_of_unknown_agents_are_refused() -> None:
    base = with_agents(scene(8, "front"))
    with pytest.raises(ValueError, match=r"agents: expected track ids of the scene, \[7, 9\], got \[8\]"):
        agent_tubes(base, [7, 8])
    agents = base.agents
    ids = np.where(agents.track_id == 7, 0, agents.track_id)  # 0 is a track id as any other
    with pytest.raises(ValueError, match=r"agents: expected track ids of the scene, \[0, 9\], got \[7\]"):
        agent_tubes(base.replace(agents=Agents(agents.boxes, agents.category, ids)), [0, 7])
    with pytest.raises(ValueError, match="dilation: expected a whole number of at least 0, got -1"):
        agent_tubes(base, dilation=-1)


def test_cameras_of_different_sizes_have_no_common_mask() -> None:
    base = scene(8, "surround3")
    rig = base.rig.replace(image_size=[[448, 960], [448, 960], [224, 480]])
    with pytest.raises(ValueError, match=r"scene: expected one image size for all cameras, got .*rig.fit"):
        agent_tubes(base.replace(rig=rig))


def test_a_latents_region_is_that_of_all_its_frames() -> None:
    base = with_agents(scene(16, "surround3"))
    region = agent_region([base, base.replace(agents=None)], 8, (14, 30))
    assert region.shape == (2, 2, 3, 14, 30)
    assert not region[1].any()
    boxes = torch.from_numpy(project_agents(base)[..., :4])
    by_frame = torch.stack([covered(boxes[frame], 14, 30) for frame in range(16)])
    assert torch.equal(region[0, 0], by_frame[:8].any(dim=0))
    assert torch.equal(region[0, 1], by_frame[8:].any(dim=0))


@pytest.mark.parametrize("ids", [7, "79", {7: 1}, (x for x in [7])])
def test_track_ids_come_in_a_list(ids: object) -> None:
    with pytest.raises(ValueError, match="agents: expected track ids of the scene in a list"):
        agent_tubes(with_agents(scene(8, "front")), ids)


@pytest.mark.parametrize("ids", [[7], (7,), {7}, range(7, 8), np.array([7])])
def test_every_kind_of_list_names_agents(ids: object) -> None:
    base = with_agents(scene(8, "front"))
    base = base.replace(rig=base.rig.fit((32, 64)))
    assert np.array_equal(agent_tubes(base, ids, dilation=0), agent_tubes(base, [7], dilation=0))
    assert not agent_tubes(base, []).any()


def test_track_ids_are_whole_numbers() -> None:
    base = with_agents(scene(8, "front"))
    for wrong in (-1, 7.0, "7"):
        with pytest.raises(ValueError, match=r"agents: expected a whole number of at least 0, got .* track ids of"):
            agent_tubes(base, [wrong])
    with pytest.raises(ValueError, match=r"dilation: expected a whole number of at least 0, got 1\.5; pixels"):
        agent_tubes(base, dilation=1.5)


def test_an_agent_that_is_never_there_cannot_be_chosen() -> None:
    """Its row has a track id, but no category at any time."""
    base = with_agents(scene(8, "front"))
    category = base.agents.category.copy()
    category[:, 1] = -1
    gone = base.replace(agents=Agents(base.agents.boxes, category, base.agents.track_id))
    with pytest.raises(ValueError, match=r"agents: expected track ids of the scene, .* got \[9\]"):
        agent_tubes(gone, [9])


def test_tubes_grow_by_eight_pixels_unless_told_otherwise() -> None:
    base = with_agents(scene(8, "front"))
    assert np.array_equal(agent_tubes(base, [7]), agent_tubes(base, [7], dilation=8))
    assert agent_tubes(base, [7]).sum() > agent_tubes(base, [7], dilation=7).sum()


def test_every_agent_grows_on_all_sides() -> None:
    """Also to the left and up, by pixels that are no squares of the grid's unit."""
    base = with_agents(scene(8, "front"))
    base = base.replace(rig=base.rig.fit((32, 96)))
    x1, y1, x2, y2 = project_agents(base)[3, 0, 1, :4] * (96, 32, 96, 32)
    rows, columns = np.nonzero(agent_tubes(base, [9], dilation=3)[3, 0])
    assert (columns.min(), columns.max() + 1) == (max(0, np.floor(x1 - 3)), min(96, np.ceil(x2 + 3)))
    assert (rows.min(), rows.max() + 1) == (max(0, np.floor(y1 - 3)), min(32, np.ceil(y2 + 3)))
