"""Maps and weights of cells, counted pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.procedural.boxes import CLASSES
from gaia2.data.rendered import Masks
from gaia2.training.maps import IMPORTANCE, cell_maps, cell_weights, num_cell_maps, pixel_importance

CELL = 8


@pytest.fixture
def masks() -> Masks:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 4, 1, 16, 24)  # clips, frames, cameras, pixels
    return Masks(
        torch.randint(len(CLASSES), shape, generator=generator).to(torch.uint8),
        (1 + 50 * torch.rand(shape, generator=generator)).half(),
    )


def test_maps_are_the_shares_of_classes_and_the_inverse_depth_of_each_quarter(masks: Masks) -> None:
    maps = cell_maps(masks, cell=CELL)
    assert maps.shape == (2, 2, 1, 2, 3, num_cell_maps())
    clip, time, row, column, quarter_row, quarter_column = 1, 1, 1, 2, 0, 1
    y, x = row * 8 + quarter_row * 4, column * 8 + quarter_column * 4
    window = np.s_[clip, 2 * time : 2 * time + 2, 0, y : y + 4, x : x + 4]
    per_quarter = len(CLASSES) + 1
    first = (quarter_row * 2 + quarter_column) * per_quarter
    got = maps[clip, time, 0, row, column, first : first + per_quarter]
    shares = np.bincount(masks.classes[window].numpy().ravel(), minlength=len(CLASSES)) / 32
    np.testing.assert_allclose(got[:-1], shares, atol=1e-6)
    near = np.mean(1 / (1 + masks.depth[window].float().numpy() / 10))
    assert got[-1].item() == pytest.approx(near, rel=1e-4)


def test_a_cell_counts_by_what_it_holds(masks: Masks) -> None:
    weights = cell_weights(masks, cell=CELL, strength=3.0)
    window = masks.classes[0, 0:2, 0, 8:16, 0:8].numpy().ravel()
    factor = sum(IMPORTANCE.get(CLASSES[index].split(":")[0], 0.0) for index in window) / len(window)
    assert weights[0, 0, 0, 1, 0].item() == pytest.approx(1 + 3 * min(1.0, factor), rel=1e-5)


def test_sky_counts_once_and_a_cell_full_of_a_car_four_times() -> None:
    for name, expected in (("sky", 1.0), ("road", 1.0), ("agent:car", 4.0), ("lamp", 4.0)):
        classes = torch.full((1, 2, 1, 8, 8), CLASSES.index(name), dtype=torch.uint8)
        assert cell_weights(Masks(classes, torch.ones(classes.shape)), cell=CELL).unique().tolist() == [expected]


def test_pixels_are_important_that_show_small_things_or_lie_beside_them() -> None:
    classes = torch.full((1, 2, 1, 12, 20), CLASSES.index("road"), dtype=torch.uint8)
    classes[0, 0, 0, 5, 4] = CLASSES.index("lamp")
    classes[0, 0, 0, 5, 12] = CLASSES.index("agent:car")
    expected = np.zeros((12, 20))
    expected[3:8, 2:7] = 1.0
    expected[3:8, 10:15] = IMPORTANCE["agent"] / 4
    importance = pixel_importance(classes)
    assert importance.shape == classes.shape
    np.testing.assert_allclose(importance[0, 0, 0], expected)
    assert not importance[0, 1].any()
