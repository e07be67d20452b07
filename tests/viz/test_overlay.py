"""Box overlays, against rectangles filled pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gaia2.scene import AGENT_CATEGORIES
from gaia2.viz.overlay import CATEGORY_COLOURS, draw_boxes


def test_exact_pixels() -> None:
    frames = np.full((1, 20, 40, 3), 7, dtype=np.uint8)
    drawn = draw_boxes(frames, np.array([[[0.25, 0.2, 0.75, 0.6]]]), np.array([[5]]))
    expected = frames.copy()
    for y in range(20):
        for x in range(40):
            within = 10 <= x <= 29 and 4 <= y <= 11
            if within and (x in (10, 29) or y in (4, 11)):
                expected[0, y, x] = CATEGORY_COLOURS[5]
    np.testing.assert_array_equal(drawn, expected)
    assert (frames == 7).all()


def test_one_colour_for_each_category() -> None:
    assert len(CATEGORY_COLOURS) == len(AGENT_CATEGORIES) == len(np.unique(CATEGORY_COLOURS, axis=0))


def test_boxes_stay_with_their_image() -> None:
    frames = np.zeros((3, 2, 16, 16, 3), dtype=np.uint8)
    boxes = np.full((3, 2, 4, 4), np.nan)
    category = np.full((3, 2, 4), -1)
    boxes[1, 0, 2], category[1, 0, 2] = (0.0, 0.0, 1.0, 1.0), 0
    drawn = draw_boxes(frames, boxes, category)
    assert sorted(map(tuple, np.argwhere(drawn.any((2, 3, 4))))) == [(1, 0)]


def test_absent_and_outside_boxes_are_left_out() -> None:
    frames = np.zeros((16, 16, 3), dtype=np.uint8)
    boxes = np.array([[0.1, 0.1, 0.9, 0.9], [np.nan, 0.1, 0.9, 0.9], [1.2, 0.1, 1.5, 0.9], [-0.5, 0.1, -0.2, 0.9]])
    drawn = draw_boxes(frames, boxes, np.array([-1, 0, 0, 0]))
    assert not drawn.any()


@given(
    box=st.tuples(*[st.floats(-0.5, 1.5)] * 4),
    thickness=st.integers(1, 4),
    kind=st.integers(0, len(AGENT_CATEGORIES) - 1),
)
def test_outline_is_the_box_without_its_inside(box: tuple[float, ...], thickness: int, kind: int) -> None:
    height, width = 12, 20
    x1, x2 = sorted((box[0], box[2]))
    y1, y2 = sorted((box[1], box[3]))
    drawn = draw_boxes(
        np.zeros((height, width, 3), dtype=np.uint8),
        np.array([[x1, y1, x2, y2]]),
        np.array([kind]),
        thickness=thickness,
    )
    left, top = round(x1 * width), round(y1 * height)
    right, bottom = max(round(x2 * width), left + 1), max(round(y2 * height), top + 1)
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    y, x = np.mgrid[:height, :width]
    outer = (x >= left) & (x < right) & (y >= top) & (y < bottom)
    inner = (x >= left + thickness) & (x < right - thickness) & (y >= top + thickness) & (y < bottom - thickness)
    expected = np.where((outer & ~inner)[..., None], CATEGORY_COLOURS[kind], 0)
    np.testing.assert_array_equal(drawn, expected)


def test_bad_input() -> None:
    frames = np.zeros((2, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"frames: expected \(\.\.\., hv, wv, 3\) uint8, got .* float64"):
        draw_boxes(frames.astype(float), np.zeros((2, 1, 4)), np.zeros((2, 1), dtype=int))
    with pytest.raises(
        ValueError, match=r"expected \(2, 'm', 4\) and \(2, 'm'\) for frames of shape .*one set of boxes per"
    ):
        draw_boxes(frames, np.zeros((3, 1, 4)), np.zeros((3, 1), dtype=int))
    with pytest.raises(ValueError, match=r"category: expected -1 \(absent\) to 6, got 0 to 7"):
        draw_boxes(frames, np.zeros((2, 1, 4)), np.array([[0], [7]]))
