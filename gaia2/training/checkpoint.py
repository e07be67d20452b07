"""Training state on disk: written whole or not at all, read without executing anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from gaia2._files import replacing


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
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())


def load_checkpoint(path: str | Path, map_location: str | torch.device = "cpu") -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, or holds anything but tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a training checkpoint, got no file; start the training without one")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise ValueError(f"{path}: expected a training checkpoint, got a file that cannot be read: {error}") from error
