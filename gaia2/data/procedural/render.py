"""From scenes to images: tables for every image, then the picture in chunks of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gaia2.data.procedural.appearance import SCALARS, appearance
from gaia2.data.procedural.boxes import BOX, CROWN, KIND, column
from gaia2.data.procedural.layout import roadside
from gaia2.data.procedural.masks import PixelMasks, pixel_masks
from gaia2.data.procedural.placement import Poses, place_agents, place_static, visible
from gaia2.data.procedural.rays import camera_rays
from gaia2.data.procedural.road import PERIOD, metadata_ids, plan_roads
from gaia2.data.procedural.shade import IMAGE_SCALARS, make_view
from gaia2.data.procedural.solids import Hits
from gaia2.data.procedural.trajectory import Trajectory, drive, scene_motion
from gaia2.data.procedural.vehicles import agent_boxes
from gaia2.scene import Scene

__all__ = ["BatchTables", "prepare", "render_images"]

_BOXES, _CROWNS, _SHADOWS = 32, 8, 8  # kept for each image
_GROUP = 240  # images whose tables are built together
_COS, _SIN, _HX, _HY, _HZ, _ALPHA, _SIGNAL, _KIND = column(
    BOX, "cos", "sin", "hx", "hy", "hz", "alpha", "signal", "kind"
)
_CROWN_ALPHA = CROWN.index("alpha")
_SUN = column(SCALARS, "sun_x", "sun_y")


@dataclass(frozen=True)
class BatchTables:
    """All that rendering needs of a batch of clips; `c` = b * n cameras."""

    rays: Tensor  # (c, 3, p)
    extrinsics: Tensor  # (c, 4, 4)
    pixel: Tensor  # (c,) rad
    half_angle: Tensor  # (c,) rad
    numbers: Tensor  # (b, q)
    colours: Tensor  # (b, k, 3)
    static: Tensor  # (b, k, f)
    crowns: Tensor  # (b, e, g)
    agents: Tensor  # (b, tv, 2 m, f)
    way: Trajectory
    num_frames: int
    num_cameras: int


def _agent_tensors(scenes: Sequence[Scene], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Agents of all scenes, padded to the same number of rows."""
    rows = max(1, *(scene.agents.category.shape[1] for scene in scenes))
    frames = scenes[0].num_frames
    boxes = np.full((len(scenes), frames, rows, 7), np.nan)
    category = np.full((len(scenes), frames, rows), -1, dtype=np.int64)
    track = np.full((len(scenes), frames, rows), -1, dtype=np.int64)
    for i, scene in enumerate(scenes):
        m = scene.agents.category.shape[1]
        boxes[i, :, :m], category[i, :, :m] = scene.agents.boxes, scene.agents.category
        track[i, :, :m] = scene.agents.track_id
    return tuple(torch.from_numpy(a).to(device) for a in (boxes, category, track))  # type: ignore[return-value]


def prepare(
    scenes: Sequence[Scene],
    seeds: Tensor,
    cameras: Tensor | None,
    image_size: tuple[int, int],
    rays: int,
) -> BatchTables:
    """Builds the tables of a batch of scenes that agree in frames and cameras.

    Args:
        scenes: B scenes.
        seeds: `(b,)` int64 on the device to work on.
        cameras: `(b,)` the one camera of each scene to render, or None for all.
        image_size: (height, width) in pixels.
        rays: Rays of a pixel.
    """
    device = seeds.device
    rigs = [scene.rig.fit(image_size=image_size) for scene in scenes]

    def stack(name: str) -> Tensor:
        return torch.from_numpy(np.stack([np.asarray(getattr(rig, name)) for rig in rigs])).to(device)

    intrinsics, extrinsics, distortion = stack("intrinsics"), stack("extrinsics"), stack("distortion")
    fisheye = torch.tensor([[model == "fisheye" for model in rig.distortion_model] for rig in rigs], device=device)
    times, speed, curvature = scene_motion(scenes, device)
    reference = times
    if cameras is not None:
        pick = torch.arange(len(scenes), device=device), cameras
        intrinsics, extrinsics = intrinsics[pick][:, None], extrinsics[pick][:, None]
        distortion, fisheye = distortion[pick][:, None], fisheye[pick][:, None]
    ids = metadata_ids([scene.metadata for scene in scenes], seeds)
    plan = plan_roads(ids, seeds)
    way = drive(reference, speed, curvature, plan, seeds)
    if cameras is not None:
        chosen = [field[pick[0], :, cameras][..., None] for field in (way.x, way.y, way.yaw, way.s, way.d, way.turn)]
        way = Trajectory(*way[:4], *chosen)
    numbers, colours = appearance(plan, way.curvature, seeds)
    static, crowns = roadside(plan, seeds)
    directions = camera_rays(image_size, intrinsics.flatten(0, 1), distortion.flatten(0, 1), fisheye.flatten(), rays)
    focal = (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2
    return BatchTables(
        rays=directions,
        extrinsics=extrinsics.flatten(0, 1).float(),
        pixel=(1 / focal).flatten().float(),
        half_angle=torch.acos(directions[:, 2].amin(dim=1).clamp(-1.0, 1.0)) + 0.02,
        numbers=numbers,
        colours=colours,
        static=static,
        crowns=crowns,
        agents=agent_boxes(*_agent_tensors(scenes, device), seeds),
        way=way,
        num_frames=times.shape[1],
        num_cameras=extrinsics.shape[1],
    )


def _seen(
    static: Tensor,
    agents: Tensor,
    crowns: Tensor,
    rotation: Tensor,
    origin: Tensor,
    pixel: Tensor,
    half_angle: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, tree crowns and shadows that matter in each image, in the layout that `shade_images` takes."""
    boxes = torch.cat([static, agents], dim=1)
    forward = rotation[:, :, 2]
    # nothing is drawn slimmer than a pixel; what would have to be much slimmer vanishes instead
    distance = (boxes[..., :3] - origin[:, None]).norm(dim=-1)
    slim = 0.40 * pixel[:, None] * distance
    thin = torch.minimum(boxes[..., _HX], boxes[..., _HY])
    alpha = boxes[..., _ALPHA] * ((thin / slim.clamp(min=1e-6) - 0.25) * 5.0).clamp(0.0, 1.0)
    for axis in (_HX, _HY, _HZ):
        boxes[..., axis] = torch.maximum(boxes[..., axis], slim * (boxes[..., axis] > 0))
    # a camera that has left the road may come to stand inside a building
    offset = origin[:, None, :2] - boxes[..., :2]
    along = boxes[..., _COS] * offset[..., 0] + boxes[..., _SIN] * offset[..., 1]
    aside = boxes[..., _COS] * offset[..., 1] - boxes[..., _SIN] * offset[..., 0]
    inside = (along.abs() < boxes[..., _HX] + 0.3) & (aside.abs() < boxes[..., _HY] + 0.3)
    alpha = alpha * ~(inside & (boxes[..., 2] + boxes[..., _HZ] > origin[:, 2:]))
    boxes[..., _ALPHA] = alpha

    wanted = torch.where((boxes[..., _SIGNAL] > 0) & (boxes[..., _SIGNAL] < 5), 5.0, 1.0)
    wanted[boxes[..., _KIND] == KIND["sign"]] = 4.0
    wanted[:, static.shape[1] :] = 3.0  # road users and traffic lights before bigger but less telling things
    size = boxes[..., [_HX, _HY, _HZ]].norm(dim=-1)
    extent = wanted * (boxes[..., [_HX, _HY]].norm(dim=-1) * boxes[..., _HZ]).sqrt() * alpha
    seen = visible(boxes, _ALPHA, size, extent, origin, forward, half_angle, _BOXES)
    seen[:, [_HX, _HY, _HZ]] = seen[:, [_HX, _HY, _HZ]].clamp(min=1e-3)
    seen[:, _COS] += (seen[:, _ALPHA] <= 0).float()  # rows left over: a valid direction

    crown_alpha = crowns[..., _CROWN_ALPHA]
    radius = torch.maximum(crowns[..., 3], crowns[..., 4])
    seen_crowns = visible(crowns, _CROWN_ALPHA, radius, radius * crown_alpha, origin, forward, half_angle, _CROWNS)
    seen_crowns[:, 3:5] = seen_crowns[:, 3:5].clamp(min=1e-3)

    # shadows: x y z cos sin and half sizes, of road users and of trees
    bodies = agents[:, ::2]  # every other row is the smaller part of an agent
    flat = torch.zeros_like(crowns[..., :1])
    spread = 0.8 * radius[..., None] * (crown_alpha > 0)[..., None]
    trees = torch.cat([crowns[..., :2], flat, flat + 1, flat, spread, spread], dim=-1)
    patches = torch.cat([bodies[..., [0, 1, 2, _COS, _SIN, _HX, _HY]], trees], dim=1)
    patches[..., 2] = 0.0
    reach = patches[..., 5:].norm(dim=-1) + 0.5
    present = torch.cat([bodies[..., _ALPHA], crown_alpha], dim=1)
    shadows = visible(patches, None, reach, reach * present, origin, forward, half_angle, _SHADOWS)
    return seen, seen_crowns, torch.cat([shadows[:, :2], shadows[:, 3:]], dim=1)


def _image_tables(t: BatchTables, image: Tensor) -> tuple[Tensor, ...]:
    """Camera and arguments of `shade_images` after the rays, for images given by their index in (b tv n) order."""
    camera = image % t.num_cameras
    frame = image // t.num_cameras % t.num_frames
    clip = image // (t.num_cameras * t.num_frames)
    lens = clip * t.num_cameras + camera
    w = t.way
    here = clip, frame, camera
    curvature = w.curvature[clip]
    s, d, turn = w.s[here], w.d[here], w.turn[here]
    heading = w.yaw[here] - turn
    poses = Poses(*(v.float() for v in (torch.remainder(s, PERIOD), d, heading, curvature)))

    # the ego at the frame's own time, seen from the road frame at the camera's time
    dx, dy = w.frame_x[clip, frame] - w.x[here], w.frame_y[clip, frame] - w.y[here]
    cos, sin = turn.cos(), turn.sin()
    ego = [(cos * dx + sin * dy).float(), (d + cos * dy - sin * dx).float(), (w.frame_yaw[clip, frame] - turn).float()]
    agents = place_agents(t.agents[clip, frame], *ego)
    static, angle = place_static(t.static[clip], _ALPHA, poses)
    static[..., _COS], static[..., _SIN] = angle.cos(), angle.sin()
    crowns, _ = place_static(t.crowns[clip], _CROWN_ALPHA, poses)

    c, si, zero = poses.heading.cos(), poses.heading.sin(), torch.zeros_like(poses.d)
    turned = torch.stack([c, -si, zero, si, c, zero, zero, zero, zero + 1], dim=-1).reshape(-1, 3, 3)
    pose = t.extrinsics[lens]
    rotation = turned @ pose[:, :3, :3]
    origin = (turned @ pose[:, :3, 3:])[..., 0] + torch.stack([zero, poses.d, zero], dim=-1)

    pixel = t.pixel[lens]
    solids = _seen(static, agents, crowns, rotation, origin, pixel, t.half_angle[lens])
    numbers = t.numbers[clip].clone()
    sun_x, sun_y = numbers[:, _SUN].unbind(-1)
    cos, sin = cos.float(), sin.float()
    numbers[:, _SUN[0]], numbers[:, _SUN[1]] = cos * sun_x + sin * sun_y, cos * sun_y - sin * sun_x
    own = dict(ego_s=poses.s, ego_y=poses.d, ego_cos=c, ego_sin=si, cos_0=cos, sin_0=sin, pixel=pixel)
    numbers = torch.cat([numbers, torch.stack([own[name] for name in IMAGE_SCALARS], dim=-1)], dim=-1)
    return lens, rotation, origin, numbers, t.colours[clip], *solids


def render_images(
    tables: BatchTables,
    trace: Callable[..., Hits],
    shade: Callable[..., Tensor],
    image_size: tuple[int, int],
    rays: int,
    chunk: int,
    pad: bool,
    mask_stride: int = 0,
) -> tuple[Tensor, PixelMasks | None]:
    """Renders all images of a batch.

    Args:
        tables: From `prepare`.
        trace, shade: `solids.trace` and `shade_images` or their compiled forms.
        image_size: (height, width) in pixels.
        rays: Rays of a pixel.
        chunk: Images at a time.
        pad: Whether every call to `shade` must have exactly `chunk` images.
        mask_stride: Every so many frames, from the middle one of the first of them on, get masks, too; 0: none.

    Returns:
        `(b, tv, n, 3, hv, wv)` uint8, and the masks `(b, tm, n, hv, wv)`.
    """
    clips = tables.numbers.shape[0]
    total = clips * tables.num_frames * tables.num_cameras
    device = tables.rays.device
    out = torch.empty((total, 3, *image_size), dtype=torch.uint8, device=device)
    found: list[PixelMasks] = []
    group = chunk * max(1, _GROUP // chunk)
    for start in range(0, total, group):
        stop = min(start + group, total)
        last = start + -(-(stop - start) // chunk) * chunk if pad else stop
        image = torch.arange(start, last, device=device).clamp(max=total - 1)
        lens, *arguments = _image_tables(tables, image)
        for first in range(start, stop, chunk):
            part = slice(first - start, first - start + chunk)
            rotation, origin, numbers, colours, boxes, crowns, shadows = (value[part] for value in arguments)
            direction = rotation @ tables.rays[lens[part]]
            hits = trace(direction, origin, numbers[:, -1], boxes, crowns)
            pixels = shade(direction, hits, origin, numbers, colours, boxes, crowns, shadows, image_size, rays)
            end = min(first + chunk, stop)
            out[first:end] = pixels[: end - first]
            if mask_stride:
                frame = image[part][: end - first] // tables.num_cameras % tables.num_frames
                rows = (frame % mask_stride == mask_stride // 2).nonzero()[:, 0]
                first_ray = slice(image_size[0] * image_size[1])
                view = make_view(direction[rows, :, first_ray], origin[rows], numbers[rows], colours[rows])
                seen = pixel_masks(view, Hits(*(hit[rows, first_ray] for hit in hits)), boxes[rows])
                found.append(PixelMasks(*(mask.unflatten(1, image_size) for mask in seen)))
    video = out.reshape(clips, tables.num_frames, tables.num_cameras, 3, *image_size)
    if not mask_stride:
        return video, None
    of_all = (torch.cat(masks) for masks in zip(*found, strict=True))
    return video, PixelMasks(*(mask.reshape(clips, -1, tables.num_cameras, *image_size) for mask in of_all))
