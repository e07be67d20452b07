"""Training state on disk: written whole or not at all, read without executing anything, with a checksum.

A file is what `torch.save` writes, and behind it a mark and the SHA-256 of all that is before the mark.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from gaia2._files import replacing

MARK = b"sha256:"
TRAILER = len(MARK) + 32
BLOCK = 1 << 22


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write nested dicts of tensors and numbers; a killed process leaves the previous file as it was.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "training.pt"
        >>> save_checkpoint(path, {"step": 3})
        >>> load_checkpoint(path)
        {'step': 3}
    """
    with replacing(path) as unfinished, open(unfinished, "wb") as file:
        hashing = _HashingWriter(file)
        torch.save(state, cast("BinaryIO", hashing))  # it only writes
        file.write(MARK + hashing.digest.digest())
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, were it by one bit, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a training checkpoint, got no file; start the training without one")
    try:
        _check_sum(path)
        return torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: expected a training checkpoint, got a file that cannot be read: {error}") from error


class _HashingWriter:
    """Passes bytes on to a file, and takes their hash."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _check_sum(path: Path) -> None:
    """Raise if a file has a checksum that is not its own."""
    with open(path, "rb") as file:
        left = file.seek(0, os.SEEK_END) - TRAILER
        file.seek(max(0, left))
        mark, digest = file.read(len(MARK)), file.read()
        if mark != MARK:  # its end is lost, which torch notices, or something else wrote it
            return
        file.seek(0)
        actual = hashlib.sha256()
        while left > 0:
            block = file.read(min(BLOCK, left))
            actual.update(block)
            left -= len(block)
    if actual.digest() != digest:
        raise ValueError("its checksum is wrong, so it was damaged after it was written; take an older one")
