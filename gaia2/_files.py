"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import socket
import stat
import uuid
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path


@contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside a file, which takes the file's place when the block ends without an error.

    Missing folders are made. An error leaves an existing file as it was, and the temporary one is removed; that of a
    writer that was killed is removed by the next one on its machine. Several writers of one file do not meet: each has
    a path of its own, and the last one to finish stays. A link is followed. What is neither a file nor missing (a pipe,
    `/dev/stdout`) is never replaced: its own path is given, to write into.

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
    mode = _mode(target)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{target}: expected a file to write, got a folder; name a file in it")
    if mode and not stat.S_ISREG(mode):
        yield target
        return
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_left_behind(target)
    unfinished = _beside(target, "tmp")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def replacing_together(*targets: str | os.PathLike[str]) -> Iterator[list[Path]]:
    """`replacing` for files that belong together: they appear when all are complete, or none does.

    Args:
        *targets: The files.

    Yields:
        The paths to write to.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing_together(folder / "a", folder / "b") as unfinished:
        ...     _ = [path.write_text("whole") for path in unfinished]
        >>> sorted(path.name for path in folder.iterdir())
        ['a', 'b']
    """
    with ExitStack() as stack:
        yield [stack.enter_context(replacing(target)) for target in targets]


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
    mode = _mode(target)
    if mode and not stat.S_ISDIR(mode):
        raise NotADirectoryError(f"{target}: expected a folder to write, got a file; name another one")
    target.parent.mkdir(parents=True, exist_ok=True)
    for previous in _left_by_others(target):  # of a writer killed between its two renames
        with suppress(FileNotFoundError):
            _renamed(previous, target)
    _remove_left_behind(target)
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


def _mode(target: Path) -> int:
    """What kind of thing is there, by one look, as another writer may be about to replace it; 0 is nothing."""
    try:
        return target.stat().st_mode
    except (OSError, ValueError):  # a path that cannot be is refused when it is written
        return 0


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
    return target.with_name(f".{target.name}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.{ending}")


def _remove_left_behind(target: Path) -> None:
    """Remove what writers of a target left on this machine when they were killed."""
    for path in target.parent.glob(f"*.{glob.escape(target.name)}.{_machine()}-*.tmp"):
        process = path.name.rpartition(f".{_machine()}-")[2].partition("-")[0]
        if process.isdigit() and not _runs(int(process)):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name != "posix":
        return True  # there is no harmless signal to ask with
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@cache
def _machine() -> str:
    """This machine, or this container, in whose numbers of processes alone a file can be told to be left behind."""
    space = Path("/proc/self/ns/pid")
    inside = space.stat().st_ino if space.exists() else 0
    return f"{zlib.crc32(f'{socket.gethostname()} {inside}'.encode()):08x}"
