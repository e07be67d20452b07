"""Drift of a long video, on videos whose drift is known."""

from __future__ import annotations

import math

import pytest
import torch

from gaia2.metrics.drift import drift, window_looks
from gaia2.metrics.picture_training import new_judge


def test_fading_contrast_is_seen() -> None:
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(1, 2, 3, 32, 64, generator=generator)
    fade = torch.linspace(1, 0.2, 4).repeat_interleave(4)[:, None, None, None, None]
    frames = ((0.5 + fade * (still - 0.5)) * 255).round().byte()
    looks = window_looks(frames, new_judge(width=4).eval(), window=4)
    assert len(looks["contrast"]) == 4
    kept = drift([looks])
    assert math.isclose(kept["contrast"].value(), 0.2, abs_tol=0.01)
    assert math.isclose(kept["sharpness"].value(), 0.2, abs_tol=0.02)


def test_a_steady_video_does_not_drift() -> None:
    frames = torch.randint(0, 256, (1, 1, 3, 32, 64), dtype=torch.uint8).expand(8, -1, -1, -1, -1)
    kept = drift([window_looks(frames, new_judge(width=4).eval(), window=4)])
    assert {name: measure.value() for name, measure in kept.items()} == {"contrast": 1.0, "sharpness": 1.0, "sky": 1.0}


def test_videos_count_by_what_they_show() -> None:
    kept = drift([{"sky": [0.3, 0.9, 0.3]}, {"sky": [0.1, 0.0]}])["sky"]
    assert kept.value() == pytest.approx(0.75)
    assert kept.interval() == pytest.approx((0.0, 1.0))


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="at least 8, two windows, got 7"):
        window_looks(torch.zeros(7, 1, 3, 32, 64, dtype=torch.uint8), new_judge(width=4), window=4)
