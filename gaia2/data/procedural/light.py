"""Light of sun, sky, head lamps and street lamps, and the sky itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.colour import Rgb, mix, plus, tint
from gaia2.data.procedural.filters import edge, wrap
from gaia2.data.procedural.layout import LAMP_SPACING

__all__ = ["BEAM", "WARM", "View", "sky", "head_lamps", "street_lamps"]

BEAM: Rgb = (1.0, 0.96, 0.86)
"""Colour of head lamps."""
WARM: Rgb = (1.0, 0.80, 0.50)
"""Colour of street lamps."""


class View(NamedTuple):
    """What one batch of images is seen with; `i` images, `p` rays each, in the frame of the road below the ego.

    That frame has the road's reference line as x axis at the ego's feet; z is up.
    """

    direction: tuple[Tensor, Tensor, Tensor]  # unit vectors, each (i, p)
    origin: tuple[Tensor, Tensor, Tensor]  # camera, each (i, 1)
    pixel: Tensor  # (i, 1) angle that a pixel sees, rad
    number: dict[str, Tensor]  # (i, 1) each, names of SCALARS and IMAGE_SCALARS
    colour: dict[str, Rgb]  # (i, 1) in each channel, names of COLOURS


def sky(view: View) -> tuple[Rgb, Rgb]:
    """Colour of the sky with clouds and hills, and of the haze at the horizon."""
    n, c = view.number, view.colour
    dx, dy, dz = view.direction
    up = dz.clamp(min=0.0)
    low = 1 - up
    low = low * low
    level = dx * n["sun_x"] + dy * n["sun_y"]
    towards = level.clamp(min=0.0)
    glow = towards * towards * (0.09 + 0.17 * n["sun_size"])
    haze = plus(c["horizon"], tint(c["glow"], glow))
    colour = mix(c["zenith"], haze, low * low)

    x = n["cos_0"] * dx - n["sin_0"] * dy  # directions in a frame that does not turn with the road
    y = n["sin_0"] * dx + n["cos_0"] * dy
    far = 1.0 / (up + 0.14)
    u, v = x * far, y * far
    phase = n["phase"]
    swirl = (0.9 * v + phase).sin()
    cover = (1.1 * u + 1.5 * swirl + phase).sin() + 0.7 * (2.3 * v + 1.2 * u - 1.3 * swirl).sin()
    cover = (cover * 0.55 + 0.1).clamp(0.0, 1.0) * (up * 5.0).clamp(0.0, 1.0)
    white = plus(plus(tint(c["ambient"], 0.55), tint(c["sun"], 0.7)), tint(c["glow"], 0.12))
    colour = mix(colour, white, cover * (n["cloud"] * 0.7))
    colour = tint(colour, 1 - cover * (0.10 * n["overcast"] * (1 - n["snow"])))
    disc = ((level + dz * n["sun_z"] - 0.990) * 160.0).clamp(0.0, 1.0) * (0.7 - 0.7 * n["night"])
    colour = plus(colour, tint(c["glow"], disc))

    azimuth = torch.atan2(y, x)
    ridge = (3 * azimuth + phase).sin() * 0.018 + (7 * azimuth + 2 * phase).sin() * 0.010
    ridge = ridge + (17 * azimuth + 3 * phase).sin() * 0.005 + 0.030
    hidden = torch.exp(-260.0 / n["visibility"]) * 0.75
    hills = tint(
        (c["hills"][0] * c["ambient"][0], c["hills"][1] * c["ambient"][1], c["hills"][2] * c["ambient"][2]), 0.8
    )
    return mix(colour, hills, edge(ridge - dz, view.pixel) * hidden), haze


def head_lamps(view: View, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Strength `(i, p)` of the ego's head lamps at points (m), 0 by day."""
    n = view.number
    ry = y - n["ego_y"]
    ahead = n["ego_cos"] * x + n["ego_sin"] * ry
    aside = n["ego_cos"] * ry - n["ego_sin"] * x
    reach = ahead.clamp(min=0.0)
    ratio = aside / (1.5 + 0.20 * reach)
    head = torch.exp(-(ratio * ratio) - reach * (1 / 24.0) - 0.12 * (z * z))
    return head * (ahead * 0.25 - 0.3).clamp(0.0, 1.0) * n["night"]


def street_lamps(view: View, s: Tensor, e: Tensor) -> Tensor:
    """Strength `(i, p)` of the street lamps on the ground at (s, e) of the road (m), 0 by day."""
    n = view.number
    near = wrap(s - n["shift"], LAMP_SPACING)
    far = LAMP_SPACING / 2 - near.abs()
    near_e = e - (n["forward"] * n["lane"] + n["bus"] + n["cycle"] + n["parking"] - 1.0)
    far_e = e + (n["backward"] * n["lane"] + n["parking"] - 1.0)
    pool = torch.exp(-0.018 * (near * near) - 0.030 * (near_e * near_e))
    return (pool + torch.exp(-0.018 * (far * far) - 0.030 * (far_e * far_e))) * n["night"]
