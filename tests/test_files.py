"""Files that appear only when they are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from gaia2._files import replacing


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "a.txt"
    for content in ("old", "new"):
        with replacing(target) as unfinished:
            unfinished.write_text(content)
            assert not target.exists() or target.read_text() == "old"
        assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as unfinished:  # noqa: PT012
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
