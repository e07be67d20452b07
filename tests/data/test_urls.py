"""Files elsewhere, through webdataset's URLs."""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from pathlib import Path

import pytest

from gaia2.data.urls import fetch, is_url, join, read_text

pytest.importorskip("webdataset", reason="needs webdataset (the train extra)")


def test_what_is_fetched_is_kept(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 100)
    url = join(f"pipe:cat {tmp_path}/{{}}", "a.tar")
    cache = tmp_path / "cache"
    local = fetch(url, cache, size=100)
    assert local.read_bytes() == b"x" * 100
    assert local.parent == cache
    (tmp_path / "a.tar").unlink()
    assert fetch(url, cache, size=100) == local  # not fetched again
    assert fetch(str(tmp_path / "b.tar"), None) == tmp_path / "b.tar"


def test_a_transfer_cut_short_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match=r"a\.tar: expected 200 bytes, got 100; the transfer was cut short"):
        fetch(f"pipe:cat {tmp_path}/a.tar", tmp_path / "cache", size=200)
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []
    with pytest.raises(ValueError, match="expected a cache_dir beside a URL"):
        fetch("https://host/a.tar", None)


def test_the_cache_keeps_within_its_limit(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.tar").write_bytes(bytes([number]) * 100)
        local = fetch(f"pipe:cat {tmp_path}/{number}.tar", tmp_path / "cache", limit=250)
        os.utime(local, (number, number))
    kept = sorted(path.name[-5:] for path in (tmp_path / "cache").iterdir() if path.suffix == ".tar")
    assert kept == ["2.tar", "3.tar"]


def _fetch(url: str, cache: str) -> None:
    sys.exit(0 if fetch(url, cache).read_bytes() == b"y" * 1000 else 1)


def test_processes_fetch_a_file_once(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"y" * 1000)
    url = f"pipe:echo fetched >> {tmp_path}/calls; cat {tmp_path}/a.tar"
    context = get_context("fork")
    processes = [context.Process(target=_fetch, args=(url, str(tmp_path / "cache"))) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "calls").read_text().split() == ["fetched"]


def test_names() -> None:
    assert not is_url("C:/shards")
    assert is_url("file:///data/a.tar")
    with pytest.raises(ValueError, match=r"expected \{\} where the command names the file"):
        join("pipe:cat", "a")


def test_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("ä", encoding="utf-8")
    assert read_text(f"pipe:cat {tmp_path}/a.json") == read_text(str(tmp_path / "a.json")) == "ä"
