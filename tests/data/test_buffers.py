"""Memory that is used again, and never while somebody holds it."""

from __future__ import annotations

import numpy as np
import torch

from gaia2.data.buffers import PixelBuffers


def test_memory_is_used_again_when_it_is_left() -> None:
    buffers = PixelBuffers()
    first = buffers.take((4, 5, 6))
    place = first.ctypes.data
    first[:] = 7
    view = torch.from_numpy(first[1:]).permute(2, 0, 1)[0]
    del first
    second = buffers.take((4, 5, 6))  # a tensor of a view still holds it
    second[:] = 9
    assert (view == 7).all()
    assert second.ctypes.data != place
    del view
    assert buffers.take((5, 4, 6)).ctypes.data == place


def test_few_are_kept_and_none_far_too_large() -> None:
    buffers = PixelBuffers(keep=2)
    held = [buffers.take((100,)) for _ in range(5)]
    assert len({array.ctypes.data for array in held}) == 5
    for number, array in enumerate(held):
        array[:] = number
    assert [int(array.mean()) for array in held] == list(range(5))
    del held, array
    assert len(buffers._buffers) == 2
    assert buffers.take((30,)).base.size == 30
    assert np.shape(buffers.take((0, 3))) == (0, 3)
