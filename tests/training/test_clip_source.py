from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gaia2.data.camera_clips import CameraClips
from gaia2.data.clip_folder import ClipFolder, write_chunk
from gaia2.data.shards import ShardWriter
from gaia2.training.clip_source import ShardFolder, open_clip_source
from tests.tiny import clip


def test_shards_are_read_like_a_folder(tmp_path: Path) -> None:
    clips = [clip(i, 16, "surround3") for i in range(3)]
    write_chunk(tmp_path / "folder", 0, clips)
    for number, part in enumerate((clips[:2], clips[2:])):
        with ShardWriter(tmp_path / "shards" / f"drive-{number}.tar", pixels="png") as shard:
            for one in part:
                shard.write(one)
    folder, shards = (open_clip_source(tmp_path / name) for name in ("folder", "shards"))
    assert isinstance(folder, ClipFolder)
    assert isinstance(shards, ShardFolder)
    for name in ("num_frames", "num_cameras", "image_size"):
        assert getattr(folder, name) == getattr(shards, name)
    one, other = (CameraClips(source, image_size=(16, 32), num_frames=8) for source in (folder, shards))
    for index in ((0, 0, 7), (1, 2, 8), (2, 1, -1)):
        assert torch.equal(one[index], other[index])


def test_what_is_no_source_of_clips(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of clip shards"):
        open_clip_source(tmp_path)
