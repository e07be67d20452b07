from __future__ import annotations

import numpy as np
import pytest
import torch

from gaia2.metrics.reconstruction import psnr, ssim


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


def similarity_by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """SSIM of two pictures `(h, w)` in [-1, 1], window by window, as the formula stands."""
    offset = np.arange(11) - 5
    weights = np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a, b = (v[top : top + 11, left : left + 11].astype(np.float64) for v in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            variance_a, variance_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
            values.append(
                (2 * mean_a * mean_b + c1)
                * (2 * covariance + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
            )
    return float(np.mean(values))


def test_ssim_is_the_formula_window_by_window() -> None:
    rng = np.random.default_rng(0)
    frames = rng.uniform(-1, 1, (2, 3, 2, 13, 14)).astype(np.float32)
    noisy = (frames + rng.normal(size=frames.shape) * np.array([0.1, 0.6]).reshape(2, 1, 1, 1, 1)).astype(np.float32)
    got = ssim(torch.tensor(noisy), torch.tensor(frames))
    for b in range(2):
        pictures = [(noisy[b, c, t].clip(-1, 1), frames[b, c, t]) for c in range(3) for t in range(2)]
        assert float(got[b]) == pytest.approx(np.mean([similarity_by_hand(*pair) for pair in pictures]), abs=1e-4)
    assert 0 < got[1] < got[0] < 1


def test_ssim_is_computed_in_float32_within_autocast() -> None:
    frames, noisy = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        inside = ssim(noisy, frames)
    assert torch.equal(inside, ssim(noisy, frames))


def test_ssim_ends() -> None:
    frames = torch.rand(2, 3, 16, 16) * 2 - 1
    torch.testing.assert_close(ssim(frames, frames), torch.ones(2))
    assert (ssim(torch.rand_like(frames) * 2 - 1, frames).abs() < 0.1).all()
    assert ssim(torch.full((1, 16, 16), 0.5), torch.full((1, 16, 16), -0.5)).item() == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("shapes", [((1, 3, 16, 16), (1, 3, 16, 17)), ((1, 3, 10, 16), (1, 3, 10, 16))])
def test_ssim_of_pictures_that_do_not_fit(shapes: tuple) -> None:
    message = r"ssim: expected two videos \(b, ..., hv, wv\) of one shape with at least 11 rows and columns, got"
    with pytest.raises(ValueError, match=message):
        ssim(*map(torch.zeros, shapes))
