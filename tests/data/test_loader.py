"""Loading clip shards: every sample once, split over processes, resumed exactly."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.conditioning.lens import project_points
from gaia2.conditioning.projection import project_boxes
from gaia2.data.clip import Clip
from gaia2.data.cropping import crop_clip
from gaia2.data.latent_clip import LatentClip
from gaia2.data.loader import ClipLoader, ShardDataset, collate_clips
from gaia2.data.sampler import Draw, WindowSampler
from gaia2.data.shards import ShardWriter
from gaia2.data.source import Source
from gaia2.data.windows import Windows, cut_windows
from gaia2.scene import Agents, Scene, named_rig

SIZE = (12, 20)


def numbered_clip(number: int, rig: str, frames: int = 8) -> Clip:
    """Every pixel says which clip and frame it is of."""
    scene = Scene.create(named_rig(rig, SIZE), num_frames=frames, speed=float(number))
    pixels = np.empty((frames, scene.rig.num_cameras, 3, *SIZE), dtype=np.uint8)
    pixels[:, :, 0], pixels[:, :, 1] = number, np.arange(frames)[:, None, None, None]
    pixels[:, :, 2] = np.arange(scene.rig.num_cameras)[None, :, None, None]
    return Clip(scene, pixels, Source("numbered", str(number)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    for shard in range(4):
        with ShardWriter(path / f"s-{shard}.tar", pixels="png") as writer:
            for number in range(5):
                writer.write(numbered_clip(5 * shard + number, "surround3" if shard == 3 else "front"))
    return path


@pytest.fixture(scope="module")
def data(folder: Path) -> ShardDataset:
    return ShardDataset(folder)


@pytest.fixture(scope="module")
def windows(data: ShardDataset) -> Windows:
    return cut_windows(data.clips, 4)


def loader(data: ShardDataset, windows: Windows, workers: int = 0, **options) -> ClipLoader:
    sampler = WindowSampler(windows, 3, seed=5, **{"drop_last": False, "shuffle_shards": 2, **options})
    return ClipLoader(data, sampler, num_workers=workers)


def samples(batches) -> list[tuple[int, int, int]]:
    """Clip, first frame and number of cameras of everything in some batches, from the pixels."""
    return [
        (int(frames[0, 0, 0, 0, 0]), int(frames[0, 0, 1, 0, 0]), frames.shape[1])
        for batch in batches
        for frames in batch.frames
    ]


EVERYTHING = {(number, start, 3 if number >= 15 else 1) for number in range(20) for start in (0, 4)}


def test_an_epoch_gives_every_window_once(data, windows) -> None:
    run = loader(data, windows)
    batches = list(run)
    assert len(batches) == len(run)
    seen = samples(batches)
    assert len(seen) == len(set(seen)) == 40
    assert set(seen) == EVERYTHING
    for batch in batches:
        assert len({frames.shape for frames in batch.frames}) == 1
        for frames, scene, source in zip(batch.frames, batch.scenes, batch.sources, strict=True):
            assert frames[:, 0, 1, 0, 0].tolist() == list(
                range(int(frames[0, 0, 1, 0, 0]), int(frames[-1, 0, 1, 0, 0]) + 1)
            )
            assert scene.speed[0] == int(frames[0, 0, 0, 0, 0]) == int(source.log)
            assert scene.num_frames == 4
    again = loader(data, windows)
    assert samples(again) == seen
    again.set_epoch(1)
    other = samples(again)
    assert other != seen
    assert set(other) == EVERYTHING


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("ranks", [1, 2])
def test_resuming_in_mid_epoch_gives_exactly_the_rest(data, windows, workers: int, ranks: int) -> None:
    """None twice, none lost, whatever reads before and after."""
    everything = []
    for rank in range(ranks):
        options = {"rank": rank, "world_size": ranks}
        whole = loader(data, windows, **options)
        whole.set_epoch(2)
        expected = samples(whole)
        first = loader(data, windows, workers, **options)
        first.set_epoch(2)
        running = iter(first)
        begun = samples(next(running) for _ in range(3))
        state = first.state_dict()
        del running
        resumed = loader(data, windows, workers, **options)
        resumed.load_state_dict(state)
        assert resumed.epoch == 2
        resumed.set_epoch(2)  # as a training loop does
        rest = samples(resumed)
        assert begun + rest == expected
        resumed.set_epoch(3)
        following = loader(data, windows, **options)
        following.set_epoch(3)
        assert samples(resumed) == samples(following)
        everything += expected
    assert Counter(everything) == Counter(EVERYTHING)


def test_the_state_does_not_depend_on_the_number_of_workers(data, windows) -> None:
    expected = samples(loader(data, windows))
    first = loader(data, windows, 2)
    running = iter(first)
    begun = samples([next(running), next(running)])
    state = first.state_dict()
    assert state["batches"] == 2  # not what workers have read ahead
    for workers in (0, 1):
        resumed = loader(data, windows, workers)
        resumed.load_state_dict(state)
        assert begun + samples(resumed) == expected
    finished = loader(data, windows)
    list(finished)
    after = loader(data, windows)
    after.load_state_dict(finished.state_dict())
    assert list(after) == []


def test_workers_that_persist_go_on_too(data, windows) -> None:
    sampler = WindowSampler(windows, 3, seed=5, drop_last=False, shuffle_shards=2)
    kept = ClipLoader(data, sampler, num_workers=1, persistent_workers=True)
    first = samples(kept)
    kept.set_epoch(1)
    running = iter(kept)
    begun, state = samples([next(running)]), kept.state_dict()
    other = loader(data, windows)
    other.load_state_dict(state)
    assert first == samples(loader(data, windows))
    assert begun + samples(other) == begun + samples(running)


def test_a_state_of_something_else_is_refused(data, windows) -> None:
    state = loader(data, windows).state_dict()
    with pytest.raises(ValueError, match=r"state of a loader: expected one of .*'world_size': 2.*; use the same data"):
        loader(data, windows, world_size=2).load_state_dict(state)
    with pytest.raises(ValueError, match=r"expected one of .*'windows': "):
        loader(data, windows.take(np.arange(7))).load_state_dict(state)
    with pytest.raises(ValueError, match=r"expected one of .*'windows': "):
        loader(data, windows, shuffle_shards=3).load_state_dict(state)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_ranks_get_as_many_batches_and_nothing_twice(data, windows, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ranks, size = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    drop = bool(rng.integers(2))
    parts = [
        list(WindowSampler(windows, size, seed=seed, rank=rank, world_size=ranks, drop_last=drop, shuffle_shards=2))
        for rank in range(ranks)
    ]
    drawn = [(draw.key, draw.frames.start) for part in parts for batch in part for draw in batch]
    assert len(drawn) == len(set(drawn))
    lengths = [len(part) for part in parts]
    if drop:
        assert len(set(lengths)) == 1
        assert all(len(batch) == size for part in parts for batch in part)
    else:
        assert max(lengths) - min(lengths) <= 1
        assert len(drawn) == 40


def test_few_shards_are_in_use_at_once(data, windows) -> None:
    batches = list(WindowSampler(windows, 2, seed=1, shuffle_shards=2, drop_last=False))
    uses = {}
    shards = {clip.key: clip.shard for clip in data.clips}
    for place, batch in enumerate(batches):
        for draw in batch:
            uses.setdefault(shards[draw.key], []).append(place)
    spans = sorted(max(places) - min(places) + 1 for places in uses.values())
    assert spans[-1] <= 12  # of 20: two shards of ten windows each


def test_in_order_without_shuffling(data, windows) -> None:
    order = samples(loader(data, windows, shuffle=False))
    assert order == sorted(EVERYTHING)


def test_one_camera_of_each_clip(folder, windows) -> None:
    data = ShardDataset(folder, cameras="one")
    sampler = WindowSampler(windows, 4, seed=0, drop_last=False, same_cameras=False)
    batches = list(ClipLoader(data, sampler))
    assert all(batch.frames.shape[2] == 1 for batch in batches)
    chosen = Counter(int(f[0, 0, 2, 0, 0]) for batch in batches for f in batch.frames if f[0, 0, 0, 0, 0] >= 15)
    assert set(chosen) == {0, 1, 2}
    assert {scene.rig.names[0] for batch in batches for scene in batch.scenes} == {"front", "front_left", "front_right"}
    assert ShardDataset(folder, cameras=["front"])[next(iter(sampler))[0]].scene.rig.names == ("front",)


def test_crops_are_random_and_true(folder, windows) -> None:
    data = ShardDataset(folder, crop=(6, 8))
    batches = list(ClipLoader(data, WindowSampler(windows, 4, seed=0, drop_last=False)))
    assert {tuple(batch.frames.shape[-2:]) for batch in batches} == {(6, 8)}
    whole = named_rig("surround3", SIZE)
    moved = set()
    for batch in batches:
        for scene in batch.scenes:
            shift = whole.select(scene.rig.names).intrinsics - scene.rig.intrinsics
            (left, top), *others = shift[:, :2, 2].round(9).tolist()
            assert all(other == [left, top] for other in others)
            moved.add((top, left))
    assert {top for top, _ in moved} <= set(range(7))
    assert {left for _, left in moved} <= set(range(13))
    assert len(moved) > 15
    with pytest.raises(ValueError, match=r"s-0-0000: expected pictures of at least \(14, 8\) to cut, got \(12, 20\)"):
        ShardDataset(folder, crop=(14, 8))[next(iter(WindowSampler(windows, 1, shuffle=False)))[0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_crop_moves_projected_boxes_by_exactly_the_crop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rig = named_rig("surround3", (90, 160))
    boxes = np.concatenate(
        [rng.uniform((4, -20, 0), (40, 20, 2), (6, 3)), rng.uniform(1, 5, (6, 3)), rng.uniform(-3, 3, (6, 1))], axis=1
    )
    scene = Scene(rig, [0.0], agents=Agents(boxes[None], np.zeros((1, 6), int)))
    clip = Clip(scene, rng.integers(0, 256, (1, 3, 3, 90, 160), dtype=np.uint8))
    top, left = int(rng.integers(0, 40)), int(rng.integers(0, 60))
    part = crop_clip(clip, top, left, 50, 100)
    np.testing.assert_array_equal(part.frames, clip.frames[..., top : top + 50, left : left + 100])

    def pixels(rig, size) -> np.ndarray:
        features = project_boxes(
            torch.tensor(boxes), torch.zeros(6, dtype=torch.int64), torch.tensor(rig.intrinsics),
            torch.tensor(rig.extrinsics), image_size=size,
        ).numpy()  # fmt: skip
        return features[..., :4] * np.array([size[1], size[0]] * 2)

    before, after = pixels(rig, (90, 160)), pixels(part.scene.rig, (50, 100))
    shift = np.array([left, top, left, top])
    expected = np.clip(before - shift, 0, np.array([100, 50, 100, 50]))
    # a side that the cut or the whole image's edge bounds is where that edge is; all others move by exactly the cut
    free = (before > 1e-6) & (before < np.array([160, 90, 160, 90]) - 1e-6)
    seen = ~np.isnan(before[..., :1]) & ~np.isnan(after[..., :1])
    np.testing.assert_allclose(after[free & seen], expected[free & seen], atol=1e-9)
    assert (free & seen).any() or not seen.any()
    # through a bent lens, whose bounds of boxes are not exact, points move by exactly the cut as well
    points = torch.tensor(rng.uniform((-5, -2, 5), (5, 2, 50), (20, 3)))
    lens, kind = torch.tensor(rng.normal(0, 0.05, 8)), torch.tensor(int(rng.integers(2)))
    places = [
        project_points(points, torch.tensor(cameras.intrinsics[0]), lens * (1 - kind), kind)
        for cameras in (rig, part.scene.rig)
    ]
    np.testing.assert_allclose((places[0] - places[1]).numpy(), np.tile([left, top], (20, 1)), atol=1e-9)


def test_remote_shards(folder, windows, tmp_path) -> None:
    pytest.importorskip("webdataset", reason="needs webdataset (the train extra)")
    from gaia2.data.index import Index

    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    Index.load(tmp_path).save(tmp_path)
    data = ShardDataset(f"pipe:cat {tmp_path}/{{}}", cache_dir=tmp_path / "cache")
    assert set(samples(loader(data, cut_windows(data.clips, 4), 2))) == EVERYTHING
    assert len([path for path in (tmp_path / "cache").iterdir() if path.suffix == ".tar"]) == 4


def test_several_folders_and_latents(folder, tmp_path) -> None:
    scene = Scene.create("front", num_frames=24)
    with ShardWriter(tmp_path / "l.tar") as shard:
        for number in range(4):
            shard.write_latents(LatentClip(scene, {"mean": torch.full((3, 1, 2, 2, 4), float(number))}, Source("l")))
    data = ShardDataset([folder, tmp_path])
    assert len(data) == 24
    windows = cut_windows([clip for clip in data.clips if clip.contents == "latents"], 16, min_stride=0.0)
    assert windows.start.tolist() == [0, 8] * 4
    latents = ShardDataset(tmp_path)
    batches = list(ClipLoader(latents, WindowSampler(windows, 2)))
    assert [tuple(batch.latents["mean"].shape) for batch in batches] == [(2, 2, 1, 2, 2, 4)] * 4
    assert sorted(float(value[0, 0, 0, 0, 0]) for batch in batches for value in batch.latents["mean"]) == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert batches[0].frames is None
    assert batches[0].scenes[0].num_frames == 16


def test_windows_of_some_clips_are_of_those_clips(data) -> None:
    """Clips of a split have other places in its list than in the dataset's."""
    some = [clip for clip in data.clips if int(clip.source.log) % 3 == 1]
    seen = samples(loader(data, cut_windows(some, 4)))
    assert {number for number, _, _ in seen} == {number for number in range(20) if number % 3 == 1}
    with pytest.raises(ValueError, match="draw: expected the key of one of the 20 clips, got 'other'"):
        data[Draw("other", range(4), 0)]


def test_folders_of_the_same_clips_are_refused(folder) -> None:
    with pytest.raises(ValueError, match=r"folders: expected clips of different keys, got s-0-0000 more than once"):
        ShardDataset([folder, folder])


def test_damage_is_named(folder, tmp_path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "s-0.tar"
    path.write_bytes(path.read_bytes()[:2000])
    data = ShardDataset(tmp_path)
    with pytest.raises(ValueError, match=r"s-0\.tar: "):
        list(loader(data, cut_windows(data.clips, 4)))


def test_bad_settings(windows) -> None:
    with pytest.raises(ValueError, match="rank: expected 0 to 1, got 2"):
        WindowSampler(windows, 2, rank=2, world_size=2)
    with pytest.raises(ValueError, match="probability: expected one for each of 40 windows, summing to 1"):
        WindowSampler(windows, 2, probability=np.ones(40))
    with pytest.raises(ValueError, match=r"expected at least one full batch of 16 for each of 2 ranks, got 1 from 40"):
        len(WindowSampler(windows, 16, world_size=2))
    with pytest.raises(ValueError, match="expected a batch_size and shuffle_shards of at least 1"):
        WindowSampler(windows, 0)
    with pytest.raises(ValueError, match="batch: expected clips of one shape, got others"):
        collate_clips([numbered_clip(0, "front"), numbered_clip(0, "surround3")])
