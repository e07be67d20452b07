"""Ego speed and curvature measured in video: how the ground moves under cameras whose geometry is known.

Nothing is learned, so nothing can be learned from the wrong thing: the measure sees pictures, the rig and the time, and
finds the speed and the curvature under which the ground of one picture falls on the ground of the next.

Axes: tv video frames, p pairs of frames, n cameras, hv wv pixels, k points of the ground.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from gaia2.conditioning.lens import image_rays, lens_limit, project_points
from gaia2.scene import DISTORTION_MODELS, CameraRig

SPEEDS = torch.arange(0.0, 26.1, 1.0)
"""Speeds (m/s) that are tried before refining."""
CURVATURES = torch.linspace(-0.024, 0.024, 7)
"""Curvatures (1/m) that are tried before refining."""
KNOTS = 4
"""Times between which the speed is linear."""
LAG = 2
"""Frames between the pictures that are compared at least: decoders make neighbouring frames alike."""
TRAVEL = (1.5, 2.5)
"""Metres between the pictures that are compared while refining: over less, what stands still in them weighs in."""
STANDS = 0.5
"""Speed (m/s) below which no curvature is given."""
_WIDE, _NARROW, _FURTHEST = (16.0, 9.0), (14.0, 6.0), (40.0, 12.0)
"""Reach (m) from the camera and to the sides of the ego, of ground to look at: at first, at last, and at worst."""
_SCALES = ((5, 21, 0.02), (3, 15, 0.03), (1, 9, 0.03))
"""From coarse to fine: pixels of the blur, pixels of what is too wide to count, and contrast that counts as none."""
_CLIP = 2.5
_STEPS = 4
_STILL = 0.25
_LEAST, _FEW = 200, 1000


class EgoMotion(NamedTuple):
    """The ego's motion as pictures show it.

    Attributes:
        speed: `(tv,)` m/s.
        curvature: 1/m, positive to the left.
        agreement: Correlation of the ground of successive pictures under this motion, at most 1.
    """

    speed: np.ndarray
    curvature: float
    agreement: float


class _Ground(NamedTuple):
    """Pixels that look at the ground nearby, and the cameras."""

    pixel: torch.Tensor  # (n, k, 2) image x y
    place: torch.Tensor  # (n, k, 2) metres in the ego frame
    there: torch.Tensor  # (n, k) bool
    pose: torch.Tensor  # (n, 4, 4)
    matrix: torch.Tensor  # (n, 3, 3)
    distortion: torch.Tensor  # (n, 8)
    model: torch.Tensor  # (n,)
    size: tuple[int, int]

    def every(self, stride: int) -> _Ground:
        """Each `stride`-th of the pixels."""
        return self._replace(
            pixel=self.pixel[:, ::stride], place=self.place[:, ::stride], there=self.there[:, ::stride]
        )

    def seen(self, travel: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        """Image x y `(..., n, k, 2)` of the places before the ego went `travel (...)` metres and turned by `turn`."""
        travel, turn = travel[..., None, None], turn[..., None, None]
        chord = travel * torch.sinc(turn / (2 * torch.pi))
        x, y = self.place.unbind(-1)
        cos, sin = turn.cos(), turn.sin()
        before = torch.stack(
            [
                cos * x - sin * y + chord * (turn / 2).cos(),
                sin * x + cos * y + chord * (turn / 2).sin(),
                torch.zeros_like(x).expand(torch.broadcast_shapes(x.shape, turn.shape)),
            ],
            dim=-1,
        )
        of_camera = torch.einsum("nij,...nki->...nkj", self.pose[:, :3, :3], before - self.pose[:, None, :3, 3])
        return project_points(of_camera, self.matrix[:, None], self.distortion[:, None], self.model[:, None])


def measure_ego_motion(frames: torch.Tensor, rig: CameraRig, times: np.ndarray) -> EgoMotion:
    """Measure how the ego moves in a video.

    Args:
        frames: `(tv, n, 3, hv, wv)` uint8.
        rig: The cameras, at the size of the frames.
        times: `(tv,)` seconds, equally spaced.

    Returns:
        The motion; NaN throughout where no camera sees ground nearby.

    Raises:
        ValueError: If the frames do not fit the rig or the times.
    """
    _check(frames, rig, times)
    size = (frames.shape[-2], frames.shape[-1])
    ground = next(
        (g for g in (_ground(rig, size, _WIDE), _ground(rig, size, _FURTHEST)) if int(g.there.sum()) > _LEAST), None
    )
    if ground is None:
        return EgoMotion(np.full(len(frames), np.nan), math.nan, math.nan)
    seconds = torch.tensor(times - times.mean()).float()
    step = float(times[1] - times[0])
    near = _ground(rig, size, _NARROW)
    last = (near if int(near.there.sum()) > _FEW else ground).every(2)
    scales = [_normalised(frames, *scale) for scale in _SCALES]
    if not _stands(scales[0], ground):  # take out what stands still in the pictures, such as the light of head lamps
        scales = [pictures - pictures.mean(dim=0) for pictures in scales]
    best, agreement = torch.zeros(KNOTS + 1), -math.inf
    for start in (0, len(scales) - 1):  # what is coarse survives a blur, what is fine tells the ground from reflections
        motion = _coarse(scales[start], ground.every(4), seconds, step)
        for pictures, metres in zip(scales[1:], TRAVEL, strict=True):
            lag = round(metres / max(float(motion[:KNOTS].mean()) * step, 1e-3))
            lag = min(max(lag, LAG), max(LAG, len(frames) // 3))
            motion, now = _refine(pictures, last, seconds, step, motion, lag)
        if now > agreement:
            best, agreement = motion, now
    speed = _hats(seconds, float(seconds[0]), float(seconds[-1])) @ best[:KNOTS]
    moves = float(speed.mean()) > STANDS
    return EgoMotion(speed.numpy(), float(best[KNOTS]) if moves else math.nan, agreement)


def _check(frames: torch.Tensor, rig: CameraRig, times: np.ndarray) -> None:
    if frames.ndim != 5 or frames.shape[:3] != (len(times), rig.num_cameras, 3) or len(times) <= LAG:
        raise ValueError(
            f"frames: expected (tv, n, 3, hv, wv) of {len(times)} times, at least {LAG + 1}, and {rig.num_cameras} "
            f"cameras, got {tuple(frames.shape)}; give the frames of the scene whose rig and times these are"
        )
    sizes = {(int(height), int(width)) for height, width in rig.image_size}
    if sizes != {tuple(frames.shape[-2:])}:
        raise ValueError(f"rig: expected the size of the frames, {tuple(frames.shape[-2:])}, got {sizes}; use rig.fit")


def _ground(rig: CameraRig, size: tuple[int, int], reach: tuple[float, float]) -> _Ground:
    matrix, pose = torch.tensor(rig.intrinsics).float(), torch.tensor(rig.extrinsics).float()
    distortion = torch.tensor(rig.distortion).float()
    model = torch.tensor([DISTORTION_MODELS.index(name) for name in rig.distortion_model])
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    grid = torch.stack([x.flatten(), y.flatten()], dim=-1)
    _, ideal, seen = lens_limit(distortion, model)
    rays = torch.einsum("nij,nkj->nki", pose[:, :3, :3], image_rays(grid, matrix, ideal, seen))
    down = -rays[..., 2]
    far = pose[:, None, 2, 3] / down.clamp(min=1e-3)
    place = pose[:, None, :2, 3] + far[..., None] * rays[..., :2]
    away = (place - pose[:, None, :2, 3]).norm(dim=-1)
    there = (down > 0.02) & (away < reach[0]) & (place[..., 1].abs() < reach[1])
    most = int(there.sum(dim=1).max().clamp(min=1))
    order = there.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    pick = order[..., None].expand(-1, -1, 2)
    return _Ground(
        grid.expand(len(pose), -1, -1).gather(1, pick), place.gather(1, pick), there.gather(1, order), pose, matrix,
        distortion, model, size,
    )  # fmt: skip


def _normalised(frames: torch.Tensor, narrow: int, wide: int, floor: float) -> torch.Tensor:
    """Brightness `(tv, n, hv, wv)` of structures of some widths (pixels), evened in contrast, and limited."""
    grey = frames.float().mean(dim=2) / 255
    fine = _blur(grey, narrow) - _blur(grey, wide)
    return (fine / (_blur(fine.square(), wide).sqrt() + floor)).clamp(-_CLIP, _CLIP)


def _stands(pictures: torch.Tensor, ground: _Ground) -> bool:
    """Whether most of what the ground shows is the same all the time."""
    moving = pictures - pictures.mean(dim=0)
    power = [(_sample(p, ground.pixel, ground.size)[0] * ground.there).square().sum() for p in (moving, pictures)]
    return float(power[0] / power[1].clamp(min=1e-9)) < _STILL


def _blur(pictures: torch.Tensor, width: int) -> torch.Tensor:
    return F.avg_pool2d(pictures, width, stride=1, padding=width // 2, count_include_pad=False)


def _sample(pictures: torch.Tensor, at: torch.Tensor, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures `(p, n, hv, wv)` at image x y `(n, k, 2)`: values `(p, n, k)` and whether they are inside `(n, k)`."""
    unit = at / torch.tensor([size[1], size[0]]) * 2 - 1
    inside = (unit.abs() < 1).all(dim=-1)
    values = F.grid_sample(pictures.transpose(0, 1), unit.nan_to_num(2.0)[:, :, None], align_corners=False)
    return values[..., 0].transpose(0, 1), inside


def _correlation(before: torch.Tensor, after: torch.Tensor, there: torch.Tensor) -> torch.Tensor:
    """Of values `(p, n, k)`, `(p,)`."""
    a, b = before * there, after * there
    return (a * b).sum((1, 2)) / (a.square().sum((1, 2)) * b.square().sum((1, 2))).sqrt().clamp(min=1e-6)


def _coarse(pictures: torch.Tensor, ground: _Ground, seconds: torch.Tensor, step: float) -> torch.Tensor:
    """The best of a grid of motions: speed (m/s) at each of the knots, then curvature (1/m)."""
    speeds, curvatures = SPEEDS, CURVATURES
    after, _ = _sample(pictures[LAG:], ground.pixel, ground.size)
    scores = torch.empty(len(speeds), len(curvatures), len(pictures) - LAG)
    for i, speed in enumerate(speeds):
        for j, curvature in enumerate(curvatures):
            travel = speed * (step * LAG)
            before, inside = _sample(pictures[:-LAG], ground.seen(travel, travel * curvature), ground.size)
            scores[i, j] = _correlation(before, after, inside & ground.there)
    middle = (seconds[LAG:] + seconds[:-LAG]) / 2
    pitch = float(speeds[1] - speeds[0])
    best, found = -1.0, torch.zeros(KNOTS + 1)
    knots = torch.linspace(float(seconds[0]), float(seconds[-1]), KNOTS)
    for rate in torch.arange(-5.0, 5.01, 0.5):
        # the score of each pair at the speed that it has under this rate
        own = (speeds[:, None] + rate * middle).clamp(0, float(speeds[-1])) / pitch
        low = own.floor().long().clamp(max=len(speeds) - 2)
        share = own - low
        pair = torch.arange(len(middle)).expand_as(low)
        for j, curvature in enumerate(curvatures):
            total = ((1 - share) * scores[low, j, pair] + share * scores[low + 1, j, pair]).mean(dim=1)
            top = int(total.argmax())
            if float(total[top]) > best + 1e-3 * float(rate.abs() > 0):
                best = float(total[top])
                found = torch.cat([(speeds[top] + rate * knots).clamp(min=0), curvature[None]])
    return found


def _hats(seconds: torch.Tensor, first: float, last: float) -> torch.Tensor:
    """Weights `(p, knots)` that interpolate linearly between values at evenly spaced times."""
    place = (seconds - first) / max(last - first, 1e-6) * (KNOTS - 1)
    return (1 - (place[:, None] - torch.arange(KNOTS)).abs()).clamp(min=0)


def _refine(
    pictures: torch.Tensor, ground: _Ground, seconds: torch.Tensor, step: float, motion: torch.Tensor, lag: int
) -> tuple[torch.Tensor, float]:
    """Gauss-Newton on the difference between pictures that lie `lag` frames apart."""
    after, _ = _sample(pictures[lag:], ground.pixel, ground.size)
    hats = _hats((seconds[lag:] + seconds[:-lag]) / 2, float(seconds[0]), float(seconds[-1]))
    small = torch.tensor([0.1] * KNOTS + [2e-4])
    bend = torch.zeros(KNOTS - 2, KNOTS + 1, dtype=torch.float64)
    for i in range(KNOTS - 2):
        bend[i, i : i + 3] = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)

    def moved(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        travel = hats @ values[:KNOTS] * (step * lag)
        at = ground.seen(travel, travel * values[KNOTS])  # (p, n, k, 2)
        unit = at / torch.tensor([ground.size[1], ground.size[0]]) * 2 - 1
        inside = (unit.abs() < 1).all(dim=-1) & ground.there
        flat = F.grid_sample(
            pictures[:-lag].flatten(0, 1)[:, None], unit.nan_to_num(2.0).flatten(0, 1)[:, :, None], align_corners=False
        )
        return flat[:, 0, :, 0].unflatten(0, at.shape[:2]), inside

    best, agreement = motion, -1.0
    for _ in range(_STEPS):
        value, inside = moved(motion)
        now = float(_correlation(value, after, inside).mean())
        if now > agreement:
            best, agreement = motion, now
        elif now < agreement - 1e-4:
            break
        weight = (inside / (1 + (value - after).square())).double()
        slopes = torch.stack([(moved(motion + d)[0] - value) / d.sum() for d in torch.diag(small)], dim=-1).double()
        normal = torch.einsum("pnki,pnk,pnkj->ij", slopes, weight, slopes)
        smooth = 0.02 * normal.diagonal()[:KNOTS].mean() * bend.T @ bend
        normal = normal + smooth + 1e-6 * torch.eye(KNOTS + 1)
        gradient = torch.einsum("pnki,pnk->i", slopes, weight * (after - value).double()) - smooth @ motion.double()
        motion = motion + torch.linalg.solve(normal, gradient).float()
        motion = torch.cat([motion[:KNOTS].clamp(0, 30), motion[KNOTS:].clamp(-0.05, 0.05)])
    return best, agreement
