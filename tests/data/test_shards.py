"""Clip shards: what goes in comes out."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gaia2.data.clip import Clip
from gaia2.data.cropping import select_cameras
from gaia2.data.index import ClipEntry, Index, scene_features
from gaia2.data.latent_clip import LatentClip
from gaia2.data.shards import ShardReader, ShardWriter, file_hash
from gaia2.data.source import Source
from gaia2.scene import METADATA, Agents, CameraRig, Scene, camera_extrinsics
from tests.tiny import clip as random_clip

FLOATS = st.floats(-100, 100)
NAMES = st.text("abcXYZ 0_-äø", min_size=1, max_size=8)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)


@st.composite
def rigs(draw: st.DrawFn, image_size: tuple[int, int]) -> CameraRig:
    n = draw(st.integers(1, 3))
    matrices = np.tile(np.eye(3), (n, 1, 1))
    matrices[:, :2] = draw(hnp.arrays(float, (n, 2, 3), elements=st.floats(1.5, 1e4)))
    matrices[:, 1, 0] = 0
    poses = [
        camera_extrinsics(
            tuple(draw(hnp.arrays(float, 3, elements=FLOATS))), draw(st.floats(-180, 180)), draw(st.floats(-90, 90))
        )
        for _ in range(n)
    ]
    models = draw(st.lists(st.sampled_from(("pinhole", "fisheye")), min_size=n, max_size=n))
    distortion = draw(hnp.arrays(float, (n, 4), elements=st.floats(-1, 1)))
    names = draw(st.lists(NAMES, min_size=n, max_size=n, unique=True))
    return CameraRig(tuple(names), image_size, matrices, np.stack(poses), distortion, models)


@st.composite
def scenes(draw: st.DrawFn, image_size: tuple[int, int] = (4, 6)) -> Scene:
    rig = draw(rigs(image_size))
    tv, m = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    steps = draw(hnp.arrays(float, (tv, rig.num_cameras), elements=st.floats(1e-3, 10)))
    boxes = draw(hnp.arrays(float, (tv, m, 7), elements=st.one_of(st.just(np.nan), st.floats(1e-3, 900))))
    metadata = {name: draw(st.none() | st.sampled_from(values)) for name, values in METADATA.items()}
    return Scene(
        rig,
        np.cumsum(steps, axis=0),
        draw(hnp.arrays(float, tv, elements=st.just(np.nan) | st.floats(-70, 70))),
        draw(hnp.arrays(float, tv, elements=st.just(np.nan) | st.floats(-1, 1))),
        Agents(boxes, draw(hnp.arrays(int, (tv, m), elements=st.integers(-1, 6)))),
        metadata,
        draw(st.none() | TEXT),
        draw(st.none() | hnp.arrays(float, 3, elements=FLOATS)),
        extra=draw(
            st.sampled_from([{}, {"lanes": ("tv n k", np.arange(2.0 * tv * rig.num_cameras).reshape(tv, -1, 2))}])
        ),
    )


SOURCES = st.builds(
    Source,
    TEXT,
    TEXT,
    st.none() | FLOATS,
    st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), max_size=3),
    st.dictionaries(TEXT, TEXT | st.integers(-(2**60), 2**60) | FLOATS | st.booleans(), max_size=3),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scene=scenes(), source=SOURCES, data=st.data())
def test_round_trip_of_any_clip_is_exact(tmp_path_factory: pytest.TempPathFactory, scene, source, data) -> None:
    shape = (scene.num_frames, scene.rig.num_cameras, 3, 4, 6)
    frames = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path_factory.mktemp("shards") / "any-00000.tar"
    with ShardWriter(path, pixels="png") as shard:
        key = shard.write(Clip(scene, frames, source))
    back = ShardReader(path).read(key)
    assert back.scene == scene
    assert back.source == source
    np.testing.assert_array_equal(back.frames, frames)
    index = Index.load(path.parent)
    assert Index.from_json(index.to_json()) == index
    assert index.clips[0].source == source


@pytest.mark.parametrize(("pixels", "least"), [("mp4", 36), ("jpg", 40)])
def test_the_pixels_loss_is_small(tmp_path: Path, pixels: str, least: float) -> None:
    clip = smooth_clip(12)
    with ShardWriter(tmp_path / "a.tar", pixels=pixels) as shard:
        key = shard.write(clip)
    back = ShardReader(tmp_path / "a.tar").read(key)
    error = back.frames.astype(float) - clip.frames
    assert 10 * np.log10(255**2 / np.square(error).mean()) > least
    assert np.abs(error.mean(axis=(0, 1, 3, 4))).max() < 1.6  # the fast conversion to RGB is 1 of 255 too dark
    assert back.scene == clip.scene


def smooth_clip(num_frames: int, image_size: tuple[int, int] = (33, 65)) -> Clip:
    """A coloured pattern that moves, of an odd size."""
    scene = Scene.create("surround3", num_frames=num_frames, speed=4.0)
    scene = scene.replace(rig=scene.rig.fit(image_size=image_size))
    t, n, c, y, x = np.ogrid[:num_frames, :3, :3, : image_size[0], : image_size[1]]
    frames = 128 + 90 * np.sin(x / 9 + t / 5 + c) * np.cos(y / 7 - n)
    return Clip(scene, frames.astype(np.uint8), Source("smooth", "log", 5.0))


@pytest.mark.parametrize("pixels", ["mp4", "jpg", "png"])
def test_a_part_is_that_part_of_the_whole(tmp_path: Path, pixels: str) -> None:
    clip = smooth_clip(30)
    lanes = np.arange(90).reshape(30, 3)
    clip = Clip(clip.scene.replace(extra={"lanes": ("tv n", lanes)}), clip.frames)
    with ShardWriter(tmp_path / "a.tar", pixels=pixels, keyframe_interval=8) as shard:
        key = shard.write(clip)
    reader = ShardReader(tmp_path / "a.tar")
    whole = reader.read(key)
    frames, names = [3, 5, 17, 29], ("front_right", "front")
    part = reader.read(key, frames=frames, cameras=names, crop=(4, 7, 20, 30))
    np.testing.assert_array_equal(part.frames, whole.frames[frames][:, [2, 0], :, 4:24, 7:37])
    assert part.scene.rig.names == names
    np.testing.assert_array_equal(part.scene.timestamps, clip.scene.timestamps[frames][:, [2, 0]])
    np.testing.assert_array_equal(part.scene.extra["lanes"].values, lanes[frames][:, [2, 0]])
    moved = clip.scene.rig.select(names).intrinsics - part.scene.rig.intrinsics
    assert moved[:, :2, 2].tolist() == [[7, 4], [7, 4]]
    assert part.scene.rig.image_size.tolist() == [[20, 30]] * 2


def test_webdataset_reads_the_shards(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="needs webdataset (the train extra)")
    with ShardWriter(tmp_path / "a.tar", pixels="jpg") as shard:
        for seed in range(3):
            shard.write(random_clip(seed, 4))
    samples = list(wds.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == ["a-0000", "a-0001", "a-0002"]
    assert Scene.from_json(samples[1]["scene.json"].decode()) == random_clip(1, 4).scene
    assert sorted(samples[0])[:5] == ["__key__", "__local_path__", "__url__", "camera00.0000.jpg", "camera00.0001.jpg"]


def test_the_index_says_what_the_clips_are(tmp_path: Path) -> None:
    clip = smooth_clip(12)
    for number in range(2):
        with ShardWriter(tmp_path / f"s-{number}.tar", pixels="png") as shard:
            shard.write(clip)
            shard.write(clip.window(0, 6))
            shard.failed.append({"log": "bad", "start": 3, "error": "why"})
    index = Index.load(tmp_path)
    index.save(tmp_path)
    assert Index.load(tmp_path) == index
    assert [entry.num_frames for entry in index.clips] == [12, 6, 12, 6]
    assert index.hours == pytest.approx(2 * (1.1 + 0.5) / 3600)
    assert index.clips[0] == ClipEntry(
        "s-0-0000", "s-0.tar", "png", 12, clip.scene.rig.names, (33, 65), clip.scene.duration, 1, clip.source,
        scene_features(clip.scene),
    )  # fmt: skip
    assert index.clips[0].interval == (5.0, pytest.approx(6.1))
    for entry in index.shards:
        assert entry.bytes == (tmp_path / entry.name).stat().st_size
        assert entry.sha256 == file_hash(tmp_path / entry.name)
    assert len(index.failed) == 2


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        with ShardWriter(tmp_path / name / "a.tar", pixels="jpg") as shard:
            shard.write(smooth_clip(6))
    assert file_hash(tmp_path / "one" / "a.tar") == file_hash(tmp_path / "two" / "a.tar")


def test_an_unfinished_shard_is_none(tmp_path: Path) -> None:
    def stop() -> None:
        with ShardWriter(tmp_path / "a.tar") as shard:
            shard.write(smooth_clip(2))
            assert not (tmp_path / "a.tar").exists()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stop()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="expected a folder of clip shards"):
        Index.load(tmp_path)


def test_a_shard_cut_short_is_named(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar", pixels="png") as shard:
        keys = [shard.write(random_clip(seed, 4)) for seed in range(2)]
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(data[: len(data) // 3])
    with pytest.raises(ValueError, match=r"a\.tar: (expected a whole tar file, got one cut short|a-0001: .*cut short)"):
        ShardReader(tmp_path / "a.tar").read(keys[1])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        second = tar.getmember("a-0001.scene.json").offset
    (tmp_path / "a.tar").write_bytes(data[:second])  # right before a header: still a tar file
    reader = ShardReader(tmp_path / "a.tar")
    reader.read(keys[0])
    with pytest.raises(ValueError, match=r"a\.tar: a-0001: no such sample; the shard has 1, was it cut short\?"):
        reader.read(keys[1])
    with pytest.raises(FileNotFoundError, match=r"b\.tar: no such shard"):
        ShardReader(tmp_path / "b.tar")


def test_damaged_pixels_and_texts_are_named(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as shard:
        key = shard.write(smooth_clip(4))
    data = bytearray((tmp_path / "a.tar").read_bytes())
    with tarfile.open(tmp_path / "a.tar") as tar:
        video, scene = tar.getmember(f"{key}.camera01.mp4"), tar.getmember(f"{key}.scene.json")
    broken = bytearray(data)
    broken[video.offset_data : video.offset_data + video.size] = os.urandom(video.size)
    (tmp_path / "a.tar").write_bytes(broken)
    reader = ShardReader(tmp_path / "a.tar")
    assert reader.read(key, cameras=["front"]).num_frames == 4  # the other cameras' videos are not read
    with pytest.raises(ValueError, match=r"a\.tar: a-0000: expected an mp4 file that can be decoded"):
        reader.read(key)
    data[scene.offset_data] = ord("?")
    (tmp_path / "a.tar").write_bytes(data)
    with pytest.raises(ValueError, match=r"a-0000: scene: expected strict JSON"):
        ShardReader(tmp_path / "a.tar").read(key)


def test_asking_for_what_is_not_there(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar") as shard:
        key = shard.write(smooth_clip(4))
    reader = ShardReader(tmp_path / "a.tar")
    with pytest.raises(ValueError, match=r"a-0000: names: expected cameras of this rig, .*, got 'rear'"):
        reader.read(key, cameras=["rear"])
    with pytest.raises(ValueError, match="frames: expected indices from 0 to 3"):
        reader.read(key, frames=[2, 9])
    with pytest.raises(ValueError, match=r"crop: expected a part within the image \[33, 65\]"):
        reader.read(key, crop=(0, 0, 40, 20))
    with pytest.raises(ValueError, match=r"path: expected a file name that ends in \.tar and has no other dot"):
        ShardWriter(tmp_path / "a.b.tar")
    with pytest.raises(ValueError, match="pixels: expected one of mp4, jpg, png, got 'gif'"):
        ShardWriter(tmp_path / "b.tar", pixels="gif")


def test_other_files_are_not_an_index(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"index\.json: expected an index of clip shards"):
        Index.load(tmp_path)
    (tmp_path / "index.json").write_text(json.dumps({"version": 9, "shards": [], "failed": [], "clips": []}))
    with pytest.raises(ValueError, match="expected version 1, got 9; build the shards again"):
        Index.load(tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_latents_are_the_same_kind_of_shard(tmp_path: Path, dtype: torch.dtype) -> None:
    scene = Scene.create("surround3", num_frames=24)
    latents = {name: torch.randn(3, 3, 2, 4, 5).to(dtype) for name in ("mean", "std")}
    with ShardWriter(tmp_path / "a.tar") as shard:
        key = shard.write_latents(LatentClip(scene, latents, Source("d", "l")))
    reader = ShardReader(tmp_path / "a.tar")
    whole = reader.read(key)
    assert whole.scene == scene
    for name, tensor in latents.items():
        assert torch.equal(whole.latents[name], tensor)
    part = reader.read(key, frames=range(8, 24), cameras=["front_right"])
    assert torch.equal(part.latents["std"], latents["std"][1:, 2:])
    assert part.scene == select_cameras(scene, ["front_right"]).window(8, 24)
    entry = Index.load(tmp_path).clips[0]
    assert (entry.contents, entry.frames_per_latent, entry.num_frames) == ("latents", 8, 24)
    with pytest.raises(ValueError, match="window: expected multiples of 8"):
        reader.read(key, frames=range(4, 12))
    with pytest.raises(ValueError, match="frames: expected a run of frames without gaps"):
        reader.read(key, frames=[0, 8])
    with pytest.raises(ValueError, match=r"expected tensors .* that divides the scene's 24 frames"):
        LatentClip(scene, {"mean": torch.zeros(7, 3)})


def test_sources_are_checked() -> None:
    with pytest.raises(ValueError, match=r"got \(103.8, 1.3\); are the two in the wrong order"):
        Source(positions=[(103.8, 1.3)])
    with pytest.raises(ValueError, match="notes: map: expected a string, a finite number or a bool"):
        Source(notes={"map": [1]})
    with pytest.raises(ValueError, match="source: time: expected seconds or None"):
        Source(time=float("nan"))
    with pytest.raises(ValueError, match="source: expected version 1, got 2"):
        Source.from_dict({"version": 2})
    with pytest.raises(ValueError, match="source: expected JSON"):
        Source.from_json("no")
    assert not Source()
    assert Source("a")


def test_pixels_go_where_they_are_wanted(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "a.tar", pixels="png") as shard:
        key = shard.write(smooth_clip(4))
    reader, out = ShardReader(tmp_path / "a.tar"), np.zeros((3, 2, 33, 65, 3), dtype=np.uint8)
    clip = reader.read(key, frames=[1, 3], out=out)
    np.testing.assert_array_equal(out.transpose(1, 0, 4, 2, 3), smooth_clip(4).frames[[1, 3]])
    assert np.shares_memory(clip.frames, out)
    with pytest.raises(ValueError, match=r"out: expected \(n, tv, height, width, 3\) = \(3, 4, 33, 65, 3\), got"):
        reader.read(key, out=out)
