"""Images of the procedural world: reproducible, consistent with the scene, and visibly what it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.data.procedural import ProceduralWorld
from gaia2.scene import AGENT_CATEGORIES, Agents, CameraRig, Scene, named_rig

SIZE = (64, 128)
PLAIN = {
    "country": "germany",
    "weather": "clear",
    "time_of_day": "day",
    "number_of_lanes": 2,
    "bus_lane": False,
    "cycle_lane": False,
    "pedestrian_crossing": False,
    "traffic_light": "none",
    "one_way": False,
    "intersection": "none",
}


@pytest.fixture(scope="module")
def world():
    return ProceduralWorld(rig="front", image_size=SIZE, rays=1)


def scene(num_frames=1, *, rig="front", speed=0.0, curvature=0.0, agents=None, **metadata):
    return Scene.create(
        rig, num_frames=num_frames, speed=speed, curvature=curvature, agents=agents, **{**PLAIN, **metadata}
    )


def one_agent(category, box, num_frames=1):
    return Agents(boxes=[[box]] * num_frames, category=[[AGENT_CATEGORIES.index(category)]] * num_frames)


def picture(world, scenes, seeds) -> np.ndarray:
    """First frame and camera of each, `(b, h, w, 3)` float in [0, 1]."""
    return world.render(scenes, seeds)[:, 0, 0].permute(0, 2, 3, 1).numpy() / 255.0


def ground(frames: torch.Tensor) -> torch.Tensor:
    """The lower 45% of the images."""
    return frames[..., int(frames.shape[-2] * 0.55) :, :].float()


def test_the_same_seed_gives_the_same_bytes_in_any_batch():
    world = ProceduralWorld(image_size=(32, 64), num_frames=2, rays=1)
    clips = world.sample([3, 11, 5])
    again = world.sample([5, 3])
    assert clips[2].frames.tobytes() == again[0].frames.tobytes()
    assert clips[0].frames.tobytes() == again[1].frames.tobytes()
    assert clips[0].scene == again[1].scene
    assert clips[0].frames.shape == (2, 5, 3, 32, 64)
    assert clips[0].frames.dtype == np.uint8
    assert str(clips[0].source) == "procedural/3"


def test_frames_differ_across_seeds(world):
    images = picture(world, [scene()] * 6, range(6))
    for i in range(6):
        for j in range(i):
            assert np.abs(images[i] - images[j]).mean() > 0.02


def test_one_chosen_camera_equals_that_camera_of_all():
    world = ProceduralWorld(image_size=(32, 64), num_frames=2, rays=1)
    scenes = world.sample_scenes([1, 2])
    everything = world.render(scenes, [1, 2])
    one = world.render(scenes, [1, 2], cameras=torch.tensor([4, 0]))
    assert one.shape == (2, 2, 1, 3, 32, 64)
    torch.testing.assert_close(one[0, :, 0], everything[0, :, 4], rtol=0, atol=0)
    torch.testing.assert_close(one[1, :, 0], everything[1, :, 0], rtol=0, atol=0)


def test_absent_metadata_speed_and_curvature_are_chosen_by_the_seed(world):
    bare = Scene.create("front", num_frames=3, speed=None, curvature=None)
    frames = world.render([bare, bare], [1, 2])
    assert float((frames[0].float() - frames[1].float()).abs().mean()) > 5
    assert float((frames[:, 2].float() - frames[:, 0].float()).abs().mean()) > 0.5


def test_standing_ego_without_agents_gives_identical_frames(world):
    frames = world.render([scene(6, speed=0.0)], [1])
    assert bool((frames == frames[:, :1]).all())


def test_ground_moves_with_speed_and_not_at_standstill(world):
    frames = world.render([scene(6, speed=v) for v in (0.0, 3.0, 15.0)] * 2, [1] * 3 + [2] * 3)
    change = (ground(frames)[:, 1:] - ground(frames)[:, :-1]).abs().mean(dim=(1, 2, 3, 4, 5))
    for still, slow, fast in change.reshape(2, 3):
        assert float(still) == 0.0
        assert float(slow) > 1.0
        assert float(fast) > 1.2 * float(slow)


def neighbours(mask: np.ndarray) -> np.ndarray:
    """How many of the nine pixels around each are set."""
    padded = np.pad(mask.astype(int), 1)
    height, width = mask.shape
    return sum(padded[i : i + height, j : j + width] for i in range(3) for j in range(3))


def horizontal_shift(a: torch.Tensor, b: torch.Tensor) -> int:
    """Columns by which `b` has to be moved left to match `a`, from the correlation of a band above the horizon."""
    rows = slice(int(0.3 * a.shape[-2]), int(0.5 * a.shape[-2]))
    a, b = (v[..., rows, :].double().mean(0) for v in (a, b))
    scores = {}
    for shift in range(-16, 17):
        width = a.shape[-1] - abs(shift)
        left = a[:, max(0, -shift) : max(0, -shift) + width]
        right = b[:, max(0, shift) : max(0, shift) + width]
        scores[shift] = float(np.corrcoef(left.reshape(-1), right.reshape(-1))[0, 1])
    return max(scores, key=scores.get)


def test_a_left_turn_moves_the_scenery_to_the_right(world):
    scenes = [scene(5, speed=5.0, curvature=k) for k in (0.028, -0.028)]
    frames = world.render(scenes, [4, 4])[:, :, 0]
    focal = named_rig("front").fit(image_size=SIZE).intrinsics[0, 0, 0]
    expected = focal * np.tan(5.0 * 0.4 * 0.028)
    left, right = (horizontal_shift(f[0], f[4]) for f in frames)
    assert left == pytest.approx(expected, abs=2.5)
    assert right == pytest.approx(-expected, abs=2.5)


def test_forward_motion_makes_things_expand(world):
    size = []
    for x in (25.0, 15.0):
        car = scene(agents=one_agent("truck", [x, 0.0, 1.6, 8.0, 2.5, 3.2, 0.0]))
        change = np.abs(np.diff(picture(world, [scene(), car], [5, 5]), axis=0)[0]).max(-1) > 0.1
        size.append((change[20:30].sum(0) > 3).sum())  # columns
    assert size[1] / size[0] == pytest.approx((25 - 4 - 1.7) / (15 - 4 - 1.7), rel=0.25)


@pytest.mark.parametrize(
    ("category", "box"),
    [
        ("truck", [14.0, 3.0, 1.6, 8.0, 2.5, 3.2, 0.4]),
        ("car", [9.0, -2.5, 0.75, 4.4, 1.9, 1.5, -2.0]),
        ("bus", [20.0, 1.0, 1.55, 11.0, 2.6, 3.1, 3.1]),
        ("pedestrian", [6.0, 1.5, 0.9, 0.6, 0.6, 1.8, 1.0]),
    ],
)
def test_a_box_is_drawn_where_its_projection_is(category, box):
    size = (128, 256)
    world = ProceduralWorld(rig="front", image_size=size, rays=1)
    with_box = scene(agents=one_agent(category, box), weather="cloudy")
    images = picture(world, [scene(weather="cloudy"), with_box], [9, 9])
    change = np.abs(images[1] - images[0]).max(-1) > 0.12

    rig = named_rig("front").fit(image_size=size)
    x, y, z, length, width, height, yaw = box
    signs = np.array([[a, b, c] for a in (-0.5, 0.5) for b in (-0.5, 0.5) for c in (-0.5, 0.5)])
    offset = signs * [length, width, height]
    corners = np.stack(
        [
            x + np.cos(yaw) * offset[:, 0] - np.sin(yaw) * offset[:, 1],
            y + np.sin(yaw) * offset[:, 0] + np.cos(yaw) * offset[:, 1],
            z + offset[:, 2],
        ],
        axis=-1,
    )
    camera = (corners - rig.extrinsics[0, :3, 3]) @ rig.extrinsics[0, :3, :3]
    pixels = camera @ rig.intrinsics[0].T
    u, v = pixels[:, 0] / pixels[:, 2], pixels[:, 1] / pixels[:, 2]
    change &= neighbours(change) >= 5  # not a slim lamp in the distance that gives way to the box
    rows, columns = np.nonzero(change)
    inside = (columns + 0.5 > u.min() - 1.5) & (columns + 0.5 < u.max() + 1.5)
    inside &= (rows + 0.5 > v.min() - 1.5) & (rows + 0.5 < v.max() + 1.5)
    shadow = rows + 0.5 > v.min() + 0.6 * np.ptp(v)  # the soft shadow lies around the foot
    assert (inside | shadow).mean() > 0.97
    assert inside.mean() > 0.6
    # and it reaches the top and both sides of its outline
    assert rows.min() == pytest.approx(v.min(), abs=3)
    above_shadow = rows < v.min() + 0.5 * np.ptp(v)
    centre = (u.min() + u.max()) / 2
    assert columns[above_shadow].mean() == pytest.approx(centre, abs=0.2 * np.ptp(u) + 2)


def test_night_is_darker_than_dusk_than_day(world):
    times = ("day", "dusk", "night")
    images = picture(world, [scene(time_of_day=t) for t in times for _ in range(3)], [1, 2, 3] * 3)
    day, dusk, night = images.mean(axis=(1, 2, 3)).reshape(3, 3).mean(1)
    assert day > 1.1 * dusk
    assert dusk > 1.25 * night
    assert day > 1.8 * night
    assert night > 0.04


def test_windows_are_lit_at_night():
    world = ProceduralWorld(rig="surround", image_size=SIZE, rays=1)
    frames = world.render([scene(rig="surround", time_of_day="night")] * 4, range(4)).float() / 255
    upper = frames[..., : SIZE[0] // 2, :]
    warm = (upper[..., 0, :, :] > 0.75) & (upper[..., 2, :, :] < 0.65)
    assert float(warm.float().mean()) > 0.003


def test_fog_and_rain_take_contrast_away(world):
    kinds = ("clear", "rain", "fog")
    images = picture(world, [scene(weather=w) for w in kinds for _ in range(4)], [1, 2, 3, 4] * 3)
    upper = images[:, 10:34].mean(-1)
    contrast = (np.abs(np.diff(upper, axis=2)).mean((1, 2)) + np.abs(np.diff(upper, axis=1)).mean((1, 2))).reshape(3, 4)
    contrast = contrast.mean(1)
    assert contrast[2] < 0.6 * contrast[0]
    assert contrast[1] < contrast[0]


def test_snow_whitens_the_ground(world):
    images = picture(world, [scene(weather=w) for w in ("cloudy", "snow") for _ in range(4)], [1, 2, 3, 4] * 2)
    grey = images[:, 40:].mean(axis=(1, 2, 3)).reshape(2, 4).mean(1)
    assert grey[1] > 1.15 * grey[0]


def test_sky_above_and_road_below(world):
    image = picture(world, [scene()], [6])[0]
    sky, road = image[:8].mean((0, 1)), image[-8:, 50:78].mean((0, 1))
    assert sky[2] > sky[0] + 0.1  # blue
    assert np.ptp(road) < 0.08  # grey
    assert road.mean() < sky.mean()


def test_the_centre_line_is_yellow_in_the_us_and_lines_at_the_kerb_in_the_uk(world):
    scenes = [scene(country=country, number_of_lanes=4) for country in ("us", "uk", "germany")]
    images = picture(world, scenes, [1, 1, 1])[:, 34:]
    yellow = (images[..., 0] > 0.5) & (images[..., 2] < 0.6 * images[..., 0])
    share = yellow.mean(axis=(1, 2))
    assert share[0] > 0.005
    assert share[1] > 0.005
    assert share[2] < 0.001


def test_one_drives_left_in_the_uk(world):
    # the pavement on the ego's side is nearer: the road's middle is right of the image's in the uk, left elsewhere
    image = picture(world, [scene(country=c, number_of_lanes=2) for c in ("uk", "germany")], [2, 2])
    flipped = image[1][:, ::-1]
    row = slice(44, 64)
    same = np.abs(image[0][row] - image[1][row]).mean()
    mirrored = np.abs(image[0][row] - flipped[row]).mean()
    assert mirrored < same


def test_traffic_light_shows_its_colour():
    world = ProceduralWorld(rig="front", image_size=(128, 256), rays=1)
    states = ("none", "red", "red_amber", "amber", "green")
    images = picture(world, [scene(traffic_light=s, weather="cloudy") for s in states for _ in range(3)], [1, 2, 3] * 5)
    red = ((images[..., 0] > 0.75) & (images[..., 1] < 0.3)).sum((1, 2)).reshape(5, 3).sum(1)
    amber = (
        ((images[..., 0] > 0.75) & (images[..., 1] > 0.4) & (images[..., 2] < 0.25)).sum((1, 2)).reshape(5, 3).sum(1)
    )
    green = ((images[..., 1] > 0.75) & (images[..., 0] < 0.4)).sum((1, 2)).reshape(5, 3).sum(1)
    assert [bool(v > 5) for v in red] == [False, True, True, False, False]
    assert [bool(v > 5) for v in amber] == [False, False, True, True, False]
    assert [bool(v > 5) for v in green] == [False, False, False, False, True]


def test_every_metadata_value_changes_the_picture(world):
    for name, value in {
        "pedestrian_crossing": True,
        "bus_lane": True,
        "cycle_lane": True,
        "one_way": True,
        "number_of_lanes": 4,
        "intersection": "crossroads",
    }.items():
        images = picture(world, [scene()] * 3 + [scene(**{name: value})] * 3, [1, 2, 3] * 2)
        assert np.abs(images[:3] - images[3:]).mean() > 0.004, name


def test_fisheye_and_pinhole_rigs_render_without_gaps():
    base = named_rig("front").fit(image_size=SIZE)
    wide = CameraRig(
        names=("front",),
        image_size=SIZE,
        intrinsics=[[[38.0, 0, 64], [0, 38.0, 32], [0, 0, 1]]],
        extrinsics=base.extrinsics,
        distortion=[[-0.02, 0.004, 0.0, 0.0]],
        distortion_model="fisheye",
    )
    world = ProceduralWorld(rig=wide, image_size=SIZE, num_frames=1, rays=1, rig_jitter=False)
    images = picture(world, [scene(rig=wide), scene(rig=base)], [3, 3])
    assert images.reshape(2, -1).min(1).max() < 0.5
    assert np.abs(images[0] - images[1]).mean() > 0.02
    # both see the same in the middle of the image, at their own scale
    scale = 38.0 / base.intrinsics[0, 0, 0]
    near, far = 20, round(20 * scale)
    small = images[0][32 - far // 2 : 32 + far // 2, 64 - far : 64 + far].mean((0, 1))
    large = images[1][32 - near // 2 : 32 + near // 2, 64 - near : 64 + near].mean((0, 1))
    np.testing.assert_allclose(small, large, atol=0.04)


def test_supersampling_keeps_the_picture_and_softens_edges():
    sharp = ProceduralWorld(rig="front", image_size=SIZE, rays=1)
    smooth = ProceduralWorld(rig="front", image_size=SIZE, rays=9)
    a, b = (picture(w, [scene()], [8])[0] for w in (sharp, smooth))
    assert np.abs(a - b).mean() < 0.03
    assert np.abs(np.diff(b, axis=1)).max() <= np.abs(np.diff(a, axis=1)).max() + 0.02


def test_all_sampled_pictures_are_free_of_holes():
    # not-a-number turns black; by day nothing in this world is
    world = ProceduralWorld(rig="surround", image_size=(32, 64), num_frames=1, rays=1)
    scenes = [s.replace(time_of_day="day") for s in world.sample_scenes(range(30))]
    frames = world.render(scenes, range(30))
    assert float((frames.amax(dim=3) == 0).float().mean()) == 0.0


def test_a_long_drive_keeps_its_roadside(world):
    # one frame a second, further than the roadside is long before it repeats
    frames = world.render([Scene.create("front", num_frames=18, frame_rate=1.0, speed=20.0, **PLAIN)], [2])
    texture = frames.float()[..., :32, :].std(dim=(3, 4, 5))
    assert float(texture.min()) > 8  # buildings and trees, not an empty plain


@pytest.mark.slow
def test_compiled_images_equal_eager_ones():
    eager = ProceduralWorld(rig="surround3", image_size=(32, 64), num_frames=2, rays=4)
    fast = ProceduralWorld(rig="surround3", image_size=(32, 64), num_frames=2, rays=4, compile=True)
    for a, b in zip(eager.sample([1, 2]), fast.sample([1, 2]), strict=True):
        difference = np.abs(a.frames.astype(int) - b.frames.astype(int))
        assert difference.mean() < 0.01
        assert (difference > 2).mean() < 1e-3


@pytest.mark.gpu
def test_cuda_images_equal_cpu_ones():
    clips = [ProceduralWorld(image_size=(32, 64), num_frames=2, device=d).sample([1, 2]) for d in ("cpu", "cuda")]
    for a, b in zip(*clips, strict=True):
        assert (np.abs(a.frames.astype(int) - b.frames.astype(int)) > 2).mean() < 5e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_size": (0, 128)}, "image_size: expected a whole number from 1 to 8192, got 0; use such as .64, 128."),
        ({"num_frames": 0}, "num_frames: expected a whole number from 1 .*, got 0; use such as 24"),
        ({"frame_rates": ()}, "frame_rates: expected positive rates in 1/s, got .*; use such as"),
        ({"frame_rates": (10.0, -1.0)}, "frame_rates: expected positive rates"),
        ({"rays": 3}, "rays: expected 1, 2, 4, 9 or another square number for each pixel, got 3; use 2"),
        ({"rig": "random", "num_cameras": 7}, "num_cameras: expected a whole number from 1 to 6, got 7"),
        ({"rig": "suround"}, "surround"),
    ],
)
def test_bad_construction(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProceduralWorld(**arguments)


def test_bad_calls(world):
    with pytest.raises(ValueError, match="seeds: expected one for each of the 2 scenes, got 1; give as many"):
        world.render([scene(), scene()], [1])
    with pytest.raises(ValueError, match="seeds: expected at least one integer, got none"):
        world.render([], [])
    with pytest.raises(
        ValueError, match=r"seeds: expected a list of integers, got .*; give one integer for each scene"
    ):
        world.sample([0.5])
    with pytest.raises(ValueError, match="scenes: expected the same number of frames and cameras in all"):
        world.render([scene(1), scene(2)], [1, 2])
    with pytest.raises(ValueError, match=r"cameras: expected 1 indices in 0..0, got \[1\]; give one camera index"):
        world.render([scene()], [1], cameras=[1])
    with pytest.raises(ValueError, match="cameras: expected 2 indices"):
        world.render([scene(), scene()], [1, 2], cameras=[0])
