"""Projected agent boxes drawn on camera images."""

from __future__ import annotations

import numpy as np

from gaia2.scene import AGENT_CATEGORIES

#: RGB of each agent category, in the order of ``AGENT_CATEGORIES``
CATEGORY_COLOURS = np.array(
    [
        (64, 200, 255),  # car
        (255, 160, 40),  # truck
        (255, 220, 60),  # bus
        (200, 110, 255),  # motorcycle
        (120, 255, 140),  # bicycle
        (255, 80, 110),  # pedestrian
        (210, 210, 210),  # other
    ],
    dtype=np.uint8,
)


def draw_boxes(frames: np.ndarray, boxes: np.ndarray, category: np.ndarray, *, thickness: int = 1) -> np.ndarray:
    """Draw the outline of 2D boxes, coloured by category.

    A box covers the pixels from `round(x1 * wv)` up to, not including, `round(x2 * wv)`, and at least one; its
    outline lies inside. Absent boxes (category -1 or a NaN side) and boxes outside the image are left out.

    Args:
        frames: `(..., hv, wv, 3)` uint8 RGB, for example `(tv, n, hv, wv, 3)`; not changed.
        boxes: `(..., m, 4)` x1 y1 x2 y2, as fractions of the image's width and height.
        category: `(..., m)` index into `AGENT_CATEGORIES`, or -1.
        thickness: Of the outline, in pixels.

    Returns:
        A copy of `frames` with the outlines.

    Raises:
        ValueError: If the shapes do not fit each other, or a category is out of range.

    Example:
        >>> frames = np.zeros((1, 10, 20, 3), dtype=np.uint8)
        >>> drawn = draw_boxes(frames, np.array([[[0.1, 0.2, 0.5, 0.8]]]), np.array([[0]]))
        >>> int((drawn[0] != 0).any(-1).sum())  # the outline of a box of 8 x 6 pixels
        24
    """
    if frames.ndim < 3 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames: expected (..., hv, wv, 3) uint8, got {frames.shape} {frames.dtype}")
    if boxes.shape[:-2] != frames.shape[:-3] or boxes.shape[-1:] != (4,) or category.shape != boxes.shape[:-1]:
        raise ValueError(
            f"boxes, category: expected {(*frames.shape[:-3], 'm', 4)} and {(*frames.shape[:-3], 'm')} for frames of "
            f"shape {frames.shape}, got {boxes.shape} and {category.shape}; give one set of boxes per image"
        )
    if category.size and not -1 <= category.min() <= category.max() < len(AGENT_CATEGORIES):
        raise ValueError(
            f"category: expected -1 (absent) to {len(AGENT_CATEGORIES) - 1}, got {category.min()} to {category.max()}"
        )
    drawn = frames.copy()
    height, width = frames.shape[-3:-1]
    images = drawn.reshape(-1, height, width, 3)
    edges = np.rint(boxes.reshape(len(images), -1, 4) * (width, height, width, height))
    edges[..., 2:] = np.maximum(edges[..., 2:], edges[..., :2] + 1)
    kinds = category.reshape(len(images), -1)
    inside = (edges[..., :2] < (width, height)).all(-1) & (edges[..., 2:] > 0).all(-1)  # False where NaN
    shown = np.argwhere(inside & (kinds >= 0))
    limits = edges.clip(0, (width, height, width, height))
    for image, box in shown:
        x1, y1, x2, y2 = limits[image, box].astype(int)
        patch = images[image, y1:y2, x1:x2]
        colour = CATEGORY_COLOURS[kinds[image, box]]
        patch[:thickness] = patch[-thickness:] = colour
        patch[:, :thickness] = patch[:, -thickness:] = colour
    return drawn
