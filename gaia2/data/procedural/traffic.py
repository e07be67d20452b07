"""Scenes from seeds: cameras, the ego's motion, metadata, and other road users on their lanes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gaia2.data.procedural.hashing import choose, uniform
from gaia2.data.procedural.motion import from_road
from gaia2.data.procedural.road import RoadPlan, metadata_ids, plan_roads
from gaia2.data.procedural.trajectory import Trajectory, drive
from gaia2.data.procedural.vehicles import SIZES
from gaia2.scene import AGENT_CATEGORIES, METADATA, Agents, CameraRig, Scene

__all__ = ["sample_scenes"]

_SEEN = 100.0  # m; road users further away are left out
_FLEET = 15
_CAR, _TRUCK, _BUS, _MOTORCYCLE, _BICYCLE, _PEDESTRIAN, _OTHER = range(len(AGENT_CATEGORIES))
_DRIVEN = (0.34, 0.22, 0.22, 0.22)


def _motion(plan: RoadPlan, times: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Speed and curvature `(b, tv)` over `times` `(b, tv)`: standing 15%, else 2 to 20 m/s; straight 45%."""
    u = uniform(seeds, "motion", 10)
    light = plan.ids["traffic_light"]
    stops = (light >= 1) & (light <= 3)
    start = 1 + 23 * u[:, 0]
    start = torch.where(stops, start.clamp(max=11.0), start)
    gain = torch.where(u[:, 1] < 0.4, torch.zeros_like(start), 3.6 * (u[:, 2] - 0.5))
    brake = -start.square() / (2 * (plan.crossing - 5).clamp(min=4))
    gain = torch.where(stops, brake, gain)
    standing = u[:, 3] < torch.where(stops, 0.35, 0.11)
    speed = (start[:, None] + gain[:, None] * times).clamp(0.0, 25.0)
    speed = torch.where(standing[:, None], 0.0, speed)
    sharpest = (2.2 / start.square().clamp(min=9.0)).clamp(max=0.02)
    bend = sharpest * (0.15 + 0.85 * u[:, 4]) * torch.where(u[:, 5] < 0.5, -1.0, 1.0)
    bend = torch.where(u[:, 6] < 0.34, torch.zeros_like(bend), bend)
    weave = 0.0012 * u[:, 7] * (u[:, 8] - 0.3).clamp(min=0)
    curvature = bend[:, None] + weave[:, None] * (2 * torch.pi * (times / 4.0 + u[:, 9:10])).sin()
    return speed, curvature


def _fleet(plan: RoadPlan, way: Trajectory, times: Tensor, speed: Tensor, seeds: Tensor) -> tuple[Tensor, ...]:
    """Fifteen road users in road coordinates.

    Returns:
        S and e (m) `(b, tv, 15)`, heading from the road's direction towards -e (rad) and category (-1: missing)
        `(b, 15)`, and the random numbers `(b, 15, 8)` behind them.
    """
    b = len(seeds)
    u = uniform(seeds, "traffic", _FLEET * 8).reshape(b, _FLEET, 8)
    s_ego = way.s.mean(-1).float()
    travelled = s_ego - s_ego[:, :1]
    pace = speed.float().mean(1)
    span = times[:, -1] - times[:, 0]
    passing = plan.ids["one_way"] == 1
    many = plan.forward > 1.5
    density = 0.6 + 0.55 * uniform(seeds, "density")[:, 0]
    s, e, yaw, kind, present = [], [], [], [], []

    def add(along: Tensor, across: Tensor, turn: Tensor | float, category: Tensor, there: Tensor) -> None:
        s.append(along)
        e.append(across.expand_as(along) if across.ndim == 2 else across[:, None].expand_as(along))
        yaw.append(torch.as_tensor(turn).expand(b))
        kind.append(category)
        present.append(there)

    def driven(i: int) -> Tensor:
        return choose(u[:, i, 0], _DRIVEN)

    # in the ego's lane: one ahead and one behind that keep their distance
    drift = (u[:, 0, 1] - 0.5) * 3.0
    gap = 12 + 14 * u[:, 0, 2] + (-drift).clamp(min=0) * span
    moving = (pace > 1.0).float()
    add(s_ego + gap[:, None] + (drift * moving)[:, None] * times, plan.ego, 0.0, driven(0), u[:, 0, 3] < 0.75 * density)
    drift = (u[:, 1, 1] - 0.5) * 3.0
    gap = 11 + 14 * u[:, 1, 2] + drift.clamp(min=0) * span
    add(s_ego - gap[:, None] + (drift * moving)[:, None] * times, plan.ego, 0.0, driven(1), u[:, 1, 3] < 0.7 * density)
    # other lanes of the same direction
    first = plan.ego / plan.lane - 0.5
    for i, (low, high) in ((2, (-22.0, 2.0)), (3, (8.0, 26.0))):
        step = torch.where(first > 0.5, first - 1, first + 1)
        lane = (step + 0.5) * plan.lane
        rate = (pace + 5 * (u[:, i, 1] - 0.4)).clamp(min=0.0)
        start = s_ego[:, :1] + (low + (high - low) * u[:, i, 2])[:, None]
        add(start + rate[:, None] * times, lane, 0.0, driven(i), many & (u[:, i, 3] < 0.8 * density))
    # oncoming
    for i, (low, high) in ((4, (6.0, 24.0)), (5, (32.0, 48.0)), (6, (58.0, 74.0))):
        lane = -((u[:, i, 4] * plan.backward).floor() + 0.5) * plan.lane
        rate = 4 + 11 * u[:, 4, 1]
        start = s_ego[:, :1] + (low + (high - low) * u[:, i, 2])[:, None]
        there = (plan.backward >= 1) & ~passing & (u[:, i, 3] < 1.1 * density)
        add(start - rate[:, None] * times, lane, torch.pi, driven(i), there)
    # parked on both sides
    car = torch.full((b,), _CAR, device=seeds.device)
    strip = plan.parking > 0
    for i, (low, high, near) in ((7, (-6.0, 8.0, True)), (8, (14.0, 34.0, True)), (9, (0.0, 26.0, False))):
        across = plan.near_kerb - 1.1 if near else plan.far_kerb + 1.1
        start = s_ego[:, :1] + (low + (high - low) * u[:, i, 2])[:, None]
        turn = torch.zeros(b, device=seeds.device) if near else torch.where(passing, 0.0, torch.pi)
        add(start + 0 * times, across, turn, car, strip & (u[:, i, 3] < 0.85 * density + 0.1))
    # on the pavement, on the crossing, on a bicycle
    side = torch.where(u[:, 10, 4] < 0.6, plan.near_kerb + plan.merging + 1.7, plan.far_kerb - 1.7)
    onwards = torch.where(u[:, 10, 5] < 0.5, 1.0, -1.0)
    start = s_ego[:, :1] + (4 + 14 * u[:, 10, 2])[:, None]
    rate = (0.9 + 0.7 * u[:, 10, 1]) * onwards
    walker = torch.full_like(car, _PEDESTRIAN)
    add(start + rate[:, None] * times, side, torch.where(onwards > 0, 0.0, torch.pi), walker, u[:, 10, 3] < 0.75)
    reaches = (travelled.amax(1) > plan.crossing - 6) & (travelled.amin(1) < plan.crossing + 4)
    crosses = (plan.ids["pedestrian_crossing"] == 1) & ~reaches & (u[:, 11, 6] < 0.7)
    width = plan.near_kerb - plan.far_kerb
    over = plan.near_kerb + 1.0 - u[:, 11, 2] * 0.7 * width
    cycling = plan.near_kerb - plan.parking - 0.8
    ride = torch.minimum(3 + 3 * u[:, 11, 1], torch.where(plan.cycle > 0, 9.0, pace + 9.0))
    ahead = s_ego[:, :1] + (7 + 22 * u[:, 11, 5])[:, None] + ride[:, None] * times
    along = torch.where(crosses[:, None], plan.crossing[:, None] + 0 * times, ahead)
    across = torch.where(crosses[:, None], over[:, None] - 1.3 * times, cycling[:, None] + 0 * times)
    category = torch.where(crosses, _PEDESTRIAN, _BICYCLE)
    free = (plan.cycle > 0) | (plan.parking > 0)
    add(along, across, torch.where(crosses, -torch.pi / 2, 0.0), category, crosses | (free & (u[:, 11, 3] < 0.6)))
    # further out on both pavements: walkers, riders and things that belong to no other category
    for i, (low, high, near) in ((12, (-16.0, 14.0, True)), (13, (-14.0, 18.0, False)), (14, (3.0, 20.0, True))):
        sort = choose(u[:, i, 0], (0.4, 0.25, 0.35))
        category = torch.where(sort == 0, _PEDESTRIAN, torch.where(sort == 1, _BICYCLE, _OTHER))
        across = plan.near_kerb + plan.merging + 2.2 if near else plan.far_kerb - 2.2
        onwards = torch.where(u[:, i, 5] < 0.5, 1.0, -1.0)
        rate = onwards * torch.where(category == _OTHER, 0.0, torch.where(category == _BICYCLE, 3.5, 1.2))
        start = s_ego[:, :1] + (low + (high - low) * u[:, i, 2])[:, None]
        turn = torch.where(onwards > 0, 0.0, torch.pi)
        add(start + rate[:, None] * times, across, turn, category, u[:, i, 3] < 0.75)
    missing = torch.full_like(car, -1)
    kinds = torch.stack([torch.where(p, k, missing) for k, p in zip(kind, present, strict=True)], dim=-1)
    return torch.stack(s, dim=-1), torch.stack(e, dim=-1), torch.stack(yaw, dim=-1), kinds, u


def _agents(plan: RoadPlan, way: Trajectory, times: Tensor, speed: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes `(b, tv, 15, 7)` in the ego frame of each frame and categories `(b, tv, 15)`."""
    s, e, heading, kind, u = _fleet(plan, way, times.float(), speed, seeds)
    x, y, angle = from_road(s.double(), (e * plan.side[:, None, None]).double(), way.curvature[:, None, None])
    # across-the-road headings are given for e, which is mirrored where one drives on the right
    upright = (heading.abs() - torch.pi / 2).abs() < 0.1
    turned = torch.where(upright, heading * plan.side[:, None], heading)
    yaw = angle + turned[:, None].double()
    sizes = torch.tensor([SIZES[name] for name in AGENT_CATEGORIES], dtype=torch.float64, device=s.device)
    size = sizes[kind.clamp(min=0)] * (0.93 + 0.14 * u[..., 5:8].double())
    dx, dy = x - way.frame_x[..., None], y - way.frame_y[..., None]
    cos, sin = way.frame_yaw.cos()[..., None], way.frame_yaw.sin()[..., None]
    relative = yaw - way.frame_yaw[..., None]
    relative = relative - 2 * torch.pi * (relative / (2 * torch.pi)).round()
    size = size[:, None].expand(*dx.shape, 3)
    boxes = torch.stack(
        [cos * dx + sin * dy, cos * dy - sin * dx, size[..., 2] / 2, *size.unbind(-1), relative], dim=-1
    )
    gone = (kind[:, None] < 0) | (dx.square() + dy.square() > _SEEN**2)
    boxes = torch.where(gone[..., None], torch.nan, boxes)
    return boxes, torch.where(gone, -1, kind[:, None].expand_as(gone))


def _jittered(rig: CameraRig, numbers: np.ndarray) -> CameraRig:
    """The rig with slightly moved, turned and zoomed cameras; `numbers` (n + 1, 6) in [0, 1)."""
    n = rig.num_cameras
    spread = 2 * numbers - 1
    whole, own = spread[:1], spread[1 : n + 1]
    angle = np.deg2rad(1.5 * own[:, :3] + np.array([1.0, 1.5, 3.0]) * whole[:, :3])  # roll, pitch, yaw
    c, s = np.cos(angle), np.sin(angle)
    turn = np.zeros((n, 3, 3))
    turn[:, 0] = np.stack([c[:, 1] * c[:, 2], s[:, 0] * s[:, 1] * c[:, 2] - c[:, 0] * s[:, 2],
                           c[:, 0] * s[:, 1] * c[:, 2] + s[:, 0] * s[:, 2]], axis=-1)  # fmt: skip
    turn[:, 1] = np.stack([c[:, 1] * s[:, 2], s[:, 0] * s[:, 1] * s[:, 2] + c[:, 0] * c[:, 2],
                           c[:, 0] * s[:, 1] * s[:, 2] - s[:, 0] * c[:, 2]], axis=-1)  # fmt: skip
    turn[:, 2] = np.stack([-s[:, 1], s[:, 0] * c[:, 1], c[:, 0] * c[:, 1]], axis=-1)
    extrinsics = np.array(rig.extrinsics)
    extrinsics[:, :3, :3] = turn @ extrinsics[:, :3, :3]
    extrinsics[:, 2, 3] *= 1 + 0.10 * whole[0, 3]
    extrinsics[:, :2, 3] += 0.08 * own[:, 3:5]
    intrinsics = np.array(rig.intrinsics)
    intrinsics[:, :2, :2] *= (1 + 0.06 * whole[0, 5] + 0.02 * own[:, 5])[:, None, None]
    return rig.replace(extrinsics=extrinsics, intrinsics=intrinsics)


def sample_scenes(
    seeds: Tensor, rigs: Sequence[CameraRig], *, num_frames: int, frame_rates: Sequence[float], jitter: bool
) -> list[Scene]:
    """Scenes with traffic, one for each seed.

    Args:
        seeds: `(b,)` int64.
        rigs: The cameras of each scene, the same number in all.
        num_frames: Frames of each scene.
        frame_rates: Rates (1/s) to choose from.
        jitter: Whether to move, turn and zoom the cameras slightly.

    Returns:
        B scenes with all metadata set, equally spaced timestamps from 0, and 15 rows of agents.
    """
    ids = metadata_ids([{}] * len(seeds), seeds)
    plan = plan_roads(ids, seeds)
    rates = torch.tensor(list(frame_rates), dtype=torch.float64, device=seeds.device)
    rate = rates[(uniform(seeds, "frame rate")[:, 0] * len(rates)).long()]
    times = torch.arange(num_frames, dtype=torch.float64, device=seeds.device)[None] / rate[:, None]
    speed, curvature = _motion(plan, times.float(), seeds)
    limits = torch.tensor(METADATA["speed_limit"], device=seeds.device) / 3.6
    fitting = torch.searchsorted(limits.contiguous(), speed.amax(1) * 0.92).clamp(max=len(limits) - 1)
    ids["speed_limit"] = torch.maximum(fitting, ids["speed_limit"])
    speed, curvature = speed.double(), curvature.double()
    stamps = times[..., None].expand(-1, -1, rigs[0].num_cameras)
    way = drive(stamps, speed, curvature, plan, seeds)
    boxes, category = _agents(plan, way, times, speed, seeds)
    track = torch.where(category >= 0, torch.arange(category.shape[-1], device=seeds.device), -1)
    wobble = uniform(seeds, "rig", (rigs[0].num_cameras + 1) * 6).reshape(len(seeds), -1, 6).double()
    arrays = [v.cpu().numpy() for v in (stamps, speed, curvature, boxes, category, track, wobble)]
    values = {name: index.tolist() for name, index in ids.items()}
    return [
        Scene(
            rig=_jittered(rigs[i], arrays[6][i]) if jitter else rigs[i],
            timestamps=arrays[0][i],
            speed=arrays[1][i],
            curvature=arrays[2][i],
            agents=Agents(boxes=arrays[3][i], category=arrays[4][i], track_id=arrays[5][i]),
            metadata={name: METADATA[name][index[i]] for name, index in values.items()},
        )
        for i in range(len(seeds))
    ]
