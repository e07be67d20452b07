"""Boxes on a grid, against a count of fine samples."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gaia2.conditioning.cells import covered, shares

EIGHTHS = st.integers(-2, 10).map(lambda i: i / 8)


@given(EIGHTHS, EIGHTHS, st.sampled_from([1, 2, 4, 8]))
def test_shares_are_those_of_fine_samples(start: float, stop: float, cells: int) -> None:
    at = (np.arange(64) + 0.5) / 64
    inside = ((at > start) & (at < stop)).reshape(cells, -1).mean(axis=1)
    got = shares(torch.tensor(start, dtype=torch.float64), torch.tensor(stop, dtype=torch.float64), cells)
    np.testing.assert_allclose(got.numpy(), inside)


@given(st.lists(st.tuples(EIGHTHS, EIGHTHS, EIGHTHS, EIGHTHS), max_size=3))
def test_a_cell_is_covered_where_a_box_takes_up_some_of_it(boxes: list[tuple[float, ...]]) -> None:
    tensor = torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    expected = torch.zeros(2, 4, dtype=torch.bool)
    for x1, y1, x2, y2 in tensor:
        expected |= (shares(y1, y2, 2)[:, None] > 0) & (shares(x1, x2, 4) > 0)
    assert torch.equal(covered(tensor, 2, 4), expected)


def test_boxes_end_at_the_edge_of_a_cell_and_absent_ones_cover_nothing() -> None:
    exact = torch.tensor([[0.25, 0.5, 0.5, 1.0]])
    assert covered(exact, 2, 4).int().tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert not covered(torch.full((2, 4), torch.nan), 2, 4).any()
    assert not covered(torch.zeros(0, 4), 2, 4).any()
