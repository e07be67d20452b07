from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from gaia2.conditioning.lens import image_rays, intrinsic_matrix, lens_limit, project_points
from gaia2.conditioning.ray_map import RAYS, RayMapEncoder, rays_of_cells

INTRINSICS = torch.tensor([0.6, 1.1, 0.48, 0.52], dtype=torch.float64)
FORWARD = torch.tensor([[0.0, 0, 1, 1.7], [-1, 0, 0, 0.2], [0, -1, 0, 1.5], [0, 0, 0, 1]], dtype=torch.float64)


def pitched(angle: float) -> torch.Tensor:
    """The forward camera, turned down by an angle (radians)."""
    turn = torch.eye(4, dtype=torch.float64)
    turn[0, 0] = turn[2, 2] = math.cos(angle)
    turn[0, 2], turn[2, 0] = math.sin(angle), -math.sin(angle)
    pose = turn @ FORWARD
    pose[:3, 3] = FORWARD[:3, 3]
    return pose


@pytest.mark.parametrize(
    ("lens", "model"), [([0.05, -0.02, 0, 0, 0.001, 0, 0, 0], 0), ([0.02, 0.01, -0.003, 0.001, 0, 0, 0, 0], 1)]
)
def test_image_rays_undo_the_projection_and_agree_with_opencv(lens: list[float], model: int) -> None:
    matrix = intrinsic_matrix(INTRINSICS)
    distortion, kind = torch.tensor(lens, dtype=torch.float64), torch.tensor(model)
    _, ideal, seen = lens_limit(distortion, kind)
    points = torch.rand(50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rays = image_rays(points, matrix, ideal, seen)
    torch.testing.assert_close(project_points(rays, matrix, distortion, kind), points, atol=2e-4, rtol=0)
    undo = cv2.fisheye.undistortPoints if model else cv2.undistortPoints
    coefficients = np.array(lens[:4] if model else lens)
    wanted = undo(points.numpy()[:, None], matrix.numpy(), coefficients)[:, 0]
    np.testing.assert_allclose(rays[:, :2].numpy(), wanted, atol=2e-3)


@pytest.mark.parametrize("angle", [-0.15, 0.0, 0.2])
def test_the_horizon_is_where_rays_are_level(angle: float) -> None:
    pose = pitched(angle)
    rays, mount = rays_of_cells(INTRINSICS[None, None], pose[None, None], None, None, (32, 4))
    level = rays[0, 0, :, 0, 0, 2].abs().argmin().item()
    row = INTRINSICS[3] - INTRINSICS[1] * math.tan(angle)  # cy - fy tan(pitch down)
    assert abs((level + 0.25) / 32 - row) < 1 / 32
    assert mount.flatten().tolist() == pytest.approx([1.7, 0.2, 1.5])


def test_cells_hold_their_own_rays() -> None:
    pose = pitched(0.1)
    rays, _ = rays_of_cells(INTRINSICS[None, None], pose[None, None], None, None, (2, 4))
    point = (pose[:3, 3] + 20 * rays[0, 0, 1, 2, 3]) - pose[:3, 3]
    seen = project_points(pose[:3, :3].T @ point, intrinsic_matrix(INTRINSICS))
    assert seen.tolist() == pytest.approx([(2 * RAYS + 1.5) / (4 * RAYS), (RAYS + 1.5) / (2 * RAYS)])


def test_a_finer_grid_or_another_pitch_changes_the_embedding_and_nothing_is_infinite() -> None:
    encoder = RayMapEncoder(dim=8).double()
    intrinsics = INTRINSICS.expand(1, 2, 4)
    poses = torch.stack([pitched(0.0), pitched(0.1)])[None]
    cells = encoder(intrinsics, poses, grid=(4, 8))
    assert cells.isfinite().all()
    assert (cells[:, 0] - cells[:, 1]).abs().amax(dim=-1).min() > 1e-4
    with pytest.raises(ValueError, match=r"intrinsics: expected \(b, n, k=4\)"):
        encoder(intrinsics[..., :3], poses, grid=(4, 8))
