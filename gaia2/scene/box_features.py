"""The 13 features of a box as a camera sees it (paper §2.2.3, Dynamic Agents): their names and places."""

from __future__ import annotations

__all__ = ["BOX_FEATURES", "CATEGORY", "CENTRE", "DEPTH", "IMAGE_BOX", "NUM_BOX_FEATURES", "SIZE", "YAW"]

BOX_FEATURES = (
    *("x1", "y1", "x2", "y2"),
    *("x", "y", "z"),
    *("length", "width", "height"),
    *("sin_yaw", "cos_yaw"),
    "category",
)
"""The last axis of box features: 2D box (0 to 1 of the image), centre in the camera frame (metres), size (metres), sine
and cosine of the yaw, category id. NaN: that feature is absent; category -1: there is no box."""

NUM_BOX_FEATURES = len(BOX_FEATURES)


def _slice(first: str, last: str) -> slice:
    return slice(BOX_FEATURES.index(first), BOX_FEATURES.index(last) + 1)


IMAGE_BOX = _slice("x1", "y2")
CENTRE = _slice("x", "z")
SIZE = _slice("length", "height")
YAW = _slice("sin_yaw", "cos_yaw")
DEPTH = BOX_FEATURES.index("z")
CATEGORY = BOX_FEATURES.index("category")
