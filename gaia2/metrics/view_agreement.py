"""Whether cameras that look the same way show the same.

Axes: tv video frames, n cameras, hv wv pixels, p pixels in a list.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gaia2.conditioning.lens import image_rays, lens_limit, project_points
from gaia2.scene import DISTORTION_MODELS, CameraRig

_BLUR = 5
_FEWEST = 60


def view_agreement(frames: torch.Tensor, rig: CameraRig) -> float:
    """Correlation of the colours that pairs of cameras show in the directions that both see.

    Directions are compared, not places: what is near is seen at different ones by cameras that stand apart, so that
    genuine clips do not reach 1. Pictures are blurred a little before.

    Args:
        frames: `(tv, n, 3, hv, wv)` uint8.
        rig: The cameras, at the size of the frames.

    Returns:
        Mean over frames and pairs of cameras; NaN where no two cameras share enough of the view.

    Raises:
        ValueError: If the frames do not fit the rig.
    """
    height, width = frames.shape[-2:]
    if frames.ndim != 5 or frames.shape[1] != rig.num_cameras or tuple(rig.image_size[0]) != (height, width):
        raise ValueError(
            f"frames: expected (tv, {rig.num_cameras}, 3, hv, wv) at the size of the rig, {tuple(rig.image_size[0])}, "
            f"got {tuple(frames.shape)}; use rig.fit"
        )
    matrix, turn = torch.tensor(rig.intrinsics).float(), torch.tensor(rig.extrinsics).float()[:, :3, :3]
    distortion = torch.tensor(rig.distortion).float()
    model = torch.tensor([DISTORTION_MODELS.index(name) for name in rig.distortion_model])
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    limit, ideal, seen = lens_limit(distortion, model)
    rays = image_rays(torch.stack([x.flatten(), y.flatten()], dim=-1), matrix, ideal, seen)
    rays = torch.einsum("nij,npj->npi", turn, rays)
    pictures = F.avg_pool2d(frames.float().flatten(0, 1), _BLUR, stride=1, padding=_BLUR // 2, count_include_pad=False)
    pictures = pictures.unflatten(0, frames.shape[:2])
    values = []
    for one in range(rig.num_cameras):
        for two in range(one + 1, rig.num_cameras):
            there = torch.einsum("ji,pj->pi", turn[two], rays[one])
            at = project_points(there, matrix[two], distortion[two], model[two])
            unit = at / torch.tensor([width, height]) * 2 - 1
            inside = (unit.abs() < 1).all(dim=-1) & (there[:, :2].norm(dim=-1) < limit[two] * there[:, 2])
            if int(inside.sum()) < _FEWEST:
                continue
            grid = unit[inside][None, None].expand(len(frames), -1, -1, -1)
            other = F.grid_sample(pictures[:, two], grid, align_corners=False)[:, :, 0].flatten(1)
            own = pictures[:, one].flatten(2)[:, :, inside].flatten(1)
            a, b = own - own.mean(dim=1, keepdim=True), other - other.mean(dim=1, keepdim=True)
            values.append(((a * b).sum(1) / (a.square().sum(1) * b.square().sum(1)).sqrt().clamp(min=1e-6)).mean())
    return float(torch.stack(values).mean()) if values else float("nan")
