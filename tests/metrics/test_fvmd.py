"""The motion distance: histograms against a direct count, and monotone in what spoils motion."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from gaia2.data.procedural import ProceduralWorld
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


def distance(real: torch.Tensor, made: torch.Tensor, side: int = 64) -> float:
    metric = FrechetVideoMotionDistance(stride=4, grid=10, side=side)  # small, to be quick
    return frechet_distance(metric.features(real), metric.features(made))


@pytest.fixture(scope="module")
def real() -> torch.Tensor:
    return torch.stack([drive(0.8 + 0.1 * seed, seed=seed) for seed in range(4)])


def test_histograms_are_steps_of_magnitude_by_direction() -> None:
    """Against the authors' layout, worked out by hand: ceil(log2(1 + pixels)) / 8 at the angle from the y axis."""
    steps = torch.zeros(15, 2)
    steps[:, 0] = 2.0  # to the right: log2(3) is above 1: step 2 of 8; a quarter turn from y: direction 6
    steps[3] = torch.tensor([0.0, -1.0])  # once upwards: log2(2) is 1: step 1; half a turn: direction 7, the last
    metric = FrechetVideoMotionDistance(Given(steps), segment_frames=16, grid=4, cube=(4, 2, 2), bins=8)
    features = metric.features(torch.zeros(1, 16, 3, *SIZE, dtype=torch.uint8))[0]
    velocity, acceleration = features.reshape(2, 4, 2, 2, 8)
    # frames 0..3 hold no step and three to the right; 4..7 the one upwards and three to the right; four points a cube
    want = torch.zeros(4, 8)
    want[:, 6] = 4 * torch.tensor([3.0, 3.0, 4.0, 4.0]) * 2 / 8
    want[1, 7] = 4 * 1 / 8
    torch.testing.assert_close(velocity, want[:, None, None].expand(4, 2, 2, 8))
    # (2, 0) at frame 1: step 2; (-2, -1) at 4 and (2, 1) at 5: log2(1 + 2.24) is above 1: step 2
    want = torch.zeros(4, 8)
    want[0, 6] = 4 * 2 / 8
    want[1, 1] = 4 * 2 / 8  # atan2(-2, -1) is -117 degrees: 63 from the beginning, in the second eighth
    want[1, 5] = 4 * 2 / 8  # atan2(2, 1) is 63 degrees: 243 from the beginning, in the sixth
    torch.testing.assert_close(acceleration, want[:, None, None].expand(4, 2, 2, 8))


@pytest.mark.parametrize(("pixels", "step"), [(0.0, 0), (0.5, 1), (1.0, 1), (1.1, 2), (3.0, 2), (254.0, 8), (900.0, 8)])
def test_magnitudes_come_in_nine_steps(pixels: float, step: int) -> None:
    metric = FrechetVideoMotionDistance(Given(torch.zeros(1, 2)), segment_frames=4, grid=4, cube=(4, 4, 4))
    vectors = torch.zeros(1, 4, 16, 2)
    vectors[0, 1, 3] = torch.tensor([0.0, -pixels])
    assert metric._histograms(vectors).sum() == step / 8


def test_frames_points_and_features_are_those_of_the_paper() -> None:
    seen = {}

    class Looks(Given):
        def __call__(self, video, points, starts, length):
            seen.update(shape=tuple(video.shape), points=points, starts=list(starts), length=length)
            return super().__call__(video, points, starts, length)

    features = FrechetVideoMotionDistance(Looks(torch.zeros(19, 2))).features(
        torch.zeros(1, 19, 3, *SIZE, dtype=torch.uint8)
    )
    assert features.shape == (4, 2 * 4 * 4 * 4 * 8)
    assert (seen["shape"], seen["starts"], seen["length"]) == ((19, 3, 256, 256), [0, 1, 2, 3], 16)
    points = seen["points"].reshape(20, 20, 2)
    torch.testing.assert_close(points[0, :, 0], 8 + torch.arange(20) / 19 * 240)
    torch.testing.assert_close(points[:, 5, 1], 8 + torch.arange(20) / 19 * 240)


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

    values = [distance(real, dropped(every)) for every in (1, 2)]
    assert values[0] < 1e-3 < values[1]


def test_rises_with_speed_and_is_small_between_halves() -> None:
    speeds = (0.8, 0.9, 1.0, 1.1)
    one = torch.stack([drive(s, seed=i) for i, s in enumerate(speeds)])
    half = torch.stack([drive(s, seed=10 + i) for i, s in enumerate(speeds)])
    faster = [torch.stack([drive(f * s, seed=10 + i) for i, s in enumerate(speeds)]) for f in (2, 3)]
    same, more, most = (distance(one, other, side=256) for other in (half, *faster))
    assert 2 * same < more < most


def test_parts_merge_to_one_pass() -> None:
    videos = torch.randint(0, 256, (3, 16, 3, *SIZE), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    whole, parts = (
        FrechetVideoMotionDistance(grid=10, side=64),
        [FrechetVideoMotionDistance(grid=10, side=64) for _ in range(2)],
    )
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
    metric.update(torch.zeros(1, 16, 3, *SIZE, dtype=torch.uint8), real=True, frame_rate=10)
    with pytest.raises(ValueError, match="10 frames a second as before, got 25"):
        metric.update(torch.zeros(1, 16, 3, *SIZE, dtype=torch.uint8), real=False, frame_rate=25)
    with pytest.raises(ValueError, match="sizes that divide"):
        FrechetVideoMotionDistance(grid=7)
    with pytest.raises(ValueError, match="more than 16 pixels"):
        FrechetVideoMotionDistance(side=16)


@pytest.mark.long
def test_rises_on_rendered_drives() -> None:
    """Jitter, dropped frames and another speed of drives of the procedural world, against another half of them."""
    world = ProceduralWorld("front", num_frames=20, rays=1)
    seeds = list(range(500_700_000, 500_700_016))
    scenes = [s.replace(speed=6.0 + 0.5 * i, weather="cloudy") for i, s in enumerate(world.sample_scenes(seeds))]

    def drives(factor: float, of: slice) -> torch.Tensor:
        faster = [scene.replace(speed=factor * scene.speed) for scene in scenes[of]]
        return world.render(faster, seeds[of])[:, :, 0]

    def distance(real: torch.Tensor, made: torch.Tensor) -> float:
        metric = FrechetVideoMotionDistance(stride=4)
        return frechet_distance(metric.features(real), metric.features(made))

    one, other = drives(1.0, slice(0, None, 2)), drives(1.0, slice(1, None, 2))
    same = distance(one, other)
    faster = [distance(one, drives(factor, slice(1, None, 2))) for factor in (1.5, 2.0)]
    assert same < faster[0] < faster[1]
    generator = torch.Generator().manual_seed(0)
    shifts = torch.randint(-1, 2, (20,), generator=generator)
    jitter = [
        distance(one, torch.stack([v.roll(k * int(s), -1) for v, s in zip(one.unbind(1), shifts)], 1)) for k in (1, 3)
    ]
    drops = [distance(one, one[:, torch.arange(20) // every * every]) for every in (2, 4)]
    assert 0 < jitter[0] < jitter[1]
    assert 0 < drops[0] < drops[1]
