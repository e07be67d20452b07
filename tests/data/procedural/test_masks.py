from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.data.procedural.rays import camera_rays

SIZE = (48, 96)
AGENT = CLASSES.index("agent:car")


@pytest.fixture(scope="module")
def rendered():
    world = ProceduralWorld(rig="random", num_cameras=2, image_size=SIZE, num_frames=8, rays=1)
    seeds = list(range(16))
    scenes = world.sample_scenes(seeds)
    images, masks = world.render_with_masks(scenes, seeds, stride=4)
    return world, seeds, scenes, images, masks


def test_images_are_those_without_masks_and_masks_those_of_their_frames(rendered):
    world, seeds, scenes, images, masks = rendered
    assert torch.equal(images, world.render(scenes, seeds))
    assert masks.classes.shape == masks.depth.shape == (16, 2, 2, *SIZE)
    _, all_masks = world.render_with_masks(scenes[:2], seeds[:2])
    assert torch.equal(all_masks.classes[:, 2::4], masks.classes[:2])
    assert torch.equal(all_masks.depth[:, 2::4], masks.depth[:2])


def test_depth_of_the_ground_is_where_the_rays_meet_it(rendered):
    _, _, scenes, _, masks = rendered
    ground = torch.isin(masks.classes, torch.tensor([CLASSES.index(n) for n in ("road", "ground", "lane_mark")]))
    for index, scene in enumerate(scenes):
        rig = scene.rig
        rays = camera_rays(
            SIZE,
            torch.tensor(rig.intrinsics),
            torch.tensor(rig.distortion),
            torch.tensor([model == "fisheye" for model in rig.distortion_model]),
        )
        down = (torch.tensor(rig.extrinsics[:, 2, :3])[:, :, None] * rays).sum(dim=1).reshape(2, *SIZE)
        expected = torch.tensor(rig.extrinsics[:, 2, 3])[:, None, None] / -down
        here = ground[index] & (expected < 60)[None]
        ratio = masks.depth[index].double() / expected[None]
        assert here.sum() > 100
        assert ratio[here].sub(1).abs().max() < 0.002


def test_agents_lie_within_their_projected_boxes_at_the_right_depth(rendered):
    _, _, scenes, _, masks = rendered
    features = scene_conditioning(scenes, frames_per_latent=4)["agents"]
    seen = 0
    for i, t, n in np.ndindex(16, 2, 2):
        rows = features[i, t, n][features[i, t, n, :, 12] >= 0]
        agent = masks.classes[i, t, n] >= AGENT
        v, u = agent.nonzero().T
        x, y = (u + 0.5) / SIZE[1], (v + 0.5) / SIZE[0]
        margin = 0.6 / SIZE[1]
        inside = (
            (x[:, None] > rows[:, 0] - margin)
            & (x[:, None] < rows[:, 2] + margin)
            & (y[:, None] > rows[:, 1] - 2 * margin)
            & (y[:, None] < rows[:, 3] + 2 * margin)
        )
        kind = masks.classes[i, t, n][agent].long() - AGENT
        right = inside & (rows[:, 12] == kind[:, None])
        assert right.any(dim=1).float().mean() > 0.98 if len(u) else True
        reach = rows[:, 7:10].norm(dim=1) / 2 + 0.3
        gap = (masks.depth[i, t, n][agent].float()[:, None] - rows[:, 4:7].norm(dim=1)).abs()
        assert (right & (gap < reach)).any(dim=1).float().mean() > 0.98 if len(u) else True
        seen += len(u)
    assert seen > 2000


def test_every_class_is_seen_somewhere(rendered):
    world = rendered[0]
    seeds = list(range(100, 160))
    _, masks = world.render_with_masks(world.sample_scenes(seeds), seeds, stride=8)
    assert set(masks.classes.unique().tolist()) == set(range(len(CLASSES)))


def test_sky_is_above_the_horizon_and_endlessly_far(rendered):
    _, _, _, _, masks = rendered
    sky = masks.classes == CLASSES.index("sky")
    assert masks.depth[sky].min() >= 600
    assert masks.depth[masks.classes == CLASSES.index("road")].max() <= 600


def test_a_stride_must_be_positive(rendered):
    world, seeds, scenes, _, _ = rendered
    with pytest.raises(ValueError, match="stride: expected a whole number from 1 to 1000000, got 0"):
        world.render_with_masks(scenes, seeds, stride=0)
