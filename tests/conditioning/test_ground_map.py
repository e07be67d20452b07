from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.ground_map import (
    METRES,
    WAVELENGTHS,
    GroundMapEncoder,
    driven,
    ground_features,
    ground_waves,
)
from gaia2.conditioning.ray_map import RAYS
from gaia2.models.world_model import WorldModel
from gaia2.scene import ego_poses
from gaia2.training.world_model_building import extend

F = 4 * len(WAVELENGTHS)
FORWARD = torch.tensor([[0.0, 0, 1, 1.7], [-1, 0, 0, 0.2], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=torch.float64)
INTRINSICS = torch.tensor([0.6, 1.1, 0.5, 0.5], dtype=torch.float64)


def features(speed: list[float], curvature: list[float], grid: tuple[int, int] = (4, 8)) -> torch.Tensor:
    """`(t, h, w, p, 2, f)` waves of one camera, and the way `(t, 5)`; the latents are a second apart."""
    times = torch.arange(len(speed), dtype=torch.float64)[None, :, None]
    action = torch.tensor([speed], dtype=torch.float64), torch.tensor([curvature], dtype=torch.float64)
    return ground_features(*action, times, INTRINSICS[None, None], FORWARD[None, None], grid=grid)[0, :, 0]


def waves(made: torch.Tensor) -> torch.Tensor:
    return made[..., :-5].unflatten(-1, (RAYS**2, 2, F))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(-3, 30), st.floats(-0.2, 0.2)), min_size=1, max_size=6))
def test_the_way_is_that_of_the_scene(steps: list[tuple[float, float, float]]) -> None:
    gaps, speed, curvature = np.array(steps).T
    times = np.cumsum(gaps)
    pose = driven(*(torch.tensor(a)[None] for a in (speed, curvature)), torch.tensor(times)[None, :, None])
    np.testing.assert_allclose(pose[0, :, 0].numpy(), ego_poses(times, speed, curvature), atol=1e-9)


@pytest.mark.parametrize(("pitch", "yaw"), [(0.5, 0.0), (0.3, 0.7), (0.2, 2.0), (1.2, -1.0)])
def test_waves_are_means_over_the_ground_that_a_ray_stands_for(pitch: float, yaw: float) -> None:
    angle = 0.02
    draws = torch.randn(200_000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * angle / 2
    down, aside = pitch + draws[:, 0], yaw + draws[:, 1] / math.cos(pitch)
    rays = torch.stack([down.cos() * aside.cos(), down.cos() * aside.sin(), -down.sin()], dim=-1)
    mount = torch.tensor([1.0, -0.5, 1.5], dtype=torch.float64)
    ground = mount[:2] + 1.5 / -rays[:, 2:] * rays[:, :2]
    phase = 2 * math.pi * ground[:, :, None] / torch.tensor(WAVELENGTHS, dtype=torch.float64)
    wanted = torch.cat([phase.sin(), phase.cos()], dim=-1).mean(dim=0).flatten()
    centre = torch.tensor([math.cos(pitch) * math.cos(yaw), math.cos(pitch) * math.sin(yaw), -math.sin(pitch)])
    made = ground_waves(centre.double(), mount, torch.tensor(angle, dtype=torch.float64))
    torch.testing.assert_close(made, wanted, atol=0.03, rtol=0)
    assert made.abs().max() > 0.5


def test_rays_that_meet_no_ground_say_nothing_and_far_ground_has_long_waves_only() -> None:
    up, level, far = (torch.tensor([math.cos(a), 0.0, -math.sin(a)]) for a in (-0.3, 0.0, 0.03))
    mount, angle = torch.tensor([0.0, 0.0, 1.5]), torch.tensor(0.05)
    assert ground_waves(up, mount, angle).abs().max() == 0
    assert ground_waves(level, mount, angle).abs().max() == 0
    x, y = ground_waves(far, mount, angle).unflatten(-1, (2, 2, len(WAVELENGTHS))).norm(dim=1)
    assert x[:2].max() < 1e-3  # 50 m away a ray covers tens of metres along the road
    assert y[1] > 0.4  # and little more than a metre across
    assert (y.diff() > 0).all()


def test_the_same_ground_has_the_same_waves_in_the_first_frame() -> None:
    """After a quarter of a turn on a circle of 5 m, ground of the first frame is seen elsewhere, but is that."""
    radius = 5.0
    pose = driven(
        torch.full((1, 2), radius * math.pi / 2), torch.full((1, 2), 1 / radius), torch.tensor([[[0.0], [1.0]]])
    )[0, 1, 0]
    assert pose.tolist() == pytest.approx([radius, radius, math.pi / 2], abs=1e-5)
    point, mount = torch.tensor([4.0, 9.0, 0.0]), torch.tensor([1.0, 0.3, 1.5])
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # of the ego vehicle, a quarter to the left
    camera = turn @ mount + torch.tensor([radius, radius, 0.0])
    ray = turn.T @ (point - camera)  # as the turned ego vehicle sees it
    made = features([radius * math.pi / 2] * 2, [1 / radius] * 2)
    assert made[1, 0, 0, -5:].tolist() == pytest.approx([radius / METRES, radius / METRES, 1.0, 0.0, 1.0], abs=1e-6)
    x, y = (torch.sin(2 * math.pi * point[i] / torch.tensor(WAVELENGTHS)) for i in (0, 1))
    own = ground_waves(turn @ (ray / ray.norm()), camera, torch.tensor(0.0)).unflatten(-1, (2, 2, -1))[:, 0]
    torch.testing.assert_close(own, torch.stack([x, y]), atol=1e-4, rtol=0)


def test_cells_that_a_drive_brings_to_the_same_ground_agree() -> None:
    """A camera that looks straight down sees after one row's length what the row ahead saw before."""
    down = torch.tensor([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 2.0], [0, 0, 0, 1]], dtype=torch.float64)
    intrinsics = torch.tensor([1.0, 1.0, 0.5, 0.5], dtype=torch.float64)  # 2 m of ground, in 4 rows of half a metre
    times = torch.tensor([[[0.0], [1.0]]], dtype=torch.float64)
    speed, straight = torch.full((1, 2), 0.5, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    made = waves(
        ground_features(speed, straight, times, intrinsics[None, None], down[None, None], grid=(4, 4))[0, :, 0]
    )
    now, first = made[..., 0, :], made[..., 1, :]
    phase = first.unflatten(-1, (2, 2, -1))[..., :, 0, :]  # sines, times weights that differ with the slant
    before, after = phase[0, :-1], phase[1, 1:]
    torch.testing.assert_close(after, before, atol=0.05, rtol=0)
    assert (phase[0, 1:] - phase[1, 1:]).abs().max() > 0.3
    torch.testing.assert_close(now[0], now[1])
    torch.testing.assert_close(first[0], now[0])


def test_standing_still_is_known_and_not_knowing_says_nothing() -> None:
    still, unknown = features([0.0] * 3, [0.01] * 3), features([8.0, math.nan, 8.0], [0.0] * 3)
    torch.testing.assert_close(waves(still)[..., 1, :], waves(still)[..., 0, :])
    assert still[..., -1].eq(1).all()
    assert unknown[0, ..., -1].eq(1).all()  # the way to the first time is none
    assert unknown[1:, ..., -5:].eq(0).all()
    assert waves(unknown)[1:, ..., 1, :].eq(0).all()
    assert waves(unknown)[..., 0, :].abs().max() > 0.5
    assert features([math.nan], [0.0])[..., -1].eq(0).all()


def test_a_trained_model_that_gets_the_map_is_at_first_the_model_that_it_was() -> None:
    torch.manual_seed(0)
    model = WorldModel(latent_channels=4, dim=32, num_heads=2, num_blocks=1, ray_map=True)
    larger = extend(model, ground_map=True)
    given = {
        "timestamps": torch.tensor([[[0.0], [0.8]]]),
        "intrinsics": INTRINSICS[None, None].float(),
        "extrinsics": FORWARD[None, None].float(),
        "speed": torch.tensor([[9.0, 10.0]]),
        "curvature": torch.tensor([[0.0, 0.02]]),
    }
    noise = torch.randn(1, 2, 1, 4, 8, 4)
    with torch.no_grad():
        torch.testing.assert_close(
            larger(noise, torch.tensor([0.3]), given).sample, model(noise, torch.tensor([0.3]), given).sample
        )
    larger(noise, torch.tensor([0.3]), given).sample.square().sum().backward()
    last = larger.conditioning.ground_map.mlp[2]
    assert last.weight.grad is not None
    assert last.weight.grad.abs().max() > 0


def test_wrong_axes_are_named() -> None:
    encoder = GroundMapEncoder(dim=8)
    times, cameras = torch.zeros(1, 3, 2), (torch.rand(1, 2, 4), torch.eye(4).expand(1, 2, 4, 4))
    with pytest.raises(ValueError, match=r"speed: expected \(b=1, t=3\)"):
        encoder(torch.zeros(1, 2), torch.zeros(1, 3), times, *cameras, grid=(4, 8))
    with pytest.raises(ValueError, match=r"intrinsics: expected"):
        encoder(torch.zeros(1, 3), torch.zeros(1, 3), times, torch.rand(1, 3, 4), cameras[1], grid=(4, 8))
