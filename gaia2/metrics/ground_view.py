"""The ground around the ego as all cameras together show it, as a map; and what is there in the procedural world.

Axes: b clips, t frames, n cameras, hv wv pixels, x y cells of the map (x ahead, the farthest first; y from left to
right), u v patches of 4 by 4 cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import reduce

from gaia2.conditioning.lens import lens_limit, project_points
from gaia2.data.procedural.filters import wrap
from gaia2.data.procedural.motion import to_road
from gaia2.data.procedural.road import (
    CROSSING_LENGTH,
    JUNCTION_HALF_WIDTH,
    PERIOD,
    ROUNDABOUT,
    metadata_ids,
    plan_roads,
)
from gaia2.data.procedural.trajectory import drive, scene_motion
from gaia2.scene import DISTORTION_MODELS, METADATA, CameraRig, Scene

CELLS = (128, 256)
"""Cells of a map: along, across."""
PATCH = 4
"""Cells along either side of a patch."""
KINDS = ("off", "side", "lane", "crossing", "arm left", "arm right", "roundabout", "merge")
"""What a patch can be: no road; road outside of the lanes; a lane; a pedestrian crossing; the arms of a junction to the
left and right of the road; a roundabout; the lane that joins at a merge."""
MIRRORED = tuple(KINDS.index({"arm left": "arm right", "arm right": "arm left"}.get(name, name)) for name in KINDS)
"""What each kind is in a looking glass beside the road."""
_AHEAD, _ASIDE = (-12.0, 52.0), (-25.6, 25.6)
PATCH_METRES = tuple(PATCH * (end - begin) / n for (begin, end), n in zip((_AHEAD, _ASIDE), CELLS, strict=True))
"""Length and width of a patch."""


def map_points() -> torch.Tensor:
    """Places `(x, y, 2)` of the cells' middles: metres ahead and to the left of the ego."""
    ahead = torch.linspace(_AHEAD[1], _AHEAD[0], 2 * CELLS[0] + 1)[1::2]
    left = torch.linspace(_ASIDE[1], _ASIDE[0], 2 * CELLS[1] + 1)[1::2]
    return torch.stack(torch.meshgrid(ahead, left, indexing="ij"), dim=-1)


class GroundCameras:
    """Where each cell of the map is in the pictures of a rig: in that camera whose middle it is nearest to.

    `pixels`, `(u, v)`, says how many square pixels each patch takes there, 0 if no camera sees it.

    Args:
        rig: The cameras, at the size of the pictures.
        size: Height and width of the pictures.
    """

    def __init__(self, rig: CameraRig, size: tuple[int, int]) -> None:
        if tuple(rig.image_size[0]) != tuple(size):
            raise ValueError(f"rig: expected the size of the pictures, {size}, got {tuple(rig.image_size[0])}; use fit")
        matrix, pose = torch.tensor(rig.intrinsics).float(), torch.tensor(rig.extrinsics).float()
        distortion = torch.tensor(rig.distortion).float()
        model = torch.tensor([DISTORTION_MODELS.index(name) for name in rig.distortion_model])
        limit, _, _ = lens_limit(distortion, model)
        flat = F.pad(map_points().flatten(0, 1), (0, 1))
        ray = torch.einsum("nij,nki->nkj", pose[:, :3, :3], flat - pose[:, None, :3, 3])
        at = project_points(ray, matrix[:, None], distortion[:, None], model[:, None])
        self.unit = (at / torch.tensor([size[1], size[0]]) * 2 - 1).nan_to_num(2.0)
        inside = (self.unit.abs() < 1).all(dim=-1) & (ray[..., :2].norm(dim=-1) < limit[:, None] * ray[..., 2])
        away = ray.norm(dim=-1).clamp(min=0.5)
        area = float((map_points()[0, 0] - map_points()[1, 1]).prod())
        # of a cell in the picture, square pixels: what is looked at from aslant is small
        pixels = matrix[:, 0, 0].square()[:, None] * area * pose[:, 2, 3, None] / away**3
        central = torch.where(inside, F.normalize(ray, dim=-1)[..., 2], -1.0)
        best = F.one_hot(central.argmax(dim=0), len(pose)).T.bool()
        self.chosen = best & inside
        of_cells = (pixels * self.chosen).sum(dim=0).unflatten(0, CELLS)
        self.pixels = reduce(of_cells, "(u p) (v q) -> u v", "sum", p=PATCH, q=PATCH)

    def see(self, pictures: torch.Tensor) -> torch.Tensor:
        """Maps `(t, c + 1, x, y)` of pictures `(t, n, c, hv, wv)` or of their parts: then 1 where a camera sees."""
        t, _, c = pictures.shape[:3]
        total = torch.zeros(t, c + 1, len(self.unit[0]))
        for camera in range(pictures.shape[1]):
            cells = self.chosen[camera].nonzero()[:, 0]
            grid = self.unit[camera, cells][None, None].expand(t, -1, -1, -1)
            found = F.grid_sample(pictures[:, camera].float(), grid, align_corners=False, padding_mode="border")
            total[:, :c, cells] = found[:, :, 0]
            total[:, c, cells] = 1.0
        return total.unflatten(2, CELLS)


def ground_kinds(scenes: Sequence[Scene], seeds: Sequence[int]) -> torch.Tensor:
    """What the patches around the ego are in the procedural world, `(b, t, u, v)` ids of `KINDS`.

    Args:
        scenes: That agree in frames and cameras.
        seeds: Theirs.
    """
    keys = torch.as_tensor(list(seeds))
    ids = metadata_ids([scene.metadata for scene in scenes], keys)
    plan = plan_roads(ids, keys)
    way = drive(*scene_motion(scenes, keys.device), plan, keys)
    place = reduce(map_points().double(), "(u p) (v q) c -> u v c", "mean", p=PATCH, q=PATCH)
    cos, sin = way.frame_yaw.cos()[..., None, None], way.frame_yaw.sin()[..., None, None]
    x = way.frame_x[..., None, None] + cos * place[..., 0] - sin * place[..., 1]
    y = way.frame_y[..., None, None] + sin * place[..., 0] + cos * place[..., 1]

    def of_clip(values: torch.Tensor) -> torch.Tensor:
        return values.double()[:, None, None, None]

    s, d, _, _ = to_road(x, y, of_clip(way.curvature))
    e = d * of_clip(plan.side)
    near, far = of_clip(plan.near_kerb), of_clip(plan.far_kerb)
    from_junction = wrap(s - of_clip(plan.junction), PERIOD)
    shape = of_clip(ids["intersection"])
    names = METADATA["intersection"]
    kinds = torch.zeros(e.shape, dtype=torch.uint8)

    def put(name: str, where: torch.Tensor) -> None:
        kinds[where] = KINDS.index(name)

    on_road = (e > far) & (e < near)
    put("side", on_road)
    put("lane", (e > -of_clip(plan.backward * plan.lane)) & (e < of_clip(plan.forward * plan.lane)))
    zone = wrap(s - of_clip(plan.crossing), PERIOD).abs() < CROSSING_LENGTH / 2
    put("crossing", on_road & zone & (of_clip(ids["pedestrian_crossing"]) > 0))
    opens = (shape == names.index("crossroads")) | (
        (shape == names.index("t_junction")) & (torch.sign(e) == of_clip(plan.arm))
    )
    arm = opens & ~on_road & (from_junction.abs() < JUNCTION_HALF_WIDTH)
    put("arm left", arm & (d > 0))
    put("arm right", arm & (d < 0))
    circle = from_junction.square() + d.square() < ROUNDABOUT[1] ** 2
    put("roundabout", circle & (shape == names.index("roundabout")))
    wider = of_clip(plan.merging) * (-from_junction / 30.0).clamp(0.0, 1.0)
    put("merge", (e > near) & (e < near + wider))
    return kinds


def mirrored(maps: torch.Tensor, kinds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and kinds as a looking glass beside the road shows them: as many new ones for free."""
    return maps.flip(-1), torch.tensor(MIRRORED)[kinds.long()].to(kinds.dtype).flip(-1)
