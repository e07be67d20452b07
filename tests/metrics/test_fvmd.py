"""The motion distance: histograms against a direct count, and monotone in what spoils motion."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gaia2.metrics.frechet import frechet_distance
from gaia2.metrics.fvmd import FrechetVideoMotionDistance, OpticalFlowTracker

SIZE = (32, 48)


class Given:
    """Tracks that a test prescribes: all points move by `step(frame)`."""

    name = "given"

    def __init__(self, steps: torch.Tensor) -> None:
        self.steps = steps

    def __call__(self, video, points, starts, length):
        moved = torch.cat([torch.zeros(1, 2), self.steps.cumsum(0)])
        return torch.stack([points + (moved[s : s + length] - moved[s])[:, None] for s in starts])


def drive(speed: float, frames: int = 20, seed: int = 0) -> torch.Tensor:
    """A video `(tv, 3, hv, wv)` of a smooth texture that moves left by `speed` pixels a frame."""
    generator = torch.Generator().manual_seed(seed)
    texture = F.interpolate(torch.rand(1, 3, 8, 60, generator=generator), size=(32, 240), mode="bicubic")[0].clamp(0, 1)
    x = (torch.arange(48) + 0.5)[None, :] + speed * torch.arange(frames)[:, None]
    unit = torch.stack(
        [(x / 120 - 1)[:, None].expand(-1, 32, -1), torch.linspace(-1, 1, 32)[None, :, None].expand(frames, -1, 48)], -1
    )
    video = F.grid_sample(texture.expand(frames, -1, -1, -1), unit, align_corners=False, padding_mode="border")
    return (video * 255).round().byte()


def distance(real: torch.Tensor, made: torch.Tensor) -> float:
    metric = FrechetVideoMotionDistance(stride=2, grid=10)
    return frechet_distance(metric.features(real), metric.features(made))


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return torch.stack([drive(0.8 + 0.1 * seed, seed=seed) for seed in range(4)])


def test_histograms_are_magnitudes_by_direction() -> None:
    steps = torch.zeros(15, 2)
    steps[:, 0] = 2.0  # to the right: direction 0
    steps[3] = torch.tensor([0.0, -1.0])  # once upwards: direction 6 of 8
    metric = FrechetVideoMotionDistance(Given(steps), segment_frames=16, grid=4, cube=(4, 2, 2), bins=8)
    features = metric.features(torch.zeros(1, 16, 3, *SIZE, dtype=torch.uint8))[0]
    velocity, acceleration = features.reshape(2, 4, 2, 2, 8)
    # frames 0..3 hold no step, 2, 2, 2; frames 4..7 the upward one and three of 2; four points a cube
    want = torch.zeros(4, 8)
    want[:, 0] = torch.tensor([24.0, 24.0, 32.0, 32.0])
    want[1, 6] = 4.0
    torch.testing.assert_close(velocity, want[:, None, None].expand(4, 2, 2, 8))
    # accelerations: (2, 0) at frame 1, (-2, -1) at 4, (2, 1) at 5
    want = torch.zeros(4, 8)
    want[0, 0] = 8.0
    want[1, 4] = 4 * math.sqrt(5)  # atan2(-1, -2) is in the fifth eighth
    want[1, 0] = 4 * math.sqrt(5)
    torch.testing.assert_close(acceleration, want[:, None, None].expand(4, 2, 2, 8))


def test_tracker_follows_the_texture() -> None:
    tracks = OpticalFlowTracker()(drive(1.5), torch.tensor([[40.0, 16.0]]), [0, 4], 12)
    moved = tracks[:, -1] - tracks[:, 0]
    torch.testing.assert_close(moved, torch.tensor([[[-16.5, 0.0]]]).expand(2, 1, 2), atol=1.5, rtol=0)


def test_rises_with_jitter(real: torch.Tensor) -> None:
    def jittered(pixels: int) -> torch.Tensor:
        shifts = torch.randint(-pixels, pixels + 1, (real.shape[1],), generator=torch.Generator().manual_seed(0))
        return torch.stack([real[:, t].roll(int(s), dims=-1) for t, s in enumerate(shifts)], dim=1)

    values = [distance(real, jittered(pixels)) for pixels in (0, 1, 3)]
    assert values[0] < 1e-3 < values[1] < values[2]


def test_rises_with_dropped_frames(real: torch.Tensor) -> None:
    def dropped(every: int) -> torch.Tensor:
        kept = torch.arange(real.shape[1]) // every * every  # the last frame stays where one is dropped
        return real[:, kept]

    values = [distance(real, dropped(every)) for every in (1, 2, 4)]
    assert values[0] < 1e-3 < values[1] < values[2]


def test_rises_with_speed_and_is_small_between_halves() -> None:
    speeds = (0.8, 0.9, 1.0, 1.1)
    one = torch.stack([drive(s, seed=i) for i, s in enumerate(speeds)])
    half = torch.stack([drive(s, seed=10 + i) for i, s in enumerate(speeds)])
    faster = [torch.stack([drive(f * s, seed=10 + i) for i, s in enumerate(speeds)]) for f in (2, 3)]
    same, more, most = distance(one, half), distance(one, faster[0]), distance(one, faster[1])
    assert 4 * same < more < most


def test_parts_merge_to_one_pass() -> None:
    videos = torch.randint(0, 256, (3, 16, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    whole, parts = FrechetVideoMotionDistance(grid=10), [FrechetVideoMotionDistance(grid=10) for _ in range(2)]
    for metric, share in ((whole, slice(0, 3)), (parts[0], slice(0, 1)), (parts[1], slice(1, 3))):
        metric.update(videos[share], real=True)
        metric.update(videos[share].flip(1), real=False)
    parts[0].merge(parts[1])
    assert math.isclose(parts[0].compute(), whole.compute(), rel_tol=1e-6)


def test_bad_input() -> None:
    metric = FrechetVideoMotionDistance(Given(torch.zeros(15, 2)))
    with pytest.raises(ValueError, match="tv at least 16"):
        metric.update(torch.zeros(1, 8, 3, *SIZE, dtype=torch.uint8), real=True)
    with pytest.raises(ValueError, match="videos in both sets"):
        metric.compute()
    metric.update(torch.zeros(1, 16, 3, *SIZE, dtype=torch.uint8), real=True)
    with pytest.raises(ValueError, match=r"frames of \(32, 48\) as before, got \(16, 16\)"):
        metric.update(torch.zeros(1, 16, 3, 16, 16, dtype=torch.uint8), real=False)
    with pytest.raises(ValueError, match="sizes that divide"):
        FrechetVideoMotionDistance(grid=7)
