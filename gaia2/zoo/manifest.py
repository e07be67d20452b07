"""What a folder of weights is and where it comes from: `manifest.json` beside the weights."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaia2._files import replacing

__all__ = ["MANIFEST", "check_manifest", "file_hashes", "write_manifest"]

MANIFEST = "manifest.json"


def file_hashes(folder: str | Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but its manifest, by its path there."""
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_manifest(folder: str | Path, facts: Mapping[str, Any]) -> Path:
    """Write the manifest of a folder: what is known of its training, and the hash of each file.

    Args:
        folder: Weights and configs, complete.
        facts: JSON values by name: commit, versions, options, data, curves, figures.

    Returns:
        Path of the manifest.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "config.json").write_text("{}")
        >>> _ = write_manifest(folder, {"commit": "0123abc"})
        >>> check_manifest(folder)["commit"]
        '0123abc'
    """
    path = Path(folder) / MANIFEST
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps({**facts, "files": file_hashes(folder)}, indent=1, allow_nan=False) + "\n")
    return path


def check_manifest(folder: str | Path) -> dict[str, Any]:
    """Read a folder's manifest and compare the hashes of its files.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If a file is missing, was added or has changed; the message names it.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the manifest of the weights beside them, found none")
    manifest: dict[str, Any] = json.loads(path.read_text())
    said, found = manifest["files"], file_hashes(folder)
    for name in sorted(said.keys() | found.keys()):
        if said.get(name) != found.get(name):
            what = "it is missing" if name not in found else "it was added" if name not in said else "it has changed"
            raise ValueError(f"{name}: expected the files that {MANIFEST} lists, but {what}; install the weights again")
    return manifest
