"""Colour of boxes (facades, windows, wheels, lamps) and of tree crowns where rays hit them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.boxes import BOX, CROWN
from gaia2.data.procedural.colour import Rgb, grey, mix, plus, times, tint
from gaia2.data.procedural.filters import edge, pulse
from gaia2.data.procedural.light import BEAM, View
from gaia2.data.procedural.solids import MISS

__all__ = ["shade_box", "shade_crown"]

_GLASS_AT_NIGHT: Rgb = (1.0, 0.84, 0.50)
_TAIL: Rgb = (0.95, 0.08, 0.06)
_HEAD: Rgb = (1.0, 0.97, 0.86)
_SIGNAL: tuple[tuple[float, Rgb], ...] = (
    (0.64, (1.0, 0.10, 0.06)),
    (0.0, (1.0, 0.66, 0.05)),
    (-0.64, (0.10, 1.0, 0.35)),
)


class Face(NamedTuple):
    """The point of a box that a ray hits, each `(i, p)`; `r*` in [-1, 1] of the half sizes, flags 0 or 1."""

    qx: Tensor  # m from the middle
    qz: Tensor
    rx: Tensor
    ry: Tensor
    rz: Tensor
    top: Tensor
    end: Tensor  # front or back
    side: Tensor
    upright: Tensor  # end or side
    across: Tensor  # footprint of a pixel, m
    height: Tensor  # 0 at the bottom, 1 at the top


def _face(view: View, f: dict[str, Tensor], point: tuple[Tensor, Tensor, Tensor], distance: Tensor) -> Face:
    wx, wy, qz = point[0] - f["x"], point[1] - f["y"], point[2] - f["z"]
    qx, qy = f["cos"] * wx + f["sin"] * wy, f["cos"] * wy - f["sin"] * wx
    rx, ry, rz = qx / f["hx"], qy / f["hy"], qz / f["hz"]
    ax, ay, az = rx.abs(), ry.abs(), rz.abs()
    is_top = az >= torch.maximum(ax, ay)
    top = is_top.float()
    end = (~is_top & (ax >= ay)).float()
    return Face(qx, qz, rx, ry, rz, top, end, 1 - top - end, 1 - top, distance * view.pixel, rz * 0.5 + 0.5)


def _glass(view: View, f: dict[str, Tensor], p: Face) -> tuple[Tensor, Tensor, Tensor]:
    """Share of window, share of those that are lit at night, and of the pixel's height in the box, each `(i, p)`."""
    dx, dy, _ = view.direction
    slant = p.end * (f["cos"] * dx + f["sin"] * dy).abs() + p.side * (f["cos"] * dy - f["sin"] * dx).abs()
    width = 2 * (p.end * f["hy"] + (1 - p.end) * f["hx"])
    count = (width / f["pitch"].clamp(min=0.1)).round().clamp(min=1.0)
    u = (p.end * p.ry + (1 - p.end) * p.rx) * (0.5 * count) + 0.5 * count
    fu = p.across / slant.clamp(min=0.08) * count / width
    rows = f["rows"].clamp(min=1.0)
    per_row = rows / (f["high"] - f["low"]).clamp(min=1e-3)
    tall_pixel = p.across / (2 * f["hz"])
    v, fv = (p.height - f["low"]) * per_row, tall_pixel * per_row
    tall = torch.where(rows > 1.5, 0.58, 0.999)
    glass = pulse(u - 0.5 * (1 - f["duty"]), f["duty"], fu) * pulse(v - 0.5 * (1 - tall), tall, fv)
    glass = glass * edge(v, fv) * edge(rows - v, fv) * f["duty"].sign() * p.upright
    mixed = u.floor() * 0.7548777 + v.floor() * 0.5698403 + f["seed"] * 17.31 + p.end * 0.37
    mixed = mixed - mixed.floor()
    mixed = mixed * (mixed * 61.7 + 13.1)
    on = ((f["lit"] - mixed + mixed.floor()) * 50.0 + 0.5).clamp(0.0, 1.0)
    return glass, on + (fu - 0.4).clamp(0.0, 1.0) * (f["lit"] - on), tall_pixel


def _signal_lamps(f: dict[str, Tensor], p: Face, colour: Rgb) -> Rgb:
    """The lamps of a traffic light, on the end that faces the ego's direction of travel."""
    state = f["signal"]
    on = (
        ((state > 0.5) & (state < 2.5)).float(),
        ((state > 1.5) & (state < 3.5)).float(),
        ((state > 3.5) & (state < 4.5)).float(),
    )
    sharp = (p.across / f["hz"]).clamp(min=0.02)
    here = p.end * (p.rx < 0) * ((state > 0.5) & (state < 4.5))
    wide = p.ry * p.ry * 0.16
    for (level, hue), lit in zip(_SIGNAL, on, strict=True):
        off = p.rz - level
        disc = edge(0.30 + 0.22 * lit - (wide + off * off).sqrt(), sharp) * here
        colour = mix(colour, tint(hue, 0.13 + 0.87 * lit), disc)
    return colour


def shade_box(
    view: View, boxes: Tensor, index: Tensor, distance: Tensor, haze: Rgb, head: Tensor
) -> tuple[Rgb, Tensor]:
    """Colour and opacity `(i, p)` of the boxes that are hit.

    Args:
        view: The images.
        boxes: `(i, len(BOX), k)`.
        index, distance: From `nearest_box`.
        haze: Colour of the sky near the horizon, which windows reflect.
        head: `(i, p)` strength of the ego's head lamps there.
    """
    n, c = view.number, view.colour
    won = boxes.gather(2, index[:, None].expand(-1, boxes.shape[1], -1))
    f = dict(zip(BOX, won.unbind(1), strict=True))
    point = tuple(o + distance * d for o, d in zip(view.origin, view.direction, strict=True))
    p = _face(view, f, point, distance)  # type: ignore[arg-type]

    sun_x = (f["cos"] * n["sun_x"] + f["sin"] * n["sun_y"]) * p.rx.sign()
    sun_y = (f["cos"] * n["sun_y"] - f["sin"] * n["sun_x"]) * p.ry.sign()
    facing = (p.top * n["sun_z"] * p.rz.sign() + p.end * sun_x + p.side * sun_y).clamp(min=0.0)
    open_sky = p.top * (0.79 + 0.29 * p.rz.sign()) + 0.90 * p.end + 0.80 * p.side
    open_sky = open_sky * (0.80 + (point[2] * 0.10).clamp(0.0, 0.20))
    light = plus(tint(c["ambient"], open_sky), tint(c["sun"], 1.1 * facing))
    light = plus(light, tint(BEAM, 0.8 * head * p.upright))

    glass, lit, tall_pixel = _glass(view, f, p)
    colour: Rgb = (f["r"], f["g"], f["b"])
    colour = mix(colour, grey(0.92), p.top * (f["hz"] > 0.3) * (0.85 * n["snow"]))
    skirt = edge(f["skirt"] - p.height, tall_pixel.clamp(min=0.01)) * p.upright
    band = edge(p.height - f["high"], tall_pixel) * (f["rows"] > 1.5) * p.upright
    rim_x, rim_z = p.qx.abs() - 0.62 * f["hx"], p.qz + f["hz"] - f["wheel"]
    wheel = edge(f["wheel"] - (rim_x * rim_x + rim_z * rim_z).sqrt(), p.across) * p.side * f["wheel"].sign()
    colour = tint(colour, (1 - 0.62 * skirt) * (1 + 0.13 * band) * (1 - 0.85 * wheel))
    colour = times(colour, light)
    pane = 0.42 - 0.23 * n["night"]
    colour = mix(colour, (haze[0] * pane + 0.04, haze[1] * pane + 0.04, haze[2] * pane + 0.05), glass * 0.86)
    colour = mix(colour, _GLASS_AT_NIGHT, glass * lit * (0.92 * n["night"] + 0.40 * n["sun_size"]))

    # lamps of vehicles: white in front, red behind
    rim = torch.maximum(f["wheel"] * 0.3, p.across)
    spot = edge(p.ry.abs() - 0.52, rim / f["hy"]) * edge(0.13 - (p.height - 0.62).abs(), rim / f["hz"] * 0.5)
    glowing = 0.45 + 0.55 * torch.maximum(n["night"], torch.maximum(n["overcast"], n["sun_size"]))
    front = (p.rx > 0).float()
    colour = mix(colour, mix(_TAIL, _HEAD, front), spot * p.end * f["lamps"] * glowing)
    colour = _signal_lamps(f, p, colour)
    colour = mix(colour, _GLASS_AT_NIGHT, (f["signal"] > 4.5) * n["night"])
    return colour, f["alpha"] * (distance < MISS * 0.5)


def shade_crown(view: View, crowns: Tensor, index: Tensor, distance: Tensor, head: Tensor) -> tuple[Rgb, Tensor]:
    """Colour and opacity `(i, p)` of the tree crowns that are hit; arguments as for `shade_box`."""
    n, c = view.number, view.colour
    won = crowns.gather(2, index[:, None].expand(-1, crowns.shape[1], -1))
    f = dict(zip(CROWN, won.unbind(1), strict=True))
    x, y, z = (o + distance * d for o, d in zip(view.origin, view.direction, strict=True))
    nx, ny, nz = (x - f["x"]) / f["radius"], (y - f["y"]) / f["radius"], (z - f["z"]) / f["height"]
    facing = ((nx * n["sun_x"] + ny * n["sun_y"] + nz * n["sun_z"]) * 0.6 + 0.4).clamp(min=0.0)
    blur = distance * (view.pixel * 2.5)
    seen = torch.exp(-(blur * blur))
    phase = f["seed"] * 40
    leaf = (nx * 4.1 + 2 * (nz * 3.3 + phase).sin() + phase).sin() + (ny * 4.7 + 2 * (nz * 2.9 - phase).sin()).sin()
    light = plus(tint(c["ambient"], 0.80 + 0.28 * nz), tint(c["sun"], 1.1 * facing))
    light = plus(light, tint(BEAM, 0.4 * head))
    colour: Rgb = (f["r"], f["g"], f["b"])
    colour = mix(colour, grey(0.92), (nz * 1.2).clamp(0.0, 1.0) * (n["snow"] * 0.6))
    return tint(times(colour, light), 1 + 0.11 * leaf * seen), f["alpha"]
