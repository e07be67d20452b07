from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.agent_map import PARTS, AgentMapEncoder, paint_boxes


def boxes(*rows: tuple[tuple[float, float, float, float], float, float]) -> torch.Tensor:
    """Agents `(1, 1, 1, m, 13)` of bounds, depth and category; the rest is absent."""
    agents = torch.full((1, 1, 1, len(rows), 13), torch.nan, dtype=torch.float64)
    for row, (bounds, depth, category) in enumerate(rows):
        agents[..., row, :4] = torch.tensor(bounds)
        agents[..., row, 6], agents[..., row, 12] = depth, category
    return agents


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_coverage_is_the_area_that_a_box_shares_with_each_part(edges: list[float]) -> None:
    (x1, x2), (y1, y2) = sorted(edges[:2]), sorted(edges[2:])
    painted = paint_boxes(boxes(((x1, y1, x2, y2), 10.0, 0)), (4, 8), 7)[0, 0, 0, ..., 0]
    fine = (np.arange(1000) + 0.5) / 1000
    columns = ((fine >= x1) & (fine < x2)).reshape(8, 125).mean(axis=1)
    rows = ((fine >= y1) & (fine < y2)).reshape(4, 250).mean(axis=1)
    np.testing.assert_allclose(painted.numpy(), rows[:, None] * columns, atol=0.02)


def test_the_nearest_box_lies_on_top() -> None:
    far, near = ((0.0, 0.0, 1.0, 1.0), 40.0, 2), ((0.5, 0.0, 1.0, 1.0), 8.0, 5)
    for order in ((far, near), (near, far)):
        painted = paint_boxes(boxes(*order), (2, 4), 7)[0, 0, 0]
        category = painted[..., 6:].argmax(dim=-1)
        assert category.tolist() == [[2, 2, 5, 5]] * 2
        assert painted[0, :, 1].tolist() == pytest.approx([0.2, 0.2, 1 / 1.8, 1 / 1.8])


def test_places_in_a_box_run_from_its_left_upper_to_its_right_lower_edge() -> None:
    painted = paint_boxes(boxes(((0.0, 0.0, 1.0, 1.0), 10.0, 0)), (4, 4), 7)[0, 0, 0]
    expected = torch.tensor([-0.75, -0.25, 0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(painted[0, :, 4], expected)
    torch.testing.assert_close(painted[:, 0, 5], expected)


def test_absent_agents_paint_nothing_and_absent_features_are_zero() -> None:
    gone = boxes(((0.0, 0.0, 1.0, 1.0), 10.0, -1))
    assert not paint_boxes(gone, (4, 4), 7).any()
    no_bounds = boxes(((float("nan"), 0.0, 1.0, 1.0), 10.0, 1))
    assert not paint_boxes(no_bounds, (4, 4), 7).any()
    assert not paint_boxes(gone[:, :, :, :0], (4, 4), 7).any()
    unnamed = boxes(((0.0, 0.0, 1.0, 1.0), float("nan"), float("nan")))
    painted = paint_boxes(unnamed, (4, 4), 7)
    assert painted[..., 0].eq(1).all()
    assert not painted[..., 6:].any()
    assert painted.isfinite().all()


def test_a_cell_sees_its_own_parts_in_order() -> None:
    encoder = AgentMapEncoder(dim=4).double()
    agents = boxes(((0.1, 0.2, 0.6, 0.9), 12.0, 3))
    cells = encoder(agents, grid=(2, 3))
    painted = paint_boxes(agents, (2 * PARTS, 3 * PARTS), 7)[0, 0, 0]
    patch = painted[PARTS : 2 * PARTS, PARTS : 2 * PARTS].reshape(-1)
    torch.testing.assert_close(cells[0, 0, 0, 1, 1], encoder.out(patch))


def test_wrong_number_of_features_is_refused() -> None:
    with pytest.raises(ValueError, match=r"agents: expected \(b, t, n, m, k=13\)"):
        AgentMapEncoder(dim=4)(torch.zeros(1, 1, 1, 2, 12), grid=(2, 2))
