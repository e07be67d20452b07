"""Files and folders that appear only when they are complete, however many write them."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gaia2._files import replacing, replacing_folder, replacing_together

Replacing = Callable[[Path], object]


def write(path: Path, content: str) -> None:
    """Into a file, or a file in a folder."""
    (path / "a.txt" if path.is_dir() else path).write_text(content)


def read(path: Path) -> str:
    return (path / "a.txt" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("helper", [replacing, replacing_folder])
def test_the_old_one_is_there_until_the_new_one_is_whole(helper: Replacing, tmp_path: Path) -> None:
    target = tmp_path / "folder" / "a"
    for content in ("old", "new"):
        with helper(target) as unfinished:
            write(unfinished, content)
            assert not target.exists() or read(target) == "old"
        assert read(target) == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("helper", [replacing, replacing_folder])
def test_an_error_leaves_the_old_one_and_no_other(helper: Replacing, tmp_path: Path) -> None:
    target = tmp_path / "a"
    with helper(target) as unfinished:
        write(unfinished, "old")
    with pytest.raises(KeyboardInterrupt), helper(target) as unfinished:  # noqa: PT012
        write(unfinished, "half")
        raise KeyboardInterrupt
    assert read(target) == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("helper", [replacing, replacing_folder])
def test_a_rename_that_fails_leaves_the_old_one(
    helper: Replacing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "a"
    with helper(target) as unfinished:
        write(unfinished, "old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(OSError, match="disk full"), helper(target) as unfinished:
        write(unfinished, "new")
    assert read(target) == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("helper", [replacing, replacing_folder])
def test_two_writers_do_not_meet_and_the_last_one_stays(helper: Replacing, tmp_path: Path) -> None:
    target = tmp_path / "a"
    with helper(target) as outer:
        write(outer, "outer")
        with helper(target) as inner:
            write(inner, "inner")
        assert read(target) == "inner"
    assert read(target) == "outer"
    assert list(tmp_path.iterdir()) == [target]


def test_many_writers_of_a_folder_at_once(tmp_path: Path) -> None:
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for _ in range(20):
                with replacing_folder(tmp_path / "a") as unfinished:
                    write(unfinished, str(number))
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert read(tmp_path / "a") in "0123"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_another_writer_moves_away_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, looked_at = tmp_path / "a", []
    target.mkdir()
    look = Path.stat

    def stat_and_lose(path: Path, **given: Any) -> os.stat_result:
        found = look(path, **given)
        if path == target and not looked_at:
            looked_at.append(path)
            target.rmdir()
        return found

    monkeypatch.setattr(Path, "stat", stat_and_lose)
    with replacing_folder(target) as unfinished:
        write(unfinished, "new")
    assert looked_at == [target]
    assert read(target) == "new"


def test_what_is_no_file_is_written_into_and_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with replacing(pipe) as given:
        assert given == pipe
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    with replacing(os.devnull) as given:
        assert given == Path(os.devnull)
        given.write_text("lost")
    assert list(tmp_path.iterdir()) == [pipe]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    for name in ("a", "link"):
        (tmp_path / "store").mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(tmp_path / "store" / name)
        with replacing(tmp_path / name) as unfinished:
            unfinished.write_text(name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "store" / name).read_text() == name


def test_a_folder_is_no_file_and_a_file_no_folder(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(IsADirectoryError, match="expected a file to write, got a folder; name a file in it"):
        replacing(tmp_path).__enter__()
    with pytest.raises(NotADirectoryError, match=r"a\.txt: expected a folder to write, got a file; name another one"):
        replacing_folder(tmp_path / "a.txt").__enter__()


def test_a_folder_whose_writer_was_killed_between_its_renames_comes_back(tmp_path: Path) -> None:
    (tmp_path / ".a.123.old").mkdir()
    write(tmp_path / ".a.123.old", "old")
    with pytest.raises(KeyboardInterrupt), replacing_folder(tmp_path / "a"):
        raise KeyboardInterrupt
    assert read(tmp_path / "a") == "old"
    with replacing_folder(tmp_path / "a") as unfinished:
        write(unfinished, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


KILLED = """
import os, signal, sys
from gaia2._files import {helper}
with {helper}(sys.argv[1]) as unfinished:
    (unfinished / "a.txt" if unfinished.is_dir() else unfinished).write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("helper", [replacing, replacing_folder])
def test_what_a_killed_writer_left_is_removed_by_the_next(helper: Replacing, tmp_path: Path) -> None:
    target = tmp_path / "a"
    code = KILLED.format(helper=helper.__name__)
    killed = subprocess.run([sys.executable, "-c", code, str(target)], cwd=Path(__file__).parents[1], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".a.")
    with helper(target) as unfinished:
        assert not left.exists()
        with helper(target) as another:  # a writer that lives is left alone
            assert unfinished.parent.joinpath(unfinished.name).exists() or helper is replacing
            write(another, "new")
        write(unfinished, "last")
    assert read(target) == "last"
    assert list(tmp_path.iterdir()) == [target]


def test_files_that_belong_together(tmp_path: Path) -> None:
    targets = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(KeyboardInterrupt), replacing_together(*targets) as unfinished:  # noqa: PT012
        unfinished[0].write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with replacing_together(*targets) as unfinished:
        for path in unfinished:
            path.write_text("whole")
        assert not any(target.exists() for target in targets)
    assert [target.read_text() for target in targets] == ["whole", "whole"]


def test_files_of_a_killed_result_are_removed_too(tmp_path: Path) -> None:
    """Files that are written by writers who have temporary files of their own."""
    targets = [tmp_path / "a.mp4", tmp_path / "a.png"]
    code = """
import os, signal, sys
from gaia2._files import replacing, replacing_together
with replacing_together(*sys.argv[1:]) as files, replacing(files[0]) as inner:
    inner.write_text("half")
    files[1].write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code, *map(str, targets)], cwd=Path(__file__).parents[1], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with replacing_together(*targets) as files:
        for file in files:
            file.write_text("whole")
    assert sorted(tmp_path.iterdir()) == targets
