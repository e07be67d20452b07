"""Agent IoU: exact masks, shifted boxes, occlusion, and the network that makes masks."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from gaia2.conditioning.lens import project_points
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import KIND
from gaia2.metrics import agent_iou
from gaia2.metrics.agent_overlap import AgentIoU, box_masks
from gaia2.scene import AGENT_CATEGORIES, Agents, Scene

CAR, BUS = AGENT_CATEGORIES.index("car"), AGENT_CATEGORIES.index("bus")


def scene(*boxes: tuple[float, ...], category: tuple[int, ...] = (CAR,), rig: str = "surround") -> Scene:
    made = Scene.create(rig, num_frames=2, agents=Agents([list(boxes)] * 2, [list(category)] * 2))
    return made.replace(rig=made.rig.fit(image_size=(64, 128)))


def test_masks_are_the_hull_of_the_projected_corners() -> None:
    """Rays cut with boxes against OpenCV's filled hull of the corners, which is exact for boxes in front of a lens."""
    asked = scene((14.0, 1.5, 0.9, 4.5, 1.9, 1.8, 0.4), rig="front")
    got = box_masks(asked)[0, 0] == CAR
    x, y, z, length, width, height, yaw = asked.agents.boxes[0, 0]
    signs = torch.tensor([[a, b, c] for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]) / 2
    corners = signs * torch.tensor([length, width, height])
    turn = torch.tensor([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    corners = corners.double() @ turn.T + torch.tensor([x, y, z])
    pose = torch.tensor(asked.rig.extrinsics[0])
    image = project_points((corners - pose[:3, 3]) @ pose[:3, :3], torch.tensor(asked.rig.intrinsics[0]))
    fine = np.zeros((64 * 16, 128 * 16), np.uint8)
    hull = cv2.convexHull((image.numpy() * 16).astype(np.int32))
    covered = torch.from_numpy(cv2.fillConvexPoly(fine, hull, 1))[8::16, 8::16].bool()  # the centres of the pixels
    assert int(got.sum()) > 60
    assert int((got != covered).sum()) <= 2


def test_one_on_masks_of_the_same_boxes_and_less_when_they_are_elsewhere() -> None:
    asked = scene((12.0, 1.0, 0.8, 4.5, 1.9, 1.6, 0.1), (-8.0, -4.0, 1.5, 10.0, 2.5, 3.0, 0.0), category=(CAR, BUS))
    result = agent_iou(box_masks(asked), asked)
    assert result.per_class == {"car": 1.0, "bus": 1.0}
    assert result.mean == 1.0
    values = []
    for shift in (0.3, 0.8, 2.5):
        boxes = np.array(asked.agents.boxes)
        boxes[..., 1] += shift
        moved = asked.replace(agents=Agents(boxes, asked.agents.category))
        values.append(agent_iou(box_masks(moved), asked).mean)
    assert 1 > values[0] > values[1] > values[2]


def test_what_is_nearer_hides_what_is_behind() -> None:
    behind, before = (20.0, 0.0, 1.5, 8.0, 2.5, 3.0, 0.0), (8.0, 0.0, 1.0, 4.5, 3.0, 2.0, 0.0)
    asked = scene(behind, before, category=(BUS, CAR), rig="front")
    masks = box_masks(asked)[0, 0]
    alone = box_masks(scene(behind, category=(BUS,), rig="front"))[0, 0] == BUS
    front = box_masks(scene(before, rig="front"))[0, 0] == CAR
    assert (masks[front] == CAR).all()
    assert (masks[alone & ~front] == BUS).all()
    # a wall at 3 m, seen by a depth map, hides both
    wall = torch.full((2, 1, 64, 128), 3.0)
    assert agent_iou(torch.full((2, 1, 64, 128), -1), asked, wall).per_class == {}


def test_renderer_masks_agree_with_the_boxes() -> None:
    """The renderer draws a vehicle as two boxes inside the scene's one: most of it, and nothing elsewhere."""
    world = ProceduralWorld("front", num_frames=2)
    drawn = world.sample_scenes([12])[0]
    boxes = np.full((2, 1, 7), [12.0, 0.5, 1.6, 10.0, 2.5, 3.2, 0.0])
    drawn = drawn.replace(agents=Agents(boxes, np.full((2, 1), BUS)), weather="clear", time_of_day="day")
    _, masks = world.render_with_masks([drawn], [12])
    classes = masks.classes[0].long() - int(KIND["agent:" + AGENT_CATEGORIES[0]])
    seen = torch.where(classes >= 0, classes, -1)
    assert agent_iou(seen, drawn, masks.depth[0].float()).per_class["bus"] > 0.85


def test_parts_add_up() -> None:
    asked = scene((12.0, 1.0, 0.8, 4.5, 1.9, 1.6, 0.1))
    seen = box_masks(asked).roll(2, dims=-1)
    parts = [agent_iou(seen[t : t + 1], asked.window(t, t + 1)) for t in range(2)]
    assert (parts[0] + parts[1]).per_class == agent_iou(seen, asked).per_class
    nothing = torch.zeros(len(AGENT_CATEGORIES), dtype=torch.int64)
    assert np.isnan(AgentIoU(nothing, nothing).mean)


def test_bad_input() -> None:
    asked = scene((12.0, 1.0, 0.8, 4.5, 1.9, 1.6, 0.1))
    good = box_masks(asked)
    with pytest.raises(ValueError, match=r"expected \(tv, n, hv, wv\) = \(2, 5, 64, 128\)"):
        agent_iou(good[:1], asked)
    with pytest.raises(ValueError, match="whole numbers"):
        agent_iou(good.float(), asked)
    with pytest.raises(ValueError, match="categories from -1"):
        agent_iou(good.byte(), asked)
    with pytest.raises(ValueError, match="depth: expected the axes of the masks"):
        agent_iou(good, asked, torch.zeros(1))
