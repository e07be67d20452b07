from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.metrics.reconstruction import psnr


def test_is_the_formula_sample_by_sample() -> None:
    rng = np.random.default_rng(0)
    frames = rng.uniform(-1, 1, (3, 3, 4, 5)).astype(np.float32)
    noise = rng.normal(size=(3, 3, 4, 5))
    noisy = (frames + 0.1 * np.arange(1, 4)[:, None, None, None] * noise).astype(np.float32)
    got = psnr(torch.tensor(noisy), torch.tensor(frames))
    assert got.shape == (3,)
    for i in range(3):
        mse = ((np.clip(noisy[i], -1, 1) - frames[i]) ** 2).mean() / 4  # of a range of 1
        assert float(got[i]) == pytest.approx(10 * np.log10(1 / mse), rel=1e-4)
    assert got[0] > got[1] > got[2]


def test_ends() -> None:
    frames = torch.rand(1, 3, 2, 2) * 2 - 1
    assert psnr(frames, frames).tolist() == [float("inf")]
    assert psnr(torch.ones(1, 4), -torch.ones(1, 4)).tolist() == [0.0]
    assert psnr(torch.full((1, 4), 9.0), torch.ones(1, 4)).tolist() == [float("inf")]
