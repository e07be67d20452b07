"""Bytes to numbers and back: every value, and nothing but rounding between."""

from __future__ import annotations

import numpy as np
import torch

from gaia2.video import from_uint8, to_uint8, unit_to_uint8

BYTES = torch.arange(256, dtype=torch.uint8)


def test_every_byte_comes_back() -> None:
    frames = from_uint8(BYTES.reshape(2, 8, 16))
    assert frames.dtype == torch.float32
    np.testing.assert_allclose(frames.flatten().numpy(), [2 * byte / 255 - 1 for byte in range(256)], atol=1e-6)
    assert torch.equal(to_uint8(frames).flatten(), BYTES)
    np.testing.assert_array_equal(unit_to_uint8(frames.numpy() / 2 + 0.5).ravel(), BYTES.numpy())


def test_rounding_goes_to_the_nearest_byte_and_the_range_is_kept() -> None:
    step = 2 / 255
    for shift, expected in ((-0.45, 100), (0.45, 100), (0.55, 101)):
        assert to_uint8(torch.tensor([100 * step - 1 + shift * step])).tolist() == [expected]
        assert unit_to_uint8(np.array([(100 + shift) / 255])).tolist() == [expected]
    assert to_uint8(torch.tensor([-3.0, 7.0], dtype=torch.bfloat16)).tolist() == [0, 255]
