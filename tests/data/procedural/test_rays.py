"""Rays of distorted cameras against the forward lens models."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.procedural.rays import camera_rays, pixel_grid, undistort

K = np.array([[310.0, 0.0, 161.0], [0.0, 305.0, 88.0], [0.0, 0.0, 1.0]])
PINHOLE = (-0.31, 0.09, 0.0007, -0.0004, -0.012, 0.0, 0.0, 0.0)
RATIONAL = (0.6, -0.12, 0.0003, 0.0002, 0.01, 0.95, -0.05, 0.004)
FISHEYE = (-0.03, 0.012, -0.006, 0.0009, 0.0, 0.0, 0.0, 0.0)
SIZE = (176, 320)


def project(rays: np.ndarray, k: tuple[float, ...], fisheye: bool) -> np.ndarray:
    """OpenCV's camera models, forwards: `(p, 3)` rays to `(p, 2)` pixels."""
    if fisheye:
        radius = np.hypot(rays[:, 0], rays[:, 1])
        theta = np.arctan2(radius, rays[:, 2])
        distorted = theta * (1 + k[0] * theta**2 + k[1] * theta**4 + k[2] * theta**6 + k[3] * theta**8)
        xy = rays[:, :2] / np.maximum(radius, 1e-12)[:, None] * distorted[:, None]
    else:
        x, y = rays[:, 0] / rays[:, 2], rays[:, 1] / rays[:, 2]
        r2 = x * x + y * y
        k1, k2, p1, p2, k3, k4, k5, k6 = k
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        xy = np.stack(
            [x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x), y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y],
            axis=-1,
        )
    return xy @ K[:2, :2].T + K[:2, 2]


@pytest.mark.parametrize(
    ("distortion", "fisheye"),
    [((0.0,) * 8, False), (PINHOLE, False), (RATIONAL, False), (FISHEYE, True), ((0.0,) * 8, True)],
    ids=["plain", "pinhole", "rational", "fisheye", "equidistant"],
)
def test_rays_project_back_onto_their_pixels(distortion, fisheye):
    grid = pixel_grid(SIZE)
    rays = undistort(
        grid, torch.tensor(K)[None], torch.tensor(distortion, dtype=torch.float64)[None], torch.tensor([fisheye])
    )[0].numpy()
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(project(rays, distortion, fisheye), grid.numpy(), atol=1e-4)


def test_cameras_of_both_models_in_one_batch():
    distortion = torch.tensor([PINHOLE, FISHEYE], dtype=torch.float64)
    rays = camera_rays(SIZE, torch.tensor(K).expand(2, 3, 3), distortion, torch.tensor([False, True]))
    assert rays.shape == (2, 3, SIZE[0] * SIZE[1])
    for i, (k, fisheye) in enumerate(((PINHOLE, False), (FISHEYE, True))):
        pixels = project(rays[i].T.double().numpy(), k, fisheye)
        np.testing.assert_allclose(pixels, pixel_grid(SIZE).numpy(), atol=1e-3)


def test_fisheye_of_more_than_half_a_circle():
    k = torch.tensor([[[80.0, 0, 160], [0, 80, 88], [0, 0, 1]]], dtype=torch.float64)
    rays = undistort(pixel_grid(SIZE), k, torch.zeros(1, 8, dtype=torch.float64), torch.tensor([True]))
    assert float(rays[..., 2].min()) < -0.2  # sees behind itself
    corner = rays[0, 0]
    angle = np.hypot(0.5 - 160, 0.5 - 88) / 80
    assert float(corner[2]) == pytest.approx(np.cos(angle))


def test_sub_pixels_average_to_the_pixel():
    fine = pixel_grid((3, 5), rays=16).reshape(16, 15, 2)
    torch.testing.assert_close(fine.mean(0), pixel_grid((3, 5)))
    assert pixel_grid((3, 5))[0].tolist() == [0.5, 0.5]
    assert pixel_grid((3, 5))[6].tolist() == [1.5, 1.5]
