"""From datasets to shards: in several processes, after a kill, past what is damaged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from gaia2.data.build import BuildOptions, build_shards
from gaia2.data.datasets import DATASETS, Dataset, find_dataset, read_clips
from gaia2.data.index import Index
from gaia2.data.own_folder import list_logs, read_log
from gaia2.data.shards import ShardReader, file_hash
from gaia2.data.verify import verify_shards
from tests.data.datasets import put, which, write_drive, write_nuscenes

OPTIONS = BuildOptions(num_frames=8, image_size=(18, 32), pixels="jpg")


@pytest.fixture
def drives(tmp_path: Path) -> Path:
    for number in range(4):
        write_drive(tmp_path / "drives" / f"day {number}", frames=16, speed=4.0 + number)
    return tmp_path / "drives"


def build(drives: Path, out: Path, options: BuildOptions = OPTIONS, **changes) -> Index:
    return build_shards("folder", drives, out, options, progress=False, **changes)


def hashes(out: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in sorted(out.glob("*.tar"))}


def test_shards_of_every_drive(drives: Path, tmp_path: Path) -> None:
    index = build(drives, tmp_path / "out")
    assert [(clip.source.log, clip.num_frames) for clip in index.clips] == [
        (f"day {number}", 8) for number in range(4) for _ in range(2)
    ]
    assert len(index.shards) == 4
    assert index.failed == ()
    assert Index.load(tmp_path / "out") == index
    clip = ShardReader(tmp_path / "out" / index.clips[3].shard).read(index.clips[3].key)
    assert [[which(p) for p in frame] for frame in clip.frames] == [[(0, f), (1, f)] for f in range(8, 16)]
    np.testing.assert_allclose(clip.scene.speed, 5.0, atol=1e-6)
    assert verify_shards(tmp_path / "out", progress=False) == []


def test_processes_write_the_same_shards(drives: Path, tmp_path: Path) -> None:
    build(drives, tmp_path / "one")
    build(drives, tmp_path / "two", workers=2)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert (tmp_path / "one" / "index.json").read_text() == (tmp_path / "two" / "index.json").read_text()


def test_what_is_done_is_skipped(drives: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    build(drives, out, logs=["day 1", "day 2"])
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    index = build(drives, out)
    assert len(index.clips) == 8
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    name = index.shards[0].name
    (out / name).unlink()  # a shard that is gone is built again
    assert len(build(drives, out).clips) == 8
    assert (out / name).is_file()


def test_a_killed_build_goes_on(drives: Path, tmp_path: Path) -> None:
    """Killed at a moment when some shards are done: the rest follows, and all are as of a build in one piece."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    build(drives, whole)
    code = (
        "from gaia2.data.build import *\n"
        f"build_shards('folder', {str(drives)!r}, {str(out)!r}, "
        "BuildOptions(num_frames=8, image_size=(18, 32), pixels='jpg'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("folder-*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list(out.glob("folder-*.json")))
    assert done >= 2
    kept = {path.name: path.stat().st_mtime_ns for path in out.glob("folder-*.json")}
    build(drives, out)
    assert hashes(out) == hashes(whole)
    assert (out / "index.json").read_text() == (whole / "index.json").read_text()
    assert {name: (out / name).stat().st_mtime_ns for name in kept} == kept
    assert not list(out.glob(".*.tmp"))


def test_bad_drives_and_clips_are_listed_and_the_rest_is_built(drives: Path, tmp_path: Path) -> None:
    (drives / "day 0" / "calibration.json").write_text("{")
    video = drives / "day 1" / "cameras" / "rear.mp4"
    put(drives / "day 1" / "cameras" / "rear.csv", "time\n" + "\n".join(str(f / 10) for f in range(16)))
    write_drive(tmp_path / "short", frames=11)
    video.write_bytes((tmp_path / "short" / "cameras" / "rear.mp4").read_bytes())
    write_drive(drives / "day 2", frames=4)
    for path in (drives / "day 3").glob("boxes.csv"):
        path.write_text("time,track,category,x,y,z,yaw\n0,a,ufo,9,0,0,0\n")
    index = build(drives, tmp_path / "out")
    assert [(clip.source.log, clip.key[-4:]) for clip in index.clips] == [
        ("day 1", "0000"),
        ("day 3", "0000"),
        ("day 3", "0001"),
    ]
    assert index.clips[1].source.notes["notes"] == "unknown categories, taken as other: ufo"
    failed = {(failure["log"], failure["start"]): failure["error"] for failure in index.failed}
    assert set(failed) == {("day 0", -1), ("day 1", 8), ("day 2", -1)}
    assert "calibration.json: Expecting" in failed["day 0", -1]
    assert "rear.mp4: expected at least 12 frames, the video ends after 11" in failed["day 1", 8]
    assert failed["day 2", -1] == "no 8 frames in a row, 4 in all; ask for shorter clips"
    assert verify_shards(tmp_path / "out", progress=False) == []
    # mended and tried again
    write_drive(drives / "day 0", frames=16)
    assert len(build(drives, tmp_path / "out").clips) == 3
    again = build(drives, tmp_path / "out", retry_failed=True)
    assert len(again.clips) == 5
    assert {failure["log"] for failure in again.failed} == {"day 1", "day 2"}


def test_several_drives_in_a_shard(drives: Path, tmp_path: Path) -> None:
    options = BuildOptions(num_frames=8, image_size=(18, 32), logs_per_shard=3, pixels="jpg", stride=4)
    index = build(drives, tmp_path / "out", options)
    assert [shard.num_clips for shard in index.shards] == [9, 3]
    assert len({clip.key for clip in index.clips}) == 12
    write_drive(drives / "day 9", frames=16)
    with pytest.raises(ValueError, match="expected a folder of this build, got one with another logs"):
        build(drives, tmp_path / "out", options)


def test_a_folder_holds_one_build(drives: Path, tmp_path: Path) -> None:
    build(drives, tmp_path / "out", logs=["day 0"])
    with pytest.raises(ValueError, match="out: expected a folder of this build, got one with another options"):
        build(drives, tmp_path / "out", BuildOptions(num_frames=4))
    with pytest.raises(ValueError, match=r"logs: expected some of the 4 of .*, got 'day 7'"):
        build(drives, tmp_path / "out", logs=["day 7"])
    with pytest.raises(FileNotFoundError, match="expected the folder of the dataset folder, got no such folder"):
        build(tmp_path / "none", tmp_path / "out")
    with pytest.raises(ValueError, match="expected num_frames, logs_per_shard and workers of at least 1"):
        build(drives, tmp_path / "b", workers=0)


def test_other_datasets_and_your_own(tmp_path: Path, drives: Path) -> None:
    root = write_nuscenes(tmp_path / "nuscenes", scenes=2, keyframes=3)
    index = build_shards("nuscenes", root, tmp_path / "out", OPTIONS, progress=False)
    assert [clip.source.log for clip in index.clips] == ["scene-0001", "scene-0002"]
    assert [clip.features.get("weather") for clip in index.clips] == [None, "rain"]
    assert index.clips[0].cameras == ("front", "front_left", "front_right", "back", "back_left", "back_right")
    mine = Dataset("mine", list_logs, read_log)
    assert len(build_shards(mine, drives, tmp_path / "mine", OPTIONS, progress=False).clips) == 8
    clips = list(read_clips("folder", drives, num_frames=8, image_size=(18, 32), cameras=("rear",), frame_step=2))
    assert [str(clip.source) for clip in clips] == [f"folder/day {number}" for number in range(4)]
    assert clips[0].frames.shape == (8, 1, 3, 18, 32)
    for name in DATASETS:
        assert find_dataset(name).name == name
    with pytest.raises(
        ValueError, match=r"dataset: expected one of argoverse2, .*, or a Dataset of your own, got 'kitti'"
    ):
        find_dataset("kitti")


def test_damage_is_found(drives: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    index = build(drives, out)
    first, second, third, fourth = (out / shard.name for shard in index.shards)
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 255
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:3000])
    third.unlink()
    put(out / "stray.tar", fourth.read_bytes())
    wrong = verify_shards(out, progress=False)
    assert any(f"{first.name}: its hash is another one" in line for line in wrong)
    assert any(f"{second.name}: expected " in line and "cut short" in line for line in wrong)
    assert any(f"{third.name}: missing" in line for line in wrong)
    assert any("stray.tar: not in the index" in line for line in wrong)
    assert len(verify_shards(out, decode=False, progress=False)) == 4
