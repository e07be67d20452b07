"""Pictures on disk."""

from __future__ import annotations

from os import PathLike

import numpy as np
from PIL import Image

from gaia2._files import replacing


def save_png(path: str | PathLike[str], picture: np.ndarray) -> None:
    """Write a picture `(h, w, 3)` uint8 as a png file, which appears only when it is complete.

    Missing folders are made; an existing file is replaced.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> path = Path(tempfile.mkdtemp()) / "pictures" / "grey.png"
        >>> save_png(path, np.full((8, 16, 3), 128, np.uint8))
        >>> Image.open(path).size
        (16, 8)
    """
    with replacing(path) as unfinished:
        Image.fromarray(picture).save(unfinished, format="png")
