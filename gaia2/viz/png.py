"""Pictures on disk."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image


def save_png(path: str | PathLike[str], picture: np.ndarray) -> None:
    """Write a picture `(h, w, 3)` uint8 as a png file, which appears only when it is complete.

    Missing folders are made; an existing file is replaced.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "pictures" / "grey.png"
        >>> save_png(path, np.full((8, 16, 3), 128, np.uint8))
        >>> Image.open(path).size
        (16, 8)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        Image.fromarray(picture).save(partial, format="png")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
