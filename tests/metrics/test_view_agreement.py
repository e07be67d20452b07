"""Agreement of cameras, on pictures of one distant world and of two."""

from __future__ import annotations

import math

import pytest
import torch

from gaia2.data.procedural.rays import camera_rays
from gaia2.metrics.view_agreement import view_agreement
from gaia2.scene import CameraRig, named_rig


def panorama(rig: CameraRig, seed: int) -> torch.Tensor:
    """What the cameras see of a painted sphere, infinitely far away: `(2, n, 3, hv, wv)`."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.nn.functional.normalize(torch.randn(6, 3, generator=generator), dim=1)
    rays = camera_rays(
        (64, 128),
        torch.tensor(rig.intrinsics),
        torch.tensor(rig.distortion),
        torch.zeros(rig.num_cameras, dtype=torch.bool),
    )
    rays = torch.einsum("nij,njp->nip", torch.tensor(rig.extrinsics)[:, :3, :3].float(), rays)
    waves = (torch.einsum("kj,njp->nkp", 9 * axes, rays) + torch.arange(6)[:, None]).sin()
    colours = (waves.unflatten(1, (3, 2)).mean(dim=2) + 1) / 2
    return (colours.unflatten(-1, (64, 128)) * 255).round().byte().expand(2, -1, -1, -1, -1)


def test_one_world_agrees_and_two_do_not() -> None:
    rig = named_rig("surround", image_size=(64, 128))
    one, two = panorama(rig, 0), panorama(rig, 1)
    assert view_agreement(one, rig) > 0.97
    mixed = one.clone()
    mixed[:, [0, 3]] = two[:, [0, 3]]  # three of the four pairs look into different worlds
    assert view_agreement(mixed, rig) < 0.5


def test_cameras_that_share_nothing_give_nothing() -> None:
    rig = named_rig("front", image_size=(64, 128))
    assert math.isnan(view_agreement(torch.zeros(2, 1, 3, 64, 128, dtype=torch.uint8), rig))


def test_bad_input() -> None:
    rig = named_rig("surround", image_size=(64, 128))
    with pytest.raises(ValueError, match="at the size of the rig"):
        view_agreement(torch.zeros(2, 5, 3, 32, 64, dtype=torch.uint8), rig)
