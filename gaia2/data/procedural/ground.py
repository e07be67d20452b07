"""The ground: grass, pavement, kerbs, asphalt, markings, junctions and soft shadows."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from gaia2.data.procedural.colour import Rgb, grey, mix, plus, times, tint
from gaia2.data.procedural.filters import blobs, edge, pulse, stripe, wrap
from gaia2.data.procedural.light import BEAM, WARM, View, street_lamps
from gaia2.data.procedural.motion import to_road
from gaia2.data.procedural.road import CROSSING_LENGTH, JUNCTION_HALF_WIDTH, MERGE_WIDTH, PAVEMENT, PERIOD, ROUNDABOUT

__all__ = ["FAR", "cover", "ground", "ground_distance", "markings", "spot"]

FAR = 600.0
"""Distance in metres at which the ground ends."""

_TURN = 2 * math.pi / PERIOD
_WAVES = (
    (30 * _TURN, 0.55, 0.24),
    (68 * _TURN, 1.7, 0.45),
    (104 * _TURN, -2.6, 0.42),
    (151 * _TURN, 3.3, 0.34),
)
_MAX_TURN = 2.2  # rad; the road is not drawn further around its circle than this
_YELLOW: Rgb = (0.90, 0.70, 0.16)


class Spot(NamedTuple):
    """Where rays meet the ground, each `(i, p)`: place along and beside the road, and a pixel's footprint there (m)."""

    s: Tensor
    d: Tensor
    e: Tensor  # d, positive on the ego's side of the middle
    fs: Tensor
    fd: Tensor
    exists: Tensor  # 1 where the road is drawn, 0 too far around its circle


class Cover(NamedTuple):
    """Shares of a pixel's footprint, each `(i, p)`."""

    road: Tensor
    surface: Tensor  # road or junction
    junction: Tensor
    paved: Tensor
    kerb: Tensor
    island: Tensor


def ground_distance(view: View) -> Tensor:
    """Distance `(i, p)` along each ray to the ground, at most `FAR`; rays that miss it get `FAR`."""
    return (view.origin[2] / (-view.direction[2]).clamp(min=1e-4)).clamp(max=FAR)


def spot(view: View, distance: Tensor, x: Tensor, y: Tensor) -> Spot:
    """Where rays meet the ground at `distance (i, p)`, in the points x, y of the road's frame (m)."""
    n = view.number
    dx, dy, dz = view.direction
    s_here, d, cos, sin = to_road(x, y, n["curvature"])
    level = torch.rsqrt((dx * dx + dy * dy).clamp(min=1e-6))
    across = distance * view.pixel
    along = across / (-dz).clamp(min=0.004)
    c_s = (cos * dx + sin * dy).abs() * level
    c_d = (cos * dy - sin * dx).abs() * level
    fs = (c_s * along + c_d * across).clamp(min=0.02)
    fd = (c_d * along + c_s * across).clamp(min=0.02)
    bend = n["curvature"].abs()
    return Spot(s_here + n["ego_s"], d, d * n["side"], fs, fd, edge(_MAX_TURN - s_here.abs() * bend, fs * bend + 1e-3))


def cover(view: View, at: Spot) -> Cover:
    """What covers the ground there."""
    n = view.number
    e, fs, fd = at.e, at.fs, at.fd
    s_junction = wrap(at.s - n["junction"], PERIOD)
    is_merge, is_roundabout = n["shape"].eq(4).float(), n["shape"].eq(3).float()
    near = n["forward"] * n["lane"] + n["bus"] + n["cycle"] + n["parking"]
    near = near + (s_junction * (-1 / 30.0)).clamp(0.0, 1.0) * (MERGE_WIDTH * is_merge)
    far = -n["backward"] * n["lane"] - n["parking"]
    from_near, from_far = near - e, e - far
    road = edge(from_near, fd) * edge(from_far, fd) * at.exists
    paved = edge(from_near + PAVEMENT, fd) * edge(from_far + PAVEMENT, fd) * at.exists
    arm = (n["shape"].eq(2).float() + n["shape"].eq(1).float() * edge(e * n["arm"], fd)) * at.exists
    street = stripe(s_junction, 2 * JUNCTION_HALF_WIDTH, fs) * arm
    street_paved = stripe(s_junction, 2 * (JUNCTION_HALF_WIDTH + PAVEMENT), fs) * arm
    radius = (s_junction * s_junction + at.d * at.d).sqrt()
    size = torch.maximum(fs, fd)
    junction = torch.maximum(street, edge(ROUNDABOUT[1] - radius, size) * is_roundabout)
    around = edge(ROUNDABOUT[1] + 2 - radius, size) * is_roundabout
    kerb = (stripe(from_near, 0.30, fd) + stripe(from_far, 0.30, fd)) * (1 - junction) * at.exists
    kerb = torch.maximum(kerb, stripe(radius - ROUNDABOUT[0], 0.5, size) * is_roundabout)
    return Cover(
        road=road,
        surface=torch.maximum(road, junction),
        junction=junction,
        paved=torch.maximum(torch.maximum(paved, street_paved), around),
        kerb=kerb.clamp(max=1.0),
        island=edge(ROUNDABOUT[0] - radius, size) * is_roundabout,
    )


def markings(view: View, at: Spot, covered: Cover) -> tuple[Tensor, Tensor]:
    """Shares of white and of yellow paint, each `(i, p)`."""
    n = view.number
    s, e, fs, fd = at.s, at.e, at.fs, at.fd
    lanes_end, far_end = n["forward"] * n["lane"], -n["backward"] * n["lane"]
    bus_end = lanes_end + n["bus"]
    has_bus, has_cycle = n["bus"].sign(), n["cycle"].sign()
    period = torch.where(n["uk"] > 0, 1 / 6.0, 1 / 12.0)
    dash = pulse(s * period, torch.where(n["yellow"] > 0, 0.36, 0.52), fs * period)
    two_way = n["backward"].ge(1).float()
    lines = stripe(e - lanes_end + 0.22, 0.22, fd) + stripe(e - far_end - 0.22, 0.22, fd)
    lines = lines + stripe(e - bus_end + 0.15, 0.30, fd) * has_bus
    lines = lines + stripe(e - bus_end - n["cycle"] + 0.12, 0.18, fd) * (0.4 + 0.6 * dash) * has_cycle
    index = (e / n["lane"]).round()
    inner = (index < n["forward"] - 0.4) & (index > 0.4 - n["backward"])
    middle = (index.abs() < 0.5).float()
    dashed = (inner & (index.abs() > 0.5)).float() + middle * ((1 - n["yellow"]) * two_way)
    lines = lines + stripe(e - index * n["lane"], 0.26, fd) * dash * dashed
    double = stripe(e.abs() - 0.24, 0.26, fd) * (n["yellow"] * two_way)
    kerbs = stripe(e - lanes_end + 0.75, 0.26, fd) + stripe(e - far_end - 0.75, 0.26, fd)
    double = double + kerbs * n["uk"]  # no parking there

    ahead = wrap(s - n["crossing"], PERIOD)
    zone = stripe(ahead, CROSSING_LENGTH, fs) * n["has_crossing"]
    has_stop = torch.maximum(n["has_crossing"], n["has_light"])
    stop = (
        stripe(ahead + CROSSING_LENGTH / 2 + 1.1, 0.6, fs) * stripe(e - lanes_end * 0.5, lanes_end - 0.5, fd) * has_stop
    )
    plain = (1 - covered.junction) * (1 - zone)
    strength = covered.road * (0.92 - 0.41 * n["snow"])
    white = (lines * plain + zone * pulse(e, 0.5, fd) + stop).clamp(max=1.0) * strength
    return white, (double * plain).clamp(max=1.0) * strength


def _shade(x: Tensor, y: Tensor, shadows: Tensor) -> Tensor:
    """Darkening `(i, p)` under road users and trees."""
    sx, sy, cos, sin, length, width = (v[:, :, None] for v in shadows.unbind(1))
    # normalised offsets u = (R (p - c)) / half size, expanded so that the constant part is computed once per shadow
    a, b = 1 / (length + 0.25), 1 / (width + 0.25)
    u = (cos * a) * x[:, None] + (sin * a) * y[:, None] - (cos * sx + sin * sy) * a
    v = (cos * b) * y[:, None] - (sin * b) * x[:, None] - (cos * sy - sin * sx) * b
    u, v = u * u, v * v
    outside = (u * u * u + v * v * v + (length <= 0) * 1e6).amin(dim=1)
    return 1 - 0.55 / (1 + outside)


def ground(view: View, distance: Tensor, shadows: Tensor, head: Tensor) -> tuple[Rgb, Tensor, Tensor]:
    """Lit colour of the ground where the rays meet it.

    Args:
        view: The images.
        distance: `(i, p)` from `ground_distance`.
        shadows: `(i, 6, a)` soft dark patches: x, y, cos, sin, half length, half width (m); zero size for none.
        head: `(i, p)` strength of the ego's head lamps.

    Returns:
        The colour, how mirror-like the ground is `(i, p)`, and the light of street lamps on it `(i, p)`.
    """
    n, c = view.number, view.colour
    x, y = view.origin[0] + distance * view.direction[0], view.origin[1] + distance * view.direction[1]
    at = spot(view, distance, x, y)
    covered = cover(view, at)
    white, yellow = markings(view, at, covered)
    e, fd = at.e, at.fd

    texture = blobs(at.s, at.d, at.fs, fd, _WAVES)
    wear = (e * (4 * math.pi / n["lane"])).cos() * torch.exp(-0.6 * fd * fd)
    grain = (texture * 0.5 + 0.5).clamp(0.0, 1.0)
    asphalt = tint(c["asphalt"], 1 + 0.07 * texture + 0.05 * wear)
    snow = ((0.25 + 0.30 * grain) * (0.6 - 0.5 * wear)).clamp(0.0, 1.0) * n["snow"]
    asphalt = mix(asphalt, grey(0.90), snow)
    lanes_end = n["forward"] * n["lane"]
    bus_end = lanes_end + n["bus"]
    plain = 1 - covered.junction
    in_bus = edge(e - lanes_end, fd) * edge(bus_end - e, fd) * plain * n["bus"].sign()
    in_cycle = edge(e - bus_end, fd) * edge(bus_end + n["cycle"] - e, fd) * plain * n["cycle"].sign()
    asphalt = times(asphalt, mix(mix(grey(1.0), c["bus_tint"], in_bus), c["cycle_tint"], in_cycle))
    slab = pulse(at.s * 0.5, 0.06, at.fs * 0.5)
    colour = tint(c["grass"], 1 + 0.10 * texture)
    colour = mix(colour, tint(c["pavement"], 1 + 0.07 * texture - 0.16 * slab), covered.paved)
    colour = mix(colour, asphalt, covered.surface)
    colour = mix(colour, c["grass"], covered.island)
    colour = mix(colour, tint(c["pavement"], 1.16), covered.kerb)
    colour = mix(mix(colour, grey(0.93), white), _YELLOW, yellow)

    pool = street_lamps(view, at.s, e)
    daylight = plus(c["ambient"], tint(c["sun"], 0.35 + 0.65 * n["sun_z"]))
    light = plus(plus(daylight, tint(BEAM, 0.95 * head)), tint(WARM, 0.50 * pool))
    colour = tint(times(colour, light), _shade(x, y, shadows))
    mirror = covered.surface * ((0.55 + 0.35 * grain) * n["wet"] + 0.04)
    return colour, mirror, pool
