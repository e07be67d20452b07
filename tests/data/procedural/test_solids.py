"""Ray tests against plain double-precision geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.procedural.boxes import BOX, CROWN, box_rows
from gaia2.data.procedural.solids import MISS, nearest_box, nearest_crown


def random_rays(rng: np.random.Generator, count: int) -> np.ndarray:
    rays = rng.normal(size=(count, 3)) * [1.0, 1.0, 0.4]
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def march(inside, origin: np.ndarray, ray: np.ndarray, reach: float) -> float | None:
    """First entry of a ray into a body by bisection on many samples."""
    t = np.linspace(0.05, reach, 8_001)
    hit = inside(origin + t[:, None] * ray)
    if not hit.any():
        return None
    return float(t[hit.argmax()])


def test_boxes_agree_with_marching_along_the_rays():
    rng = np.random.default_rng(0)
    angle = rng.uniform(-3, 3, 12)
    centre = rng.uniform(-16, 16, (12, 3)) * [1, 1, 0.1]
    centre[:, :2] += np.sign(centre[:, :2]) * 4  # the camera is outside all boxes
    half = rng.uniform(1.0, 3.0, (12, 3))
    table = box_rows(
        (1, 12),
        torch.zeros(1),
        **{n: torch.tensor(centre[None, :, i]) for i, n in enumerate("xyz")},
        **{n: torch.tensor(half[None, :, i]) for i, n in enumerate(("hx", "hy", "hz"))},
        cos=torch.tensor(np.cos(angle))[None],
        sin=torch.tensor(np.sin(angle))[None],
    )
    rays = random_rays(rng, 150)
    origin = np.array([0.0, 0.0, 1.5])
    index, distance = nearest_box(
        torch.tensor(rays.T, dtype=torch.float32)[None],
        torch.tensor(origin, dtype=torch.float32)[None],
        table.transpose(1, 2),
    )
    hits = 0
    for i, ray in enumerate(rays):
        best = (MISS, -1)
        for k in range(12):

            def inside(p, k=k):
                w = p - centre[k]
                x = np.cos(angle[k]) * w[:, 0] + np.sin(angle[k]) * w[:, 1]
                y = np.cos(angle[k]) * w[:, 1] - np.sin(angle[k]) * w[:, 0]
                return (np.abs(x) < half[k, 0]) & (np.abs(y) < half[k, 1]) & (np.abs(w[:, 2]) < half[k, 2])

            t = march(inside, origin, ray, 40.0)
            best = min(best, (t, k)) if t is not None else best
        if best[1] < 0:
            assert float(distance[0, i]) > MISS / 2
        else:
            hits += 1
            assert abs(float(distance[0, i]) - best[0]) < 0.02
            assert int(index[0, i]) == best[1]
    assert hits > 25


def test_rays_along_the_axes_do_not_give_nan():
    table = box_rows((1, 1), torch.zeros(1), x=torch.tensor(5.0), hx=1.0, hy=1.0, hz=1.0)
    rays = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]).T[None]
    _, distance = nearest_box(rays, torch.zeros(1, 3), table.transpose(1, 2))
    torch.testing.assert_close(distance[0, 0], torch.tensor(4.0), rtol=1e-4, atol=1e-4)
    assert bool((distance[0, 1:] > MISS / 2).all())
    # a ray that lies in the plane of a face
    _, distance = nearest_box(rays, torch.tensor([[0.0, 1.0, 0.0]]), table.transpose(1, 2))
    assert not bool(distance.isnan().any())


def test_crowns_agree_with_the_quadratic():
    rng = np.random.default_rng(1)
    centre = rng.uniform(-15, 15, (6, 3)) * [1, 1, 0.2] + [0, 0, 3]
    centre[:, 0] += np.sign(centre[:, 0]) * 5
    radius, height = rng.uniform(1, 3, 6), rng.uniform(1, 4, 6)
    table = np.zeros((6, len(CROWN)))
    table[:, :3], table[:, 3], table[:, 4], table[:, CROWN.index("alpha")] = centre, radius, height, 1
    rays = random_rays(rng, 400)
    index, distance, cover = nearest_crown(
        torch.tensor(rays.T, dtype=torch.float32)[None],
        torch.zeros(1, 3),
        torch.tensor([1e-6]),
        torch.tensor(table.T, dtype=torch.float32)[None],
    )
    scale = np.stack([radius, radius, height], axis=-1)
    u, p = rays[:, None] / scale, -centre / scale
    a, b, c = (u * u).sum(-1), (u * p).sum(-1), (p * p).sum(-1) - 1
    disc = b * b - a * c
    t = np.where((disc > 0) & (b < 0), (-b - np.sqrt(np.maximum(disc, 0))) / a, MISS)
    clear = np.abs(disc).min(axis=1) > 1e-3
    hit = t.min(axis=1) < MISS
    assert (hit & clear).sum() > 30
    np.testing.assert_allclose(distance[0].numpy()[hit & clear], t.min(axis=1)[hit & clear], rtol=1e-3)
    assert (index[0].numpy() == t.argmin(axis=1))[hit & clear].all()
    np.testing.assert_allclose(cover[0].numpy()[clear], hit[clear], atol=1e-3)


def test_unknown_columns_are_refused():
    with pytest.raises(ValueError, match=r"boxes: expected columns of .* got \['depth'\]; use those names"):
        box_rows((1,), torch.zeros(1), depth=1.0)
    assert len(BOX) == len(set(BOX))
