"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside a file, which takes the file's place when the block ends without an error.

    Missing folders are made. An error leaves an existing file as it was, and the temporary one is removed. Several
    writers of one file do not meet: each has a path of its own, and the last one to finish stays. A link is followed.
    What is neither a file nor missing (a pipe, `/dev/stdout`) is never replaced: its own path is given, to write into.

    Args:
        target: The file.

    Yields:
        The path to write to.

    Raises:
        IsADirectoryError: If the target is a folder.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "notes" / "a.txt"
        >>> with replacing(target) as unfinished:
        ...     _ = unfinished.write_text("whole")
        >>> target.read_text(), [path.name for path in target.parent.iterdir()]
        ('whole', ['a.txt'])
    """
    target = Path(target)
    if target.is_dir():
        raise IsADirectoryError(f"{target}: expected a file to write, got a folder; name a file in it")
    if target.exists() and not target.is_file():
        yield target
        return
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _beside(target, "tmp")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give an empty temporary folder, which takes the place of `target` when the block ends without an error.

    Missing folders are made. An error leaves an existing folder as it was, and the temporary one is removed. Several
    writers of one folder do not meet; the last one to finish stays.

    Args:
        target: The folder.

    Yields:
        The folder to fill.

    Raises:
        NotADirectoryError: If the target is a file.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "model"
        >>> for name in ("old", "new"):
        ...     with replacing_folder(target) as unfinished:
        ...         (unfinished / name).touch()
        >>> [path.name for path in target.iterdir()], [path.name for path in target.parent.iterdir()]
        (['new'], ['model'])
    """
    target = Path(os.path.realpath(target))
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target}: expected a folder to write, got a file; name another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    for previous in _left_by_others(target):  # of a writer killed between its two renames
        with suppress(FileNotFoundError):
            _renamed(previous, target)
    unfinished = _beside(target, "tmp")
    unfinished.mkdir()
    try:
        yield unfinished
        while not _renamed(unfinished, target):  # another writer may have been there in between
            with suppress(FileNotFoundError):
                os.rename(target, _beside(target, "old"))
        for previous in _left_by_others(target):
            shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _renamed(folder: Path, target: Path) -> bool:
    """Rename a folder, unless the target is there and holds something."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _left_by_others(target: Path) -> list[Path]:
    return list(target.parent.glob(f".{glob.escape(target.name)}.*.old"))


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex}.{ending}")
