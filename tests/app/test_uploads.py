from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from gaia2.app import uploads
from gaia2.app.uploads import inside, match_cameras, read_scene_file, read_source
from gaia2.scene import Scene, named_rig
from gaia2.video.files import write_video


def steps(path: Path, num_frames: int, frame_rate: float, level: int = 0) -> Path:
    """A video whose frames have ten times their number as grey level."""
    grey = (level + 10 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]
    write_video(path, np.zeros((num_frames, 32, 64, 3), np.uint8) + grey, frame_rate)
    return path


def test_only_files_of_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "uploads", tmp_path / "secret.json"
    (folder / "a").mkdir(parents=True)
    outside.write_text("{}")
    own = folder / "a" / "scene.json"
    own.write_text("{}")
    assert inside(folder, own) == own
    link = folder / "link.json"
    link.symlink_to(outside)
    beside = tmp_path / "uploads2" / "x.json"
    beside.parent.mkdir()
    beside.write_text("{}")
    for path in (outside, link, beside, folder / ".." / "secret.json", folder / "missing", folder, "/etc/passwd"):
        with pytest.raises(ValueError, match="expected a file that was uploaded here, got another one"):
            inside(folder, path)
    (tmp_path / "way").symlink_to(folder)
    assert inside(tmp_path / "way", own) == own


def test_scene_and_rig_files(tmp_path: Path) -> None:
    scene = Scene.create("van", num_frames=8, weather="snow")
    scene.save(tmp_path / "scene.json")
    assert read_scene_file(tmp_path / "scene.json") == (named_rig("van"), scene)
    (tmp_path / "rig.json").write_text(json.dumps(named_rig("front").to_dict()))
    assert read_scene_file(tmp_path / "rig.json") == (named_rig("front"), None)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"names": ["front"]}', '{"version": 9}', "[" * 100_000, "\udcff"]
)
def test_bad_scene_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"bad.json: expected a scene or a rig as JSON; "):
        read_scene_file(path)


def test_large_scene_files(tmp_path: Path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        os.truncate(file.fileno(), uploads.MAX_JSON_BYTES + 1)
    with pytest.raises(ValueError, match="at most 32000000 bytes"):
        read_scene_file(tmp_path / "large.json")


def test_cameras_by_name_or_order() -> None:
    cameras = ("front", "front_left", "left")
    named = [Path("v_left.mp4"), Path("v_front_left.mp4"), Path("v-front.mp4")]
    assert [path.name for path in match_cameras(named, cameras)] == ["v-front.mp4", "v_front_left.mp4", "v_left.mp4"]
    others = [Path("a.mp4"), Path("b.mp4"), Path("v_left.mp4")]
    assert match_cameras(others, cameras) == others
    with pytest.raises(ValueError, match="source: expected 3 videos, one for each of front, front_left, left, got 1"):
        match_cameras(others[:1], cameras)


def test_frames_from_the_beginning_and_from_the_end(tmp_path: Path) -> None:
    paths = [steps(tmp_path / f"{level}.mp4", 20, 20.0, level) for level in (0, 30)]
    first = read_source(paths, (16, 32), 10.0, 8)
    assert first.shape == (8, 2, 3, 16, 32)
    assert first.dtype == np.uint8
    np.testing.assert_allclose(first.mean(axis=(2, 3, 4)), 20 * np.arange(8)[:, None] + [0, 30], atol=4)
    last = read_source(paths, (16, 32), 10.0, 4, at_end=True)
    np.testing.assert_allclose(last.mean(axis=(2, 3, 4)), 10 * np.arange(13, 20, 2)[:, None] + [0, 30], atol=4)


def test_bad_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = steps(tmp_path / "short.mp4", 6, 10.0)
    with pytest.raises(ValueError, match=r"short.mp4: expected at least 0.8 s of video, got 0.6 s; give a longer one"):
        read_source([short], (16, 32), 10.0, 8)
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(b"\0\0\0\x20ftypisom" + os.urandom(2000))
    with pytest.raises(ValueError, match=r"noise.mp4: expected a video that can be decoded"):
        read_source([noise], (16, 32), 10.0, 8)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(short.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"broken.mp4: expected"):
        read_source([broken], (16, 32), 10.0, 8)
    monkeypatch.setattr(uploads, "MAX_SIDE", 32)
    with pytest.raises(ValueError, match=r"short.mp4: expected at most 32 pixels a side, got 64x32"):
        read_source([short], (16, 32), 10.0, 2)
    monkeypatch.undo()
    monkeypatch.setattr(uploads, "MAX_DECODED", 4)
    for at_end in (False, True):
        with pytest.raises(ValueError, match=r"short.mp4: expected at most 4 frames"):
            read_source([short], (16, 32), 10.0, 3 if at_end else 6, at_end=at_end)


def test_a_playlist_is_not_followed(tmp_path: Path) -> None:
    """FFmpeg would open the files that it names, wherever they are."""
    secret = steps(tmp_path / "secret.mp4", 20, 10.0)
    playlists = {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{secret}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {secret}\n",
    }
    for name, text in playlists.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(ValueError, match=f"{name}: expected a video as mp4, mov, mkv or webm, got another file"):
            read_source([path], (16, 32), 10.0, 8)
