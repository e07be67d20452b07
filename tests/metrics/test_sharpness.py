from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gaia2.metrics.sharpness import high_frequency_ratio, seam_ratio


@settings(max_examples=30, deadline=None)
@given(height=st.integers(2, 12), width=st.integers(2, 12), cutoff=st.floats(0.05, 0.45), seed=st.integers(0, 99))
def test_is_the_energy_of_the_spectrum_above_the_cutoff(height: int, width: int, cutoff: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.normal(size=(2, 2, 3, height, width))
    energies = []
    for video in (one, other):
        power = np.abs(np.fft.fft2(video)) ** 2
        high = (np.abs(np.fft.fftfreq(height))[:, None] >= cutoff) | (np.abs(np.fft.fftfreq(width)) >= cutoff)
        energies.append((power * high).sum(axis=(1, 2, 3)))
    got = high_frequency_ratio(torch.tensor(one), torch.tensor(other), cutoff=cutoff).numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        np.testing.assert_allclose(got, energies[0] / energies[1], rtol=1e-3)


def test_blur_lowers_it_and_noise_raises_it() -> None:
    frames = torch.rand(2, 3, 4, 16, 32) * 2 - 1
    blurred = functional.avg_pool3d(frames, (1, 3, 3), stride=1, padding=(0, 1, 1), count_include_pad=False)
    torch.testing.assert_close(high_frequency_ratio(frames, frames), torch.ones(2))
    assert (high_frequency_ratio(blurred, frames) < 0.5).all()
    assert (high_frequency_ratio(frames + 0.5 * torch.randn_like(frames), frames) > 1.2).all()


def test_coarse_changes_do_not_count() -> None:
    frames = torch.rand(1, 1, 32, 32)
    wave = torch.sin(2 * torch.pi * torch.arange(32) * 4 / 32)  # an eighth of a cycle a pixel
    torch.testing.assert_close(high_frequency_ratio(frames + 3 * wave, frames), torch.ones(1), rtol=1e-4, atol=0)


def test_bad_sharpness_input() -> None:
    with pytest.raises(ValueError, match=r"reconstruction: expected the shape of frames, \(1, 4, 4\), got \(1, 4, 8\)"):
        high_frequency_ratio(torch.zeros(1, 4, 8), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"cutoff: expected cycles a pixel in \(0, 0.5\], got 0.6"):
        high_frequency_ratio(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), cutoff=0.6)


def test_a_jump_at_every_border_is_a_seam() -> None:
    brightness = torch.arange(24.0)
    jumping = brightness + 4 * (torch.arange(24) // 8)
    videos = torch.stack([brightness, jumping]).reshape(2, 1, 24, 1, 1).expand(2, 3, 24, 2, 2)
    torch.testing.assert_close(seam_ratio(videos, 8), torch.tensor([1.0, 5.0]))
    torch.testing.assert_close(seam_ratio(videos[:, :, 8:17], 8), torch.tensor([1.0, 5.0]))


@pytest.mark.parametrize(("shape", "g"), [((1, 3, 8, 4, 4), 8), ((1, 3, 8, 4), 2), ((1, 3, 8, 4, 4), 1)])
def test_a_video_without_borders(shape: tuple[int, ...], g: int) -> None:
    with pytest.raises(
        ValueError, match=r"expected \(b, c, tv, hv, wv\) with tv > frames_per_latent > 1, got .*; decode"
    ):
        seam_ratio(torch.zeros(shape), g)
