"""What stands beside the road: buildings, trees, street lamps and traffic lights, as tables over road coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.data.procedural.boxes import CROWN, KIND, box_rows
from gaia2.data.procedural.filters import wrap
from gaia2.data.procedural.hashing import choose, uniform
from gaia2.data.procedural.road import JUNCTION_HALF_WIDTH, PAVEMENT, PERIOD, RoadPlan
from gaia2.scene import METADATA

__all__ = ["LAMP_SPACING", "roadside"]

LAMP_SPACING = 27.0
"""Metres between street lamps of one side."""
_SLOTS = 12  # buildings and trees of each side in a period
_FAR_SLOTS = 6
_FACADES = (
    *((0.62, 0.36, 0.29), (0.71, 0.49, 0.37), (0.80, 0.72, 0.60), (0.86, 0.82, 0.74), (0.60, 0.60, 0.62)),
    *((0.50, 0.55, 0.61), (0.74, 0.62, 0.44), (0.55, 0.40, 0.36), (0.66, 0.70, 0.68), (0.72, 0.55, 0.53)),
)
_COUNTRY_FACADES = ((0, 1, 7, 0, 6), (4, 5, 8, 4, 3), (2, 3, 9, 6, 2))  # bricks, greys, plaster
_LIMIT_COLOURS = (
    *((0.10, 0.25, 0.85), (0.95, 0.95, 0.95), (0.90, 0.10, 0.10), (0.98, 0.80, 0.05)),
    *((0.05, 0.60, 0.25), (0.95, 0.45, 0.05), (0.60, 0.15, 0.70), (0.05, 0.70, 0.75)),
)
"""Colours of the boards on the posts, one for each speed limit: figures could not be read in small pictures."""
_ONE_WAY: tuple[float, float, float] = (0.05, 0.30, 0.95)
SIGN_SPACING = 27.0
"""Metres between the posts of one side."""
_LEAVES = ((0.20, 0.40, 0.14), (0.27, 0.47, 0.17), (0.16, 0.34, 0.16), (0.42, 0.46, 0.16))
_METAL = (0.30, 0.31, 0.33)


def _kerb(plan: RoadPlan, near: Tensor) -> Tensor:
    """Distance |e| of the kerb on the side given by the bool `near`, from `(b, 1)` fields."""
    return torch.where(near, plan.near_kerb[:, None], -plan.far_kerb[:, None])


def _sides(count: int, like: Tensor) -> Tensor:
    """`(1, 2 * count)` bool: the first half on the near side."""
    return (torch.arange(2 * count, device=like.device) < count)[None]


def _lateral(plan: RoadPlan, near: Tensor, beyond: Tensor) -> Tensor:
    """d of things `beyond` metres outside the kerb of their side."""
    wider = plan.merging[:, None] * near
    return plan.side[:, None] * torch.where(near, 1.0, -1.0) * (_kerb(plan, near) + wider + beyond)


def _clear_of_junction(plan: RoadPlan, s: Tensor, near: Tensor, margin: Tensor | float) -> Tensor:
    """Whether a thing at `s` leaves the crossing road of its side open."""
    shape = plan.ids["intersection"][:, None]
    options = METADATA["intersection"]
    arm = torch.where(near, 1.0, -1.0) == plan.arm[:, None]
    opens = (shape == options.index("crossroads")) | ((shape == options.index("t_junction")) & arm)
    distance = wrap(s - plan.junction[:, None], PERIOD).abs()
    around = torch.where(shape == options.index("roundabout"), 19.0, 0.0)
    around = torch.where(opens, JUNCTION_HALF_WIDTH + PAVEMENT, around)
    return (around == 0) | (distance > around + margin)


def _buildings(plan: RoadPlan, seeds: Tensor) -> Tensor:
    near = _sides(_SLOTS, seeds)
    pitch = PERIOD / _SLOTS
    u = uniform(seeds, "buildings", 2 * _SLOTS * 8).reshape(len(seeds), 8, -1)
    urban = plan.urban[:, None]
    slot = torch.arange(2 * _SLOTS, device=seeds.device) % _SLOTS
    hx = 5.0 + 3.4 * u[:, 0]
    s = (slot + 0.5) * pitch + (u[:, 1] - 0.5) * (pitch - 2 * hx).clamp(min=0) + plan.shift[:, None]
    hy = 4.5 + 2.5 * u[:, 2]
    floors = (1.6 + (1.5 + 3 * urban) * u[:, 3] ** 1.5).floor() + (urban > 0.75) * (u[:, 4] > 0.7) * 2
    height = 4.2 * floors + 0.8
    setback = 1.0 + (1 - urban) * 7.0 * u[:, 5] + 1.5 * u[:, 4]
    alpha = (u[:, 6] < 0.30 + 0.65 * urban) & _clear_of_junction(plan, s, near, hx)
    colour = _facades(plan, u[:, 7]) * (0.86 + 0.2 * u[:, 1])[..., None]
    return box_rows(
        (len(seeds), 2 * _SLOTS),
        seeds,
        x=s,
        y=_lateral(plan, near, PAVEMENT + setback + hy),
        z=height / 2,
        hx=hx,
        hy=hy,
        hz=height / 2,
        colour=colour,
        alpha=alpha,
        pitch=3.6 + 1.2 * u[:, 2],
        rows=floors,
        low=0.01,
        high=1 - 0.9 / height,
        duty=0.50 + 0.14 * u[:, 5],
        lit=0.25 + 0.35 * u[:, 3],
        skirt=torch.where((u[:, 4] < 0.5 * urban), 2.9 / height, 0.0),
        seed=u[:, 6],
    )


def _skyline(plan: RoadPlan, seeds: Tensor) -> Tensor:
    near = _sides(_FAR_SLOTS, seeds)
    u = uniform(seeds, "skyline", 2 * _FAR_SLOTS * 6).reshape(len(seeds), 6, -1)
    pitch = PERIOD / _FAR_SLOTS
    s = (torch.arange(2 * _FAR_SLOTS, device=seeds.device) % _FAR_SLOTS + u[:, 0]) * pitch + plan.shift[:, None]
    hx, hy = 6 + 5 * u[:, 1], 6 + 5 * u[:, 2]
    floors = (2 + 6 * plan.urban[:, None] * u[:, 3]).floor()
    height = 4.4 * floors
    alpha = (u[:, 4] < 0.1 + 0.8 * plan.urban[:, None]) & _clear_of_junction(plan, s, near, hx)
    return box_rows(
        (len(seeds), 2 * _FAR_SLOTS),
        seeds,
        x=s,
        y=_lateral(plan, near, 32 + 14 * u[:, 5]),
        z=height / 2,
        hx=hx,
        hy=hy,
        hz=height / 2,
        colour=_facades(plan, u[:, 3]) * 0.95,
        alpha=alpha,
        pitch=5.0,
        rows=floors,
        high=0.97,
        duty=0.55,
        lit=0.35,
        seed=u[:, 4],
    )


def _trees(plan: RoadPlan, seeds: Tensor) -> tuple[Tensor, Tensor]:
    near = _sides(_SLOTS, seeds)
    u = uniform(seeds, "trees", 2 * _SLOTS * 6).reshape(len(seeds), 6, -1)
    pitch = PERIOD / _SLOTS
    s = (torch.arange(2 * _SLOTS, device=seeds.device) % _SLOTS + 0.25 * u[:, 0]) * pitch + plan.shift[:, None]
    scale = 0.75 + 0.5 * u[:, 1]
    avenue = uniform(seeds, "avenue")
    beyond = torch.where(avenue < 0.5, 1.3, PAVEMENT + 0.4) + (1 - plan.urban[:, None]) * 4.0 * u[:, 2] * (avenue > 0.5)
    d = _lateral(plan, near, beyond)
    present = (u[:, 3] < 0.85 - 0.5 * plan.urban[:, None]) & _clear_of_junction(plan, s, near, 3.0)
    before = wrap(plan.crossing[:, None] - s, PERIOD)  # no tree hides a traffic light or people about to cross
    signed = (plan.ids["traffic_light"] > 0) | (plan.ids["pedestrian_crossing"] == 1)
    present = present & ~(signed[:, None] & (before > -4) & (before < 14))
    base, radius, height = 2.1 * scale, 2.1 * scale, (2.1 + 0.8 * u[:, 4]) * scale
    trunk = box_rows(
        (len(seeds), 2 * _SLOTS),
        seeds,
        x=s,
        y=d,
        z=1.6 * scale,
        hx=0.17,
        hy=0.17,
        hz=1.6 * scale,
        kind=KIND["vegetation"],
        colour=torch.tensor([0.30, 0.22, 0.16], device=seeds.device).expand(len(seeds), 2 * _SLOTS, 3),
        alpha=present,
    )
    leaves = torch.tensor(_LEAVES, device=seeds.device)
    snow = (plan.ids["weather"] == METADATA["weather"].index("snow")).float()[:, None, None]
    kind = choose(uniform(seeds, "leaves"), (3, 3, 2, 1))
    colour = leaves[kind] * (0.85 + 0.3 * u[:, 5])[..., None]
    colour = torch.lerp(colour, torch.full_like(colour, 0.75), 0.5 * snow)
    columns = {
        "x": s,
        "y": d,
        "z": base + height,
        "radius": radius,
        "height": height,
        "r": colour[..., 0],
        "g": colour[..., 1],
        "b": colour[..., 2],
        "alpha": present.float(),
        "seed": u[:, 5],
    }
    return trunk, torch.stack([columns[name] for name in CROWN], dim=-1)


def _lamps(plan: RoadPlan, seeds: Tensor) -> Tensor:
    count = int(PERIOD / LAMP_SPACING)
    near = _sides(count, seeds)
    s = ((torch.arange(2 * count, device=seeds.device) % count) * LAMP_SPACING)[None].expand(len(seeds), -1)
    s = s + torch.where(near, 0.0, LAMP_SPACING / 2) + plan.shift[:, None]
    present = _clear_of_junction(plan, s, near, 0.5)
    metal = torch.tensor(_METAL, device=seeds.device).expand(len(seeds), 2 * count, 3)
    shape = (len(seeds), 2 * count)
    pole = box_rows(
        shape, seeds, x=s, y=_lateral(plan, near, torch.tensor(0.55)), z=3.3, hx=0.08, hy=0.08, hz=3.3, colour=metal,
        alpha=present, kind=KIND["pole"],
    )  # fmt: skip
    head = box_rows(
        shape, seeds, x=s, y=_lateral(plan, near, torch.tensor(-0.2)), z=6.6, hx=0.22, hy=0.9, hz=0.11,
        colour=metal * 1.3, alpha=present, signal=5.0, kind=KIND["pole"],
    )  # fmt: skip
    return torch.cat([pole, head], dim=1)


def _signals(plan: RoadPlan, seeds: Tensor) -> Tensor:
    """Traffic lights just beyond the stop line, the lamps towards the ego: on both sides, and over the ego's lane."""
    state = plan.ids["traffic_light"][:, None]
    there = state > 0
    near = torch.tensor([[True, False]], device=seeds.device)
    s = (plan.crossing[:, None] + 3.2).expand(-1, 2)
    shape = (len(seeds), 2)
    metal = torch.tensor([0.20, 0.20, 0.22], device=seeds.device)
    d = _lateral(plan, near, torch.tensor(0.35))
    pole = box_rows(
        shape, seeds, x=s, y=d, z=2.6, hx=0.09, hy=0.09, hz=2.6, colour=metal.expand(*shape, 3), alpha=there,
        kind=KIND["pole"],
    )  # fmt: skip
    beside = (plan.side * plan.ego)[:, None]
    head_s, head_d = torch.cat([s, s[:, :1]], dim=1), torch.cat([d, beside], dim=1)
    height = torch.tensor([[3.6, 3.6, 5.3]], device=seeds.device)
    shape = (len(seeds), 3)
    head = box_rows(
        shape, seeds, x=head_s, y=head_d, z=height, hx=0.25, hy=0.62, hz=1.25, alpha=there, signal=state.float(),
        colour=metal.expand(*shape, 3) * 0.55, kind=KIND["lamp"],
    )  # fmt: skip
    kerb = d[:, :1]
    arm = box_rows(
        (len(seeds), 1), seeds, x=s[:, :1], y=(kerb + beside) / 2, z=5.9,
        hx=0.08, hy=(kerb - beside).abs() / 2, hz=0.08, colour=metal.expand(len(seeds), 1, 3), alpha=there,
        kind=KIND["pole"],
    )  # fmt: skip
    return torch.cat([pole, head, arm], dim=1)


def _signs(plan: RoadPlan, seeds: Tensor) -> Tensor:
    """Posts on both sides with a board in the colour of the speed limit and, in one-way streets, a blue one below."""
    count = int(PERIOD / SIGN_SPACING)
    shape = (len(seeds), 2 * count)
    near = _sides(count, seeds)
    s = ((torch.arange(2 * count, device=seeds.device) % count) * SIGN_SPACING + SIGN_SPACING / 4)[None]
    s = s.expand(len(seeds), -1) + torch.where(near, 0.0, SIGN_SPACING / 2)
    present = _clear_of_junction(plan, s, near, 0.8)
    limit = torch.tensor(_LIMIT_COLOURS, device=seeds.device)[plan.ids["speed_limit"]]
    one_way = (plan.ids["one_way"] == 1)[:, None]
    d = _lateral(plan, near, torch.tensor(0.7))
    board = box_rows(
        shape, seeds, x=s, y=d, z=2.7, hx=0.10, hy=0.55, hz=0.55, colour=limit[:, None].expand(*shape, 3),
        alpha=present, kind=KIND["sign"],
    )  # fmt: skip
    blue = torch.tensor(_ONE_WAY, device=seeds.device).expand(*shape, 3)
    below = box_rows(
        shape, seeds, x=s, y=d, z=1.6, hx=0.10, hy=0.7, hz=0.3, colour=blue, alpha=present & one_way, kind=KIND["sign"]
    )  # fmt: skip
    return torch.cat([board, below], dim=1)


def _facades(plan: RoadPlan, numbers: Tensor) -> Tensor:
    """Colours `(..., 3)` of walls as the country builds, chosen by uniform `numbers (b, k)`."""
    palette = torch.tensor(_FACADES, device=numbers.device)
    of_country = torch.tensor(_COUNTRY_FACADES, device=numbers.device)[plan.ids["country"]]
    return palette[of_country.gather(1, (numbers * of_country.shape[1]).long())]


def roadside(plan: RoadPlan, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Everything that stands still beside the road, for one period of it.

    Args:
        plan: The streets.
        seeds: `(b,)` int64.

    Returns:
        Boxes `(b, k, len(BOX))` and tree crowns `(b, e, len(CROWN))`, with (s, d) of the road in the columns x and y
        and directions relative to the road's. Things that are absent have opacity 0.
    """
    trunks, crowns = _trees(plan, seeds)
    parts = [builder(plan, seeds) for builder in (_buildings, _skyline, _lamps, _signals, _signs)]
    return torch.cat([*parts, trunks], dim=1), crowns
