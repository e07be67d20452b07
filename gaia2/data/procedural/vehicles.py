"""Road users as two shaded boxes each: body and cabin, cargo and cab, frame and rider, torso and head."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.data.procedural.boxes import KIND, box_rows
from gaia2.data.procedural.hashing import uniform
from gaia2.scene import AGENT_CATEGORIES

__all__ = ["SIZES", "agent_boxes"]

SIZES = {
    "car": (4.4, 1.85, 1.52),
    "truck": (8.2, 2.45, 3.2),
    "bus": (11.0, 2.55, 3.1),
    "motorcycle": (2.1, 0.8, 1.65),
    "bicycle": (1.8, 0.65, 1.75),
    "pedestrian": (0.5, 0.62, 1.75),
    "other": (1.5, 1.2, 1.3),
}
"""Usual length, width and height of each category in metres."""

# per category and part: x from, x to, width, z from, z to, as fractions of the box
_PARTS = (
    ((-0.50, 0.50, 1.00, 0.00, 0.60), (-0.38, 0.22, 0.88, 0.60, 1.00)),
    ((-0.50, 0.20, 1.00, 0.00, 1.00), (0.22, 0.50, 0.94, 0.00, 0.78)),
    ((-0.50, 0.50, 1.00, 0.00, 0.96), (-0.30, 0.30, 0.70, 0.96, 1.00)),
    ((-0.50, 0.50, 0.45, 0.00, 0.58), (-0.25, 0.15, 0.95, 0.38, 1.00)),
    ((-0.50, 0.50, 0.25, 0.00, 0.55), (-0.22, 0.15, 0.90, 0.35, 1.00)),
    ((-0.45, 0.45, 0.90, 0.00, 0.85), (-0.25, 0.25, 0.38, 0.85, 1.00)),
    ((-0.50, 0.50, 1.00, 0.00, 1.00), (-0.10, 0.10, 0.10, 0.90, 1.00)),
)
# per category and part: pitch, low, high, duty, wheel radius, lamps, skirt
_LOOKS = (
    ((9.0, 0.0, 0.0, 0.0, 0.34, 1.0, 0.26), (1.6, 0.10, 0.84, 0.90, 0.0, 0.0, 0.0)),
    ((9.0, 0.0, 0.0, 0.0, 0.48, 1.0, 0.20), (3.0, 0.50, 0.86, 0.85, 0.48, 1.0, 0.24)),
    ((2.0, 0.44, 0.86, 0.86, 0.48, 1.0, 0.16), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ((9.0, 0.0, 0.0, 0.0, 0.32, 1.0, 0.45), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.30)),
    ((9.0, 0.0, 0.0, 0.0, 0.34, 0.0, 0.55), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.40)),
    ((9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.50), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
    ((9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.20), (9.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)),
)
_PAINT = (
    *((0.88, 0.88, 0.88), (0.70, 0.72, 0.74), (0.45, 0.47, 0.50), (0.14, 0.15, 0.17), (0.72, 0.10, 0.10)),
    *((0.16, 0.28, 0.58), (0.30, 0.50, 0.74), (0.12, 0.34, 0.24), (0.86, 0.66, 0.12), (0.72, 0.64, 0.50)),
    *((0.84, 0.38, 0.10), (0.42, 0.12, 0.16)),
)
_BRIGHT = ((0.95, 0.85, 0.10), (0.95, 0.35, 0.10), (0.90, 0.15, 0.45), (0.20, 0.75, 0.90))
"""Clothes of walkers and riders."""
_BUS = ((0.85, 0.10, 0.10), (0.95, 0.75, 0.10), (0.15, 0.55, 0.30))
_SKIN = ((0.86, 0.68, 0.56), (0.62, 0.44, 0.33), (0.40, 0.27, 0.20))


def agent_boxes(boxes: Tensor, category: Tensor, track_id: Tensor, seeds: Tensor) -> Tensor:
    """Turns agents into rows of the box table, in the frame of the agents.

    Args:
        boxes: `(b, tv, m, 7)` x y z length width height (m) and yaw (rad); a NaN size takes the category's usual one,
            a NaN yaw is 0, a NaN place hides the agent.
        category: `(b, tv, m)` int64 index into `AGENT_CATEGORIES`, -1 hides the row.
        track_id: `(b, tv, m)` int64; decides the colour together with the seed, -1 takes the row number.
        seeds: `(b,)` int64.

    Returns:
        `(b, tv, 2 m, len(BOX))`.
    """
    b, tv, m, _ = boxes.shape
    device = boxes.device
    kind = category.clamp(min=0)
    usual = torch.tensor([SIZES[name] for name in AGENT_CATEGORIES], dtype=boxes.dtype, device=device)[kind]
    size = torch.where(boxes[..., 3:6].isnan(), usual, boxes[..., 3:6])
    yaw = boxes[..., 6].nan_to_num(0.0)
    alpha = (category >= 0) & ~boxes[..., :3].isnan().any(-1)
    centre = boxes[..., :3].nan_to_num(0.0)

    row = torch.arange(m, device=device).expand(b, tv, m)
    who = torch.where(track_id >= 0, track_id, row) + 7919 * seeds[:, None, None]
    u = uniform(who.reshape(-1), "agent", 4).reshape(b, tv, m, 4)
    paint = torch.tensor(_PAINT, device=device)[(u[..., 0] * len(_PAINT)).long()]
    skin = torch.tensor(_SKIN, device=device)[(u[..., 1] * len(_SKIN)).long()]

    part = torch.tensor(_PARTS, dtype=boxes.dtype, device=device)[kind]  # b tv m part 5
    look = torch.tensor(_LOOKS, device=device)[kind]
    cos, sin = yaw.cos()[..., None], yaw.sin()[..., None]
    along = (part[..., 0] + part[..., 1]) / 2 * size[..., 0, None]
    hz = (part[..., 4] - part[..., 3]) / 2 * size[..., 2, None]
    low = centre[..., 2, None] - size[..., 2, None] / 2
    second = torch.tensor([False, True], device=device)
    rider = (kind == AGENT_CATEGORIES.index("bicycle")) | (kind == AGENT_CATEGORIES.index("motorcycle"))
    walker = kind == AGENT_CATEGORIES.index("pedestrian")
    truck = kind == AGENT_CATEGORIES.index("truck")
    colour = paint[..., None, :].expand(b, tv, m, 2, 3)
    bright = torch.tensor(_BRIGHT, device=device)[(u[..., 3] * len(_BRIGHT)).long()]
    colour = torch.where((rider | walker)[..., None, None], bright[..., None, :], colour)
    coach = torch.tensor(_BUS, device=device)[(u[..., 3] * len(_BUS)).long()]
    colour = torch.where((kind == AGENT_CATEGORIES.index("bus"))[..., None, None], coach[..., None, :], colour)
    orange = torch.tensor([0.95, 0.45, 0.05], device=device)
    colour = torch.where((kind == AGENT_CATEGORIES.index("other"))[..., None, None], orange, colour)
    dark = torch.full_like(colour, 0.16)
    colour = torch.where((rider[..., None] & ~second)[..., None], dark, colour)
    colour = torch.where((walker[..., None] & second)[..., None], skin[..., None, :], colour)
    pale = torch.lerp(colour, torch.full_like(colour, 0.85), 0.75)
    colour = torch.where((truck[..., None] & ~second)[..., None], pale, colour)
    rows = box_rows(
        (b, tv, m, 2),
        boxes,
        x=centre[..., 0, None] + along * cos,
        y=centre[..., 1, None] + along * sin,
        z=low + (part[..., 3] + part[..., 4]) / 2 * size[..., 2, None],
        cos=cos,
        sin=sin,
        hx=(part[..., 1] - part[..., 0]) / 2 * size[..., 0, None],
        hy=part[..., 2] / 2 * size[..., 1, None],
        hz=hz,
        colour=colour,
        alpha=alpha[..., None],
        pitch=look[..., 0],
        low=look[..., 1],
        high=look[..., 2],
        duty=look[..., 3],
        wheel=look[..., 4],
        lamps=look[..., 5],
        skirt=look[..., 6],
        seed=u[..., 2, None],
        lit=0.0,
        kind=KIND["agent:" + AGENT_CATEGORIES[0]] + kind[..., None].float(),
    )
    return rows.flatten(2, 3)
