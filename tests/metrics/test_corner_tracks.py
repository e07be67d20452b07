"""Corners of videos whose motion is known."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gaia2.metrics.corner_tracks import corner_survival, frame_change

HEIGHT, WIDTH = 64, 128


def texture(seed: int, count: int = 1) -> torch.Tensor:
    """Pictures of soft blots, `(i, 3, hv, 2 wv)` uint8."""
    noise = torch.rand(count, 1, HEIGHT // 4, WIDTH // 2, generator=torch.Generator().manual_seed(seed))
    picture = F.interpolate(noise, scale_factor=4, mode="bicubic", align_corners=False).clamp(0, 1)
    return (picture * 255).round().byte().expand(-1, 3, -1, -1)


def moving(pixels: int, frames: int = 17) -> torch.Tensor:
    """A picture that moves sideways."""
    return torch.stack([texture(0)[0, :, :, pixels * t : pixels * t + WIDTH] for t in range(frames)])


def test_corners_of_a_still_or_moving_picture_are_followed() -> None:
    assert corner_survival(moving(0)) == 1.0
    assert corner_survival(moving(1)) > 0.85  # 8 of 128 columns leave the picture


def test_corners_of_a_texture_that_is_made_anew_are_lost() -> None:
    anew = texture(1, 17)[..., :WIDTH]
    assert corner_survival(anew) < 0.25
    half = torch.cat([moving(0)[..., : WIDTH // 2], anew[..., : WIDTH // 2]], dim=-1)
    assert corner_survival(anew) < corner_survival(half) < corner_survival(moving(0))


def test_an_empty_picture_has_no_corners() -> None:
    assert math.isnan(corner_survival(torch.zeros(9, 3, HEIGHT, WIDTH, dtype=torch.uint8)))


def test_change_is_that_of_neighbouring_frames() -> None:
    video = torch.tensor([10, 13, 9, 9], dtype=torch.uint8)[:, None, None].expand(-1, 4, 4)
    assert frame_change(video) == pytest.approx((3 + 4 + 0) / 3)
    with pytest.raises(ValueError, match=r"video: expected two frames or more, got 1; give a longer one"):
        frame_change(video[:1])


@pytest.mark.parametrize("video", [torch.zeros(8, 3, 8, 8, dtype=torch.uint8), torch.zeros(20, 3, 8, 8)])
def test_what_is_no_video_or_too_short_is_turned_down(video: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"video: expected \(tv, 3, hv, wv\) uint8 with tv above span=8, got"):
        corner_survival(video)
