"""Files that may lie elsewhere: webdataset's URLs (http, s3 through pipes, gs, hf, ...) beside paths."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlparse

from gaia2._files import replacing

__all__ = ["fetch", "is_url", "join", "read_text"]


def is_url(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is a URL or a `pipe:` command rather than a path.

    Example:
        >>> is_url("https://host/shards"), is_url("pipe:aws s3 cp s3://bucket/a.tar -"), is_url("/data/shards")
        (True, True, False)
    """
    text = os.fspath(path)
    return text.startswith("pipe:") or bool(urlparse(text).scheme and "://" in text)


def join(folder: str | os.PathLike[str], name: str) -> str:
    """Return the file `name` of a folder, or of a URL; a `pipe:` command says where the name belongs with `{}`.

    Example:
        >>> join("gs://bucket/shards/", "index.json"), join("pipe:ssh host cat /data/{}", "a.tar")
        ('gs://bucket/shards/index.json', 'pipe:ssh host cat /data/a.tar')
    """
    text = os.fspath(folder)
    if text.startswith("pipe:"):
        if "{}" not in text:
            raise ValueError(f"{text}: expected {{}} where the command names the file, such as pipe:cat /data/{{}}")
        return text.replace("{}", name)
    return f"{text.rstrip('/')}/{name}" if is_url(text) else str(Path(text) / name)


def read_text(path: str) -> str:
    """Return the text of a file or URL."""
    if not is_url(path):
        return Path(path).read_text(encoding="utf-8")
    with _open_url(path) as stream:
        return stream.read().decode("utf-8")


def fetch(
    path: str, cache_dir: str | os.PathLike[str] | None, *, size: int | None = None, limit: float | None = None
) -> Path:
    """Return a local file of what a path or URL holds; what was fetched stays in the cache.

    Processes of one machine fetch a file once: others wait for it.

    Args:
        path: The file.
        cache_dir: Folder for what is fetched; may be None for local files.
        size: Bytes that the file must have.
        limit: Bytes that the cache may hold; the files used longest ago are removed.

    Raises:
        ValueError: No cache folder was given for a URL, or it gave another number of bytes.
    """
    if not is_url(path):
        return Path(path)
    if cache_dir is None:
        raise ValueError(f"{path}: expected a cache_dir beside a URL, got none; name a folder on a fast local disk")
    import fcntl

    folder = Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}-{path.rstrip('/').rsplit('/', 1)[-1][-64:]}"
    with open(folder / f".{target.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_file():
            with replacing(target) as unfinished, _open_url(path) as stream:
                with open(unfinished, "wb") as file:
                    shutil.copyfileobj(stream, file, 1 << 20)
                got = unfinished.stat().st_size
                if size is not None and got != size:
                    raise ValueError(f"{path}: expected {size} bytes, got {got}; the transfer was cut short, try again")
            _make_room(folder, target, limit)
    os.utime(target)
    return target


def _make_room(folder: Path, newest: Path, limit: float | None) -> None:
    if limit is None:
        return
    files = sorted((path for path in folder.iterdir() if path.suffix != ".lock"), key=lambda path: path.stat().st_mtime)
    held = sum(path.stat().st_size for path in files)
    for path in files:
        if held <= limit:
            break
        if path != newest and path.suffix != ".tmp":
            held -= path.stat().st_size
            path.unlink(missing_ok=True)  # readers that have it open keep what they have


def _open_url(url: str) -> IO[bytes]:
    try:
        import webdataset
    except ImportError as error:
        raise ImportError(f"reading {url} needs webdataset: pip install 'gaia2[train]'") from error
    return cast("IO[bytes]", webdataset.gopen(url, "rb"))
