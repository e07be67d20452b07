from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from gaia2.data.clip_folder import ClipFolder, finished_chunks, write_chunk
from tests.tiny import clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_chunk(tmp_path, 0, [clip(i, 8, "surround3") for i in (0, 1)])
    write_chunk(tmp_path, 1, [clip(i, 8, "surround3") for i in (2, 3, 4)])
    return tmp_path


def test_clips_come_back_as_they_went(folder: Path) -> None:
    clips = ClipFolder(folder)
    assert len(clips) == 5
    assert (clips.num_frames, clips.num_cameras, clips.image_size) == (8, 3, (32, 64))
    for index in range(5):
        expected = clip(index, 8, "surround3")
        np.testing.assert_array_equal(clips.frames(index), expected.frames)
        assert clips.frames(index).dtype == torch.uint8
        for camera in range(3):
            np.testing.assert_array_equal(clips.frames(index, camera), expected.frames[:, camera])
        assert clips.scene(index) == expected.scene
        assert clips[index].scene == expected.scene
        assert str(clips[index].source) == f"{folder}#{index}"


def test_frames_may_be_changed_without_changing_the_file(folder: Path) -> None:
    clips = ClipFolder(folder)
    clips.frames(0).zero_()
    assert clips.frames(0).any()


def test_a_clip_that_is_not_there(folder: Path) -> None:
    for index in (-1, 5):
        with pytest.raises(IndexError, match=f"clip {index}: expected 0 to 4"):
            ClipFolder(folder).frames(index)


def test_a_chunk_counts_when_its_scenes_are_there(folder: Path) -> None:
    (folder / "clips-00001.json").unlink()
    (folder / "clips-00002.json.tmp").write_text("[")
    assert [chunk.name for chunk in finished_chunks(folder)] == ["clips-00000"]
    assert len(ClipFolder(folder)) == 2


def test_a_failed_write_leaves_no_chunk(tmp_path: Path) -> None:
    class Broken:
        frames = clip(0, 8).frames

        @property
        def scene(self) -> None:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_chunk(tmp_path, 0, [Broken()])  # type: ignore[list-item]
    assert finished_chunks(tmp_path) == []
    write_chunk(tmp_path, 0, [clip(0, 8)])
    assert len(ClipFolder(tmp_path)) == 1


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of clips, got no finished chunk in it; fill it"):
        ClipFolder(tmp_path)


def test_clips_of_two_shapes(tmp_path: Path) -> None:
    write_chunk(tmp_path, 0, [clip(0, 8)])
    write_chunk(tmp_path, 1, [clip(0, 16)])
    message = r"expected clips of one shape \(tv, n, 3, hv, wv\), got \[\(8, 1, 3, 32, 64\), \(16, 1, 3, 32, 64\)\]"
    with pytest.raises(ValueError, match=message):
        ClipFolder(tmp_path)


def test_the_importance_of_pixels_comes_back_for_each_frame(tmp_path: Path) -> None:
    clips = [clip(i, 8, "surround3") for i in (0, 1)]
    maps = np.random.default_rng(0).integers(0, 256, (2, 2, 3, 32, 64), dtype=np.uint8)
    write_chunk(tmp_path, 0, clips, importance=maps)
    folder = ClipFolder(tmp_path)
    got = folder.importance(1, 2)
    assert got.shape == (8, 32, 64)
    for frame in range(8):
        np.testing.assert_array_equal(got[frame], maps[1, frame // 4, 2])
    np.testing.assert_array_equal(folder.frames(1), clips[1].frames)


def test_importance_that_is_not_there_or_does_not_fit(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got none beside clips-00001; render them with --importance"):
        ClipFolder(folder).importance(3, 0)
    clips = [clip(0, 8, "surround3")]
    right = np.zeros((1, 2, 3, 32, 64), np.uint8)
    for wrong in (
        right.astype(np.float32), right[0], right.repeat(2, axis=0), right[:, [0, 0, 0]], right[:, :0], right[:, :, :2],
        right[..., :16, :], right[..., :32],
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"expected uint8 .* = \(1, a divisor of 8, 3, 32, 64\), got"):
            write_chunk(tmp_path / "new", 0, clips, importance=wrong)
