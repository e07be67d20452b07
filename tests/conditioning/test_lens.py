from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.conditioning.lens import lens_limit, project_points

# Coefficients of the sizes that calibrations have: k1 k2 p1 p2 k3 k4 k5 k6.
SPREAD = {"pinhole": (0.1, 0.05, 0.002, 0.002, 0.02, 0.1, 0.05, 0.02), "fisheye": (0.1, 0.03, 0.01, 0.003)}


def random_cameras(kind: str, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Matrices in pixels, coefficients and points in front of each camera, all float64."""
    rng = np.random.default_rng(seed)
    matrix = np.tile(np.eye(3), (count, 1, 1))
    matrix[:, 0, 0], matrix[:, 1, 1] = rng.uniform(300, 2000, (2, count))
    matrix[:, 0, 2], matrix[:, 1, 2] = rng.uniform(400, 1000, count), rng.uniform(200, 600, count)
    distortion = np.zeros((count, 8))
    distortion[:, : len(SPREAD[kind])] = rng.normal(size=(count, len(SPREAD[kind]))) * SPREAD[kind]
    points = rng.uniform(-1, 1, (count, 40, 3)) * (1.0, 1.0, 0.45) + (0, 0, 1.5)
    return matrix, distortion, points * rng.uniform(0.5, 30, (count, 40, 1))


@pytest.mark.parametrize("kind", ["pinhole", "fisheye"])
@pytest.mark.parametrize(("dtype", "pixels"), [(torch.float64, 1e-8), (torch.float32, 0.01)])
def test_agrees_with_opencv(kind: str, dtype: torch.dtype, pixels: float) -> None:
    cv2 = pytest.importorskip("cv2")
    matrix, distortion, points = random_cameras(kind, 200)
    got = project_points(
        torch.tensor(points, dtype=dtype),
        torch.tensor(matrix, dtype=dtype)[:, None],
        torch.tensor(distortion, dtype=dtype)[:, None],
        torch.full((200, 1), int(kind == "fisheye")),
    )
    for i in range(200):
        if kind == "pinhole":
            expected, _ = cv2.projectPoints(points[i], np.zeros(3), np.zeros(3), matrix[i], distortion[i])
        else:
            expected, _ = cv2.fisheye.projectPoints(
                points[i][:, None], np.zeros(3), np.zeros(3), matrix[i], distortion[i, :4]
            )
        expected = expected.reshape(-1, 2)
        inside = np.abs(expected).max(axis=1) < 5000  # a few random lenses have a pole in view
        assert inside.sum() > 5
        np.testing.assert_allclose(got[i].double().numpy()[inside], expected[inside], atol=pixels, rtol=0)


def test_skew_counts() -> None:
    matrix = torch.tensor([[700.0, 30.0, 480.0], [0.0, 600.0, 224.0], [0.0, 0.0, 1.0]])
    assert project_points(torch.tensor([2.0, 1.0, 10.0]), matrix).tolist() == pytest.approx([623.0, 284.0])


def test_points_behind_are_nan() -> None:
    points = torch.tensor([[1.0, 1.0, -5.0], [0.0, 0.0, 0.0]])
    for model in (0, 1):
        assert project_points(points, torch.eye(3), torch.zeros(8), torch.tensor(model)).isnan().all()


def test_limit_is_where_the_polynomial_turns() -> None:
    # r (1 + k1 r^2): slope 1 + 3 k1 r^2 = 0. theta (1 + k1 theta^2): the same in theta.
    k1 = torch.tensor([-0.05, -0.2, -0.5], dtype=torch.float64)
    distortion = torch.zeros(2, 3, 8, dtype=torch.float64)
    distortion[..., 0] = k1
    turn = (1 / (-3 * k1)).sqrt()
    limit, _, _ = lens_limit(distortion, torch.tensor([[0], [1]]).expand(2, 3))
    torch.testing.assert_close(limit[0], turn, rtol=0.03, atol=0)
    fisheye_turn = torch.where(turn < np.pi / 2, turn.tan(), torch.inf)
    torch.testing.assert_close(limit[1], fisheye_turn, rtol=0.1, atol=0)


def test_limit_covers_the_tangential_turn_in_its_worst_direction() -> None:
    distortion = torch.tensor([0, 0, 0.03, -0.04, 0, 0, 0, 0], dtype=torch.float64)
    limit = lens_limit(distortion)[0]
    direction = torch.tensor([0.04, -0.03], dtype=torch.float64) / 0.05  # opposite to (p2, p1)
    radii = torch.linspace(0, 10, 20001, dtype=torch.float64)
    points = torch.cat([radii[:, None] * direction, torch.ones_like(radii)[:, None]], dim=1)
    along = project_points(points, torch.eye(3, dtype=torch.float64), distortion) @ direction
    turn = radii[along.argmax()]
    assert limit.item() == pytest.approx(turn.item(), rel=0.03)
    assert turn < 10


def test_no_distortion_has_no_limit() -> None:
    for model in (0, 1):
        limit, ideal, seen = lens_limit(torch.zeros(8, dtype=torch.float64), torch.tensor(model))
        assert limit.item() == float("inf")
        torch.testing.assert_close(seen, ideal if model == 0 else ideal.atan())
