"""A rig seen from above: where its cameras are, and what they see."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from gaia2.scene import CameraRig

REACH = 6.0  # metres of the drawn views
_METRE = 36.0  # pixels
_MARGIN = 0.3  # metres
_CAR = np.array(
    [[-1.0, -0.95], [3.7, 0.95]]
)  # its rear right and front left corner, metres; the ego origin is its rear axle
_COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


def rig_plan(rig: CameraRig) -> str:
    """Draw a rig from above, as SVG: the car, and for each camera a wedge as wide as its picture.

    The front is up. Lens distortion is left out: the wedges are those of the intrinsics.

    Args:
        rig: The cameras.

    Returns:
        The picture; a notebook shows it with `IPython.display.SVG`.

    Example:
        >>> from gaia2.scene import named_rig
        >>> rig_plan(named_rig("front")).count("<path")
        1
    """
    heading, spread, places = views(rig)
    angles = heading[:, None] + spread[:, None] * np.linspace(-0.5, 0.5, 33)
    rims = places[:, None] + REACH * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    outer = np.concatenate([rims.reshape(-1, 2), places, _CAR])
    front, left = outer.max(axis=0) + _MARGIN
    height, width = (np.ptp(outer, axis=0) + 2 * _MARGIN) * _METRE

    def pixel(x: float, y: float) -> str:
        return f"{(left - y) * _METRE:.1f} {(front - x) * _METRE:.1f}"

    corner = pixel(*_CAR[1]).split()
    sides = (_CAR[1] - _CAR[0]) * _METRE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{corner[0]}" y="{corner[1]}" width="{sides[1]:.1f}" height="{sides[0]:.1f}" rx="14" fill="#e5e7eb" '
        'stroke="#6b7280"/>',
    ]
    for index, name in enumerate(rig.names):
        (x, y), colour = places[index], _COLOURS[index % len(_COLOURS)]
        ends = [heading[index] + sign * spread[index] / 2 for sign in (1, -1)]
        first, last = (pixel(x + REACH * math.cos(a), y + REACH * math.sin(a)) for a in ends)
        arc = f"{REACH * _METRE:.1f} {REACH * _METRE:.1f} 0 {int(spread[index] > math.pi)} 1"
        parts.append(
            f'<path d="M{pixel(x, y)}L{first}A{arc} {last}Z" fill="{colour}" fill-opacity="0.16" stroke="{colour}"/>'
        )
        words = pixel(x + 0.72 * REACH * math.cos(heading[index]), y + 0.72 * REACH * math.sin(heading[index]))
        across, down = words.split()
        degrees = f"{math.degrees(spread[index]):.0f}°"
        parts.append(
            f'<text x="{across}" y="{down}" text-anchor="middle" fill="{colour}">{escape(name)} {degrees}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def views(rig: CameraRig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each camera looks in the ground plane, how wide, and from where.

    Returns:
        Heading `(n,)` in radians, 0 ahead and positive to the left; width of the picture `(n,)` in radians; places
        `(n, 2)` in metres, x forward and y left.

    Example:
        >>> from gaia2.scene import named_rig
        >>> heading, width, places = views(named_rig("front"))
        >>> abs(float(heading[0])) < 1e-6, 0.5 < float(width[0]) < 2.5
        (True, True)
    """
    ahead = rig.extrinsics[:, :2, 2]
    focal, centre, width = rig.intrinsics[:, 0, 0], rig.intrinsics[:, 0, 2], rig.image_size[:, 1]
    spread = np.arctan(centre / focal) + np.arctan((width - centre) / focal)
    return np.arctan2(ahead[:, 1], ahead[:, 0]), spread, rig.extrinsics[:, :2, 3]
