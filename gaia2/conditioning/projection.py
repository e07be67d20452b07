"""The boxes of a scene as each camera sees them. Plain tensors, no parameters.

Axes: n cameras, m boxes; `...` leading axes, such as b and t. Image coordinates are normalised by the image size:
(0, 0) is the outer corner of the top left pixel, (1, 1) that of the bottom right one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from gaia2._checks import real_number, refuse
from gaia2.conditioning.lens import image_rays, intrinsic_matrix, lens_limit, project_points
from gaia2.nn.embeddings import full_precision
from gaia2.nn.shapes import check_last_axis
from gaia2.scene import DISTORTION_MODELS, CameraRig, Scene

_CONE_SIDES = 16
_WIDEST = 1e6
_IMAGE_CORNERS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))
_CORNERS = tuple((x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5))
_EDGES = tuple((i, i + step) for step in (1, 2, 4) for i in range(8) if not i & step)


def project_boxes(
    boxes: torch.Tensor,
    category: torch.Tensor,
    intrinsics: torch.Tensor,
    extrinsics: torch.Tensor,
    distortion: torch.Tensor | None = None,
    distortion_model: torch.Tensor | None = None,
    image_size: tuple[int, int] | torch.Tensor | None = None,
    *,
    near: float = 0.1,
) -> torch.Tensor:
    """Describe 3D boxes as each camera sees them: the 13 features of paper §2.2.3, Dynamic Agents.

    The 2D box bounds the projected corners, clipped to the image. Where a box reaches behind the camera or out of the
    range of the lens model, its edges are cut there first. Boxes of which nothing lies inside the image are absent.
    A box with an unknown size or yaw is kept where its centre is inside the image, with an unknown 2D box.

    The leading axes of the cameras are the first ones of the boxes: cameras `(b, n, ...)` go with boxes
    `(b, t, m, 7)`, and cameras `(n, ...)` with any.

    Args:
        boxes: `(..., m, 7)` x y z of the centre, length width height (metres), yaw (radians, 0 ahead,
            counter-clockwise positive) in the ego frame (x forward, y left, z up); NaN where a feature is absent.
        category: `(..., m)` integer id; -1 where there is no box.
        intrinsics: `(..., n, 3, 3)` in pixels of `image_size`, or, with `image_size` None, normalised by it; or
            `(..., n, 4)` fx fy cx cy in the same unit.
        extrinsics: `(..., n, 4, 4)` camera (x right, y down, z forward) to ego, metres.
        distortion: `(..., n, 8)` pinhole k1 k2 p1 p2 k3 k4 k5 k6, or fisheye k1..k4 and zeros; None is no distortion.
        distortion_model: `(..., n)` integer, 0 pinhole, 1 fisheye; None is pinhole.
        image_size: (height, width) in pixels, one pair or `(..., n, 2)`; None if `intrinsics` are normalised.
        near: Depth in metres from which things are seen.

    Returns:
        `(..., n, m, 13)`: x1 y1 x2 y2 (0 to 1 of the image) | centre x y z in the camera frame (metres) | length width
        height (metres) | sin and cos of the yaw relative to the optical axis, about the ego up axis | category id.
        An absent row is NaN with category -1.

    Raises:
        ValueError: If a shape does not fit, or the cameras have leading axes that the boxes do not have.

    Example:
        >>> ahead = torch.tensor([[20.0, 0.0, 1.5, 4.0, 2.0, 1.5, 0.0]])
        >>> mount = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
        >>> camera = torch.tensor([0.75, 1.5, 0.5, 0.5])
        >>> features = project_boxes(ahead, torch.tensor([0]), camera[None], mount[None])
        >>> features[0, 0, 4:].tolist()
        [0.0, 0.0, 20.0, 4.0, 2.0, 1.5, 0.0, 1.0, 0.0]
    """
    real_number("near", near, above=0, what="a depth in metres")
    for name, tensor in (("boxes", boxes), ("intrinsics", intrinsics), ("extrinsics", extrinsics)):
        check_last_axis(name, tensor, rank=1)
    if not isinstance(category, torch.Tensor) or category.is_complex() or category.dtype == torch.bool:
        raise refuse("category", "integer ids (..., m) as a torch.Tensor", category)
    boxes = full_precision(boxes)
    lead = boxes.shape[:-2]
    if boxes.ndim < 2 or boxes.shape[-1] != 7 or category.shape != boxes.shape[:-1]:
        raise ValueError(
            f"boxes: expected boxes (..., m, 7) with category (..., m), got {tuple(boxes.shape)} and "
            f"{tuple(category.shape)}; a box is x y z length width height yaw"
        )
    cameras = _cameras(lead, boxes, intrinsics, extrinsics, distortion, distortion_model, image_size)
    whole = boxes.isfinite().all(dim=-1)
    solid = torch.where(whole[..., None], boxes, boxes.new_tensor([0.0, 0, 0, 1, 1, 1, 0]))
    bounds, visible = _image_bounds(solid[..., None, :, :], cameras, near)

    centre = cameras.from_ego(boxes[..., None, :, :3], axes=1)
    spot = cameras.project(centre, axes=1)
    slope = centre[..., :2].norm(dim=-1) / centre[..., 2].clamp(min=near)
    inside = ((spot >= 0) & (spot <= 1)).all(dim=-1) & (centre[..., 2] >= near) & (slope <= cameras.limit[..., None])
    whole = whole[..., None, :].expand(inside.shape)
    present = torch.where(whole, visible, inside) & (category >= 0)[..., None, :]

    optical_axis = torch.atan2(cameras.rotation[..., 1, 2], cameras.rotation[..., 0, 2])
    yaw = boxes[..., None, :, 6] - optical_axis[..., None]
    bounds = bounds.masked_fill(~whole[..., None], torch.nan)
    size = boxes[..., None, :, 3:6].expand(centre.shape)
    features = torch.cat([bounds, centre, size, yaw.sin()[..., None], yaw.cos()[..., None]], dim=-1)
    features = torch.where(present[..., None], features, torch.nan)
    ids = torch.where(present, category[..., None, :], -1).to(features.dtype)
    return torch.cat([features, ids[..., None]], dim=-1)


def project_agents(scene: Scene, frames: slice = slice(None)) -> torch.Tensor:
    """The agents of a scene as each camera sees them.

    Args:
        scene: Any scene; row m of the result is row m of `scene.agents`.
        frames: Which frames.

    Returns:
        `(tv, n, m, 13)` float64, see `project_boxes`.
    """
    boxes, category = torch.tensor(scene.agents.boxes[frames]), torch.tensor(scene.agents.category[frames])
    return project_into(scene.rig, boxes, category)


def project_into(rig: CameraRig, boxes: torch.Tensor, category: torch.Tensor) -> torch.Tensor:
    """3D boxes as each camera of a rig sees them.

    Args:
        rig: The cameras.
        boxes: `(..., m, 7)` in the ego frame, see `project_boxes`.
        category: `(..., m)`.

    Returns:
        `(..., n, m, 13)`.
    """
    return project_boxes(
        boxes,
        category,
        torch.tensor(rig.intrinsics),
        torch.tensor(rig.extrinsics),
        torch.tensor(rig.distortion),
        torch.tensor(model_ids(rig)),
        torch.tensor(rig.image_size),
    )


def model_ids(rig: CameraRig) -> np.ndarray:
    """Index of each camera's lens model in `DISTORTION_MODELS`, `(n,)`."""
    return np.array([DISTORTION_MODELS.index(model) for model in rig.distortion_model], dtype=np.int64)


class _Cameras(NamedTuple):
    """Cameras `(..., n)` whose leading axes broadcast against those of the boxes; image size 1 x 1."""

    matrix: torch.Tensor
    rotation: torch.Tensor
    mount: torch.Tensor
    lens: torch.Tensor
    model: torch.Tensor
    limit: torch.Tensor
    rays: torch.Tensor

    def from_ego(self, points: torch.Tensor, axes: int) -> torch.Tensor:
        """Ego points in the camera frames; `axes` is how many axes of points `(..., n, <axes>, 3)` a camera has."""
        rotation, mount = _stretch(self.rotation, axes, 2), _stretch(self.mount, axes, 1)
        return (rotation * (points - mount)[..., None]).sum(dim=-2)

    def project(self, points: torch.Tensor, axes: int) -> torch.Tensor:
        """Image points of camera points `(..., n, <axes>, 3)`."""
        return project_points(
            points, _stretch(self.matrix, axes, 2), _stretch(self.lens, axes, 1), _stretch(self.model, axes, 0)
        )


def _stretch(tensor: torch.Tensor, axes: int, own: int) -> torch.Tensor:
    """Put `axes` axes of size 1 before the last `own` ones."""
    return tensor.reshape(*tensor.shape[: tensor.ndim - own], *(1,) * axes, *tensor.shape[tensor.ndim - own :])


def _cameras(
    lead: torch.Size,
    boxes: torch.Tensor,
    intrinsics: torch.Tensor,
    extrinsics: torch.Tensor,
    distortion: torch.Tensor | None,
    distortion_model: torch.Tensor | None,
    image_size: tuple[int, int] | torch.Tensor | None,
) -> _Cameras:
    """Check the cameras and bring them into the form of `_Cameras`."""
    cameras = extrinsics.shape[:-2]
    own = cameras[:-1]
    if extrinsics.shape[-2:] != (4, 4) or not cameras:
        raise ValueError(f"extrinsics: expected (..., n, 4, 4), got {tuple(extrinsics.shape)}")
    if len(own) > len(lead) or any(size not in (1, wanted) for size, wanted in zip(own, lead, strict=False)):
        raise ValueError(
            f"extrinsics: expected the leading axes of the boxes, {tuple(lead)}, or the first of them, got "
            f"{tuple(own)} in {tuple(extrinsics.shape)}"
        )
    if tuple(intrinsics.shape) not in ((*cameras, 3, 3), (*cameras, 4)):
        raise ValueError(
            f"intrinsics: expected {(*cameras, 3, 3)} or {(*cameras, 4)}, as the extrinsics have it, got "
            f"{tuple(intrinsics.shape)}"
        )
    for name, tensor, shape in (
        ("distortion", distortion, (*cameras, 8)),
        ("distortion_model", distortion_model, tuple(cameras)),
    ):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"{name}: expected {shape}, as the extrinsics have it, got {tuple(tensor.shape)}")

    extrinsics, intrinsics = extrinsics.to(boxes), intrinsics.to(boxes)
    matrix = intrinsics
    if intrinsics.shape[-1] == 4:
        matrix = intrinsic_matrix(intrinsics)
    if image_size is not None:
        size = torch.as_tensor(image_size).to(boxes).expand(*cameras, 2)
        matrix = matrix / torch.cat([size.flip(-1), torch.ones_like(size[..., :1])], dim=-1)[..., None]
    lens = boxes.new_zeros(*cameras, 8) if distortion is None else distortion.to(boxes)
    model = torch.zeros(cameras, dtype=torch.int64, device=boxes.device)
    if distortion_model is not None:
        model = distortion_model.to(boxes.device)

    def align(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(*own, *(1,) * (len(lead) - len(own)), *tensor.shape[len(own) :])

    matrix, pose, lens, model = align(matrix), align(extrinsics), align(lens), align(model)
    limit, ideal, seen = lens_limit(lens, model)
    rays = image_rays(matrix.new_tensor(_IMAGE_CORNERS), matrix, ideal, seen)  # of the corners, of depth 1
    return _Cameras(matrix, pose[..., :3, :3], pose[..., :3, 3], lens, model, limit, rays)


def _image_bounds(boxes: torch.Tensor, cameras: _Cameras, near: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Bounds of finite boxes `(..., 1, m, 7)` in the image, and whether anything of them is in it.

    Returns:
        x1 y1 x2 y2 `(..., n, m, 4)`, clipped to the image, and `(..., n, m)` bool.
    """
    corners = boxes[..., None, 3:6] * boxes.new_tensor(_CORNERS)
    corners = turn(corners, boxes[..., None, 6]) + boxes[..., None, :3]
    corners = cameras.from_ego(corners, axes=2)
    # Signed distances to the planes around what the camera can see: the near plane and the sides of a cone.
    turns = 2 * math.pi / _CONE_SIDES * torch.arange(_CONE_SIDES, dtype=boxes.dtype, device=boxes.device)
    slope = _stretch((cameras.limit * math.cos(math.pi / _CONE_SIDES)).clamp(max=_WIDEST), 3, 0)
    x, y, z = corners.split(1, dim=-1)
    distance = torch.cat([z - near, slope * z - x * turns.cos() - y * turns.sin()], dim=-1)
    first, last = (torch.tensor(ends, device=boxes.device) for ends in zip(*_EDGES, strict=True))
    start, stop = _clip(distance[..., first, :], distance[..., last, :])
    one, other = corners[..., first, :], corners[..., last, :]
    ends = torch.stack([torch.lerp(one, other, at[..., None]) for at in (start, stop)], dim=-2)
    spots = cameras.project(ends, axes=3)
    in_front = start <= stop

    covered = _hit(boxes, cameras, near)[..., None]
    image_corners = boxes.new_tensor(_IMAGE_CORNERS)

    def candidates(otherwise: float) -> torch.Tensor:
        of_edges = torch.where(in_front[..., None, None], spots, otherwise).flatten(-3, -2)
        return torch.cat([of_edges, torch.where(covered, image_corners, otherwise)], dim=-2)

    low, high = candidates(torch.inf).amin(dim=-2), candidates(-torch.inf).amax(dim=-2)

    one, other = spots.unbind(-2)
    enter, leave = _clip(torch.cat([one, 1 - one], dim=-1), torch.cat([other, 1 - other], dim=-1))
    crosses = (in_front & (enter <= leave)).any(dim=-1)
    return torch.cat([low, high], dim=-1).clamp(0, 1), crosses | covered.any(dim=(-2, -1))


def _clip(first: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Part of segments inside of all planes, from the signed distances `(..., planes)` of their two ends.

    Returns:
        Start and stop `(...)` from 0 to 1 along the segment; start > stop where nothing is inside.
    """
    crossing = first / (first - last)
    start = torch.where((first < 0) & (last >= 0), crossing, 0.0).amax(dim=-1)
    stop = torch.where((first >= 0) & (last < 0), crossing, 1.0).amin(dim=-1)
    outside = ((first < 0) & (last < 0)).any(dim=-1)
    return start, torch.where(outside, -1.0, stop)


def _hit(boxes: torch.Tensor, cameras: _Cameras, near: float) -> torch.Tensor:
    """Which corners of the image boxes `(..., 1, m, 7)` fill: `(..., n, m, 4)` bool."""
    back = -boxes[..., 6]
    ego = (cameras.rotation[..., None, :, :] * cameras.rays[..., None, :]).sum(dim=-1)
    ahead = turn(ego[..., None, :, :], back[..., None])
    origin = turn(cameras.mount[..., None, :] - boxes[..., :3], back)[..., None, :]
    half = boxes[..., None, 3:6] / 2
    ahead = torch.where(ahead.abs() < 1e-12, 1e-12, ahead)
    one, other = (-half - origin) / ahead, (half - origin) / ahead
    enter, leave = torch.minimum(one, other).amax(dim=-1), torch.maximum(one, other).amin(dim=-1)
    return leave >= enter.clamp(min=near)


def turn(points: torch.Tensor, yaw: torch.Tensor) -> torch.Tensor:
    """Turn points `(..., 3)` about the z axis by `yaw (...)`."""
    x, y, z = points.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y, z.expand(torch.broadcast_shapes(z.shape, yaw.shape))], -1)
