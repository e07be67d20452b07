"""Memory for pixels that is used again once nobody holds it: fresh memory costs half as much time as the decoding."""

from __future__ import annotations

import math
import sys

import numpy as np

__all__ = ["PixelBuffers"]

_UNUSED = 3  # references to a buffer that only the pool has: its list, the loop's variable, the count's argument


class PixelBuffers:
    """Gives uint8 arrays, of memory that earlier ones have left.

    An array is left when neither it nor any view of it, a torch tensor on it included, is held any more.

    Args:
        keep: How many to keep for later.

    Example:
        >>> buffers = PixelBuffers()
        >>> first = buffers.take((2, 3))
        >>> place = first.ctypes.data
        >>> second = buffers.take((2, 3))
        >>> del first
        >>> second.ctypes.data != place, buffers.take((3, 2)).ctypes.data == place
        (True, True)
    """

    def __init__(self, keep: int = 8) -> None:
        self._keep = keep
        self._buffers: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of this shape; what is in it is not defined."""
        size = math.prod(shape)
        for buffer in self._buffers:
            if size <= buffer.size <= 2 * size and sys.getrefcount(buffer) == _UNUSED:
                return buffer[:size].reshape(shape)
        buffer = np.empty(size, dtype=np.uint8)
        self._buffers = [buffer, *self._buffers[: self._keep - 1]]
        return buffer[:].reshape(shape)
