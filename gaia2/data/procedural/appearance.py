"""Light, sky, air and ground colours of each clip, from time of day, weather and seed."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.data.procedural.hashing import uniform
from gaia2.data.procedural.road import RoadPlan
from gaia2.scene import METADATA

__all__ = ["SCALARS", "COLOURS", "appearance"]

SCALARS = (
    *("sun_x", "sun_y", "sun_z", "sun_size", "night", "visibility", "wet", "snow", "cloud", "overcast", "phase"),
    *("side", "lane", "forward", "backward", "bus", "cycle", "parking", "crossing", "junction", "arm", "yellow"),
    *("uk", "has_crossing", "has_light", "shape", "curvature", "shift"),
)
"""Names of the numbers of a clip that the shading reads, in the order of the table."""

COLOURS = (
    "zenith",
    "horizon",
    "glow",
    "ambient",
    "sun",
    "grass",
    "asphalt",
    "pavement",
    "hills",
    "bus_tint",
    "cycle_tint",
)
"""Names of the colours of a clip, in the order of the table; display values in [0, 1]."""

# time of day: dawn, day, dusk, night
_ZENITH = ((0.46, 0.50, 0.68), (0.22, 0.46, 0.80), (0.33, 0.30, 0.52), (0.035, 0.042, 0.10))
_HORIZON = ((0.98, 0.76, 0.60), (0.70, 0.83, 0.95), (0.98, 0.55, 0.32), (0.12, 0.125, 0.20))
_GLOW = ((1.00, 0.80, 0.50), (1.00, 0.97, 0.88), (1.00, 0.55, 0.20), (0.10, 0.10, 0.16))
_AMBIENT = ((0.58, 0.56, 0.64), (0.62, 0.66, 0.74), (0.47, 0.42, 0.52), (0.27, 0.28, 0.38))
_SUN = ((0.42, 0.32, 0.20), (0.46, 0.43, 0.37), (0.42, 0.24, 0.10), (0.02, 0.02, 0.04))
_GREY_SKY = ((0.68, 0.66, 0.68), (0.74, 0.77, 0.80), (0.62, 0.53, 0.53), (0.10, 0.105, 0.14))
_GREY_LIGHT = ((0.66, 0.65, 0.68), (0.82, 0.83, 0.85), (0.60, 0.55, 0.58), (0.27, 0.28, 0.34))
# weather: clear, cloudy, rain, fog, snow
_OVERCAST = (0.0, 0.85, 1.0, 1.0, 1.0)
_DIM = (1.0, 0.94, 0.78, 0.95, 1.02)
_SKY_DIM = (1.0, 0.94, 0.76, 1.0, 1.04)
_VISIBILITY = (900.0, 520.0, 170.0, 34.0, 130.0)  # m at which 1/e of the contrast is left


def _rows(table: tuple, index: Tensor) -> Tensor:
    return torch.tensor(table, dtype=torch.float32, device=index.device)[index]


def appearance(plan: RoadPlan, curvature: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Tables of what the shading needs to know of each clip.

    Args:
        plan: The streets.
        curvature: `(b,)` 1/m of the streets.
        seeds: `(b,)` int64.

    Returns:
        Numbers `(b, len(SCALARS))` and colours `(b, len(COLOURS), 3)`, float32.
    """
    time, weather = plan.ids["time_of_day"], plan.ids["weather"]
    u = uniform(seeds, "appearance", 8)
    overcast, dim = _rows(_OVERCAST, weather), _rows(_DIM, weather)
    snow = (weather == METADATA["weather"].index("snow")).float()
    wet = (weather == METADATA["weather"].index("rain")).float()
    night = (time == METADATA["time_of_day"].index("night")).float()
    low = ((time == 0) | (time == 2)).float()

    azimuth = 2 * torch.pi * u[:, 0]
    elevation = torch.where(low > 0, 0.10 + 0.10 * u[:, 1], 0.65 + 0.35 * u[:, 1])
    shading = torch.where(low > 0, 0.45, elevation)  # a low sun still lights the road a little
    o = overcast[:, None]
    grey = _rows(_GREY_SKY, time) * (_rows(_SKY_DIM, weather) * (0.96 + 0.08 * u[:, 2]))[:, None]
    light = torch.lerp(_rows(_AMBIENT, time), _rows(_GREY_LIGHT, time), o) * dim[:, None]
    s = snow[:, None]
    grass = torch.stack([0.33 + 0.14 * u[:, 3], 0.43 + 0.07 * u[:, 4], 0.23 + 0.05 * u[:, 3]], dim=-1)
    asphalt = (0.335 + 0.09 * u[:, 5])[:, None] * torch.tensor([1.0, 1.0, 1.03], device=time.device)
    asphalt = torch.lerp(asphalt * (1 - 0.25 * wet[:, None]), torch.full_like(asphalt, 0.52), 0.35 * s)
    pavement = torch.tensor([0.60, 0.585, 0.565], device=time.device) * (0.92 + 0.16 * u[:, 6])[:, None]
    germany, uk = plan.ids["country"] == 2, plan.ids["country"] == 0
    colours = [
        torch.lerp(_rows(_ZENITH, time), grey * 0.92, o),
        torch.lerp(_rows(_HORIZON, time), grey * 1.05, o),
        _rows(_GLOW, time) * (1 - 0.9 * o),
        light,
        _rows(_SUN, time) * (1 - 0.92 * o) * dim[:, None],
        torch.lerp(grass, torch.full_like(grass, 0.93), 0.88 * s),
        asphalt,
        torch.lerp(pavement * (1 - 0.2 * wet[:, None]), torch.full_like(pavement, 0.90), 0.75 * s),
        torch.lerp(grass * torch.tensor([0.75, 0.78, 1.0], device=time.device), torch.full_like(grass, 0.8), 0.6 * s),
        torch.where(germany[:, None], torch.tensor([1.05, 0.98, 0.95], device=time.device), 1.0)
        * torch.tensor([1.95, 0.62, 0.52], device=time.device).expand(len(seeds), 3),
        torch.where(
            uk[:, None],
            torch.tensor([0.45, 1.55, 0.65], device=time.device),
            torch.tensor([0.45, 0.95, 1.90], device=time.device),
        ).expand(len(seeds), 3),
    ]
    scalars = {
        "sun_x": shading.cos() * azimuth.cos(),
        "sun_y": shading.cos() * azimuth.sin(),
        "sun_z": shading.sin(),
        "sun_size": low,
        "night": night,
        "visibility": _rows(_VISIBILITY, weather) * (0.85 + 0.3 * u[:, 7]),
        "wet": wet,
        "snow": snow,
        "cloud": (1 - overcast) * (0.25 + 0.75 * u[:, 2]) * (1 - 0.7 * night),
        "overcast": overcast,
        "phase": 2 * torch.pi * u[:, 6],
        "side": plan.side,
        "lane": plan.lane,
        "forward": plan.forward,
        "backward": plan.backward,
        "bus": plan.bus,
        "cycle": plan.cycle,
        "parking": plan.parking,
        "crossing": plan.crossing,
        "junction": plan.junction,
        "arm": plan.arm,
        "yellow": (plan.ids["country"] == 1).float(),
        "uk": uk.float(),
        "has_crossing": plan.ids["pedestrian_crossing"].float(),
        "has_light": (plan.ids["traffic_light"] > 0).float(),
        "shape": plan.ids["intersection"].float(),
        "curvature": curvature,
        "shift": plan.shift,
    }
    table = torch.stack([scalars[name].float() for name in SCALARS], dim=-1)
    return table, torch.stack(colours, dim=1).float()
