"""What a hub keeps: repositories with their commits, branches and tags, and large files by their SHA-256."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LARGE = 10_000  # bytes; the hub itself decides by name and by 10 MB
LARGE_NAMES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def git_hash(content: bytes) -> str:
    """The name that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A file of a commit: its content, or where its content lies among the large files."""

    size: int
    content: bytes | None = None
    sha256: str | None = None

    @property
    def blob_id(self) -> str:
        """Git's name of what is committed: the file, or the pointer to it."""
        if self.content is not None:
            return git_hash(self.content)
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n"
        return git_hash(pointer.encode())

    @property
    def etag(self) -> str:
        return self.sha256 or self.blob_id

    def listed(self, path: str) -> dict[str, Any]:
        """As `/tree` and `/paths-info` list it."""
        told: dict[str, Any] = {"type": "file", "path": path, "size": self.size, "oid": self.blob_id}
        if self.sha256 is not None:
            told["lfs"] = {"oid": self.sha256, "size": self.size, "pointerSize": 130}
        return told


@dataclass(frozen=True)
class Commit:
    """One version of all files."""

    sha: str
    summary: str
    files: dict[str, Entry] = field(default_factory=dict)


class Repository:
    """Commits, and the branches and tags that point to them."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.gated = False
        attributes = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"
        first = Commit(_sha("initial commit"), "initial commit", {".gitattributes": Entry(len(attributes), attributes)})
        self.commits = {first.sha: first}
        self.branches = {"main": first.sha}
        self.tags: dict[str, str] = {}

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, tag or hash."""
        return self.commits.get(self.branches.get(revision) or self.tags.get(revision) or revision)

    def commit(self, branch: str, operations: Iterable[dict[str, Any]], large: dict[str, bytes]) -> Commit:
        """Add a commit of the operations of its NDJSON lines.

        Raises:
            KeyError: If a large file has not been sent.
        """
        before = self.commits[self.branches[branch]]
        files, summary = dict(before.files), ""
        for operation in operations:
            key, value = operation["key"], operation["value"]
            if key == "header":
                summary = value["summary"]
            elif key == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = Entry(len(content), content)
            elif key == "lfsFile":
                files[value["path"]] = Entry(len(large[value["oid"]]), sha256=value["oid"])
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                files = {path: entry for path, entry in files.items() if not path.startswith(value["path"])}
        commit = Commit(_sha(before.sha, summary, sorted((p, e.blob_id) for p, e in files.items())), summary, files)
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit


_count = itertools.count()


def _sha(*parts: Any) -> str:
    return hashlib.sha1(json.dumps([next(_count), *map(str, parts)]).encode()).hexdigest()


def is_large(path: str, size: int) -> bool:
    """Whether a file is sent by itself rather than within the commit."""
    return size > 0 and (path.endswith(LARGE_NAMES) or size > LARGE)
