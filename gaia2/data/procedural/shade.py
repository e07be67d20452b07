"""The picture: one tensor program from rays and tables to colours, without control flow that depends on data."""

from __future__ import annotations

import torch
from torch import Tensor

from gaia2.data.procedural.appearance import COLOURS, SCALARS
from gaia2.data.procedural.colour import Rgb, mix, plus, tint
from gaia2.data.procedural.ground import FAR, ground, ground_distance
from gaia2.data.procedural.light import WARM, View, head_lamps, sky
from gaia2.data.procedural.solids import Hits
from gaia2.data.procedural.surfaces import shade_box, shade_crown

__all__ = ["IMAGE_SCALARS", "make_view", "shade_images"]

IMAGE_SCALARS = ("ego_s", "ego_y", "ego_cos", "ego_sin", "cos_0", "sin_0", "pixel")
"""Numbers of one image: the ego's place along and beside the road and its direction there, the direction of the road's
frame in a frame that does not turn, and the angle that a pixel sees (rad)."""


def make_view(direction: Tensor, origin: Tensor, numbers: Tensor, colours: Tensor) -> View:
    """What images are seen with; arguments as for `shade_images`."""
    dx, dy, dz = direction.unbind(1)
    ox, oy, oz = origin[:, :, None].unbind(1)
    number = {name: numbers[:, i, None] for i, name in enumerate(SCALARS + IMAGE_SCALARS)}
    tones: dict[str, Rgb] = {}
    for i, name in enumerate(COLOURS):
        red, green, blue = colours[:, i, :, None].unbind(1)
        tones[name] = (red, green, blue)
    return View((dx, dy, dz), (ox, oy, oz), number["pixel"], number, tones)


def shade_images(
    direction: Tensor,
    hits: Hits,
    origin: Tensor,
    numbers: Tensor,
    colours: Tensor,
    boxes: Tensor,
    crowns: Tensor,
    shadows: Tensor,
    size: tuple[int, int],
    rays: int,
) -> Tensor:
    """Colours a batch of images.

    Args:
        direction: `(i, 3, p)` unit vectors of the rays in the road frame, p = rays * height * width in that order.
        hits: What the rays hit, from `trace`.
        origin: `(i, 3)` camera in the road frame (m).
        numbers: `(i, len(SCALARS) + len(IMAGE_SCALARS))`.
        colours: `(i, len(COLOURS), 3)`.
        boxes: `(i, len(BOX), k)`.
        crowns: `(i, len(CROWN), e)`.
        shadows: `(i, 6, a)`.
        size: (height, width) of the images.
        rays: Rays of a pixel.

    Returns:
        `(i, 3, height, width)` uint8.
    """
    view = make_view(direction, origin, numbers, colours)
    (dx, dy, dz), (ox, oy, oz), number = view.direction, view.origin, view.number
    box_index, box_distance, crown_index, crown_distance, crown_cover = hits
    fade = -1 / number["visibility"]

    floor_distance = ground_distance(view)
    seen = torch.minimum(torch.minimum(box_distance, crown_distance), floor_distance)
    head = head_lamps(view, ox + seen * dx, oy + seen * dy, oz + seen * dz)

    above, haze = sky(view)
    floor, mirror, pool = ground(view, floor_distance, shadows, head)
    grazing = 1 + dz.clamp(-1.0, 0.0)
    grazing = grazing * grazing
    shine = plus(tint(haze, 0.85), tint(WARM, pool * 0.6))
    floor = mix(floor, shine, (mirror * grazing * grazing).clamp(max=0.8))
    veil = torch.exp(floor_distance * fade) * (1.6 - floor_distance * (1.6 / FAR)).clamp(0.0, 1.0)
    floor = mix(haze, floor, veil)
    background = mix(above, floor, (0.5 - dz / number["pixel"]).clamp(0.0, 1.0))

    box_colour, box_alpha = shade_box(view, boxes, box_index, box_distance, haze, head)
    box_colour = mix(haze, box_colour, torch.exp(box_distance * fade))
    crown_colour, crown_alpha = shade_crown(view, crowns, crown_index, crown_distance, head)
    crown_colour = mix(haze, crown_colour, torch.exp(crown_distance * fade))
    crown_alpha = crown_alpha * crown_cover
    # the further of the two solids is painted first
    behind = (crown_distance < box_distance) * box_alpha
    picture = mix(background, box_colour, behind)
    picture = mix(picture, crown_colour, crown_alpha)
    picture = mix(picture, box_colour, box_alpha - behind)
    pixels = torch.stack(picture, dim=1).reshape(len(direction), 3, rays, *size)  # type: ignore[arg-type]
    return (pixels.mean(dim=2).clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8)
