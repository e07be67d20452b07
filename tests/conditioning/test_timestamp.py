from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gaia2.conditioning.condition import LatentTimes
from gaia2.conditioning.timestamp import TimestampCondition, TimestampEncoder, relative_to_present
from gaia2.scene import Scene


def test_features_are_of_the_time_over_the_fixed_span() -> None:
    encoder = TimestampEncoder(dim=6, num_frequencies=3).double()
    times = torch.tensor([[[-2.4, 0.0], [0.6, 1.2]]], dtype=torch.float64)
    x = (times / 2.4)[..., None]
    waves = [2**i * math.pi * x for i in range(3)]
    features = torch.cat([x, *(w.sin() for w in waves), *(w.cos() for w in waves)], dim=-1)
    torch.testing.assert_close(encoder(times), encoder.mlp(features))


def test_past_and_future_ends_of_the_window_differ() -> None:
    # The sines and cosines alone agree at -1 and 1.
    ends = TimestampEncoder(dim=6)(torch.tensor([[[-2.4], [2.4]]]))
    assert (ends[0, 0] - ends[0, 1]).abs().max() > 1e-3


def test_milliseconds_between_cameras_are_told_apart_in_half_precision() -> None:
    out = TimestampEncoder(dim=64).bfloat16()(torch.tensor([[[1.0, 1.005]]]))
    assert out.dtype == torch.bfloat16
    assert (out[0, 0, 0] - out[0, 0, 1]).abs().max() > 0.01


def test_relative_to_the_last_context_latent_on_average_over_the_cameras() -> None:
    times = torch.tensor([[[10.0, 10.1], [10.5, 10.6], [11.0, 11.1]]]).repeat(3, 1, 1)
    got = relative_to_present(times, torch.tensor([0, 1, 3]))
    expected = times - torch.tensor([10.05, 10.05, 11.05]).reshape(3, 1, 1)
    torch.testing.assert_close(got, expected)


def test_the_present_does_not_depend_on_the_order_of_the_cameras() -> None:
    times = torch.tensor([[[0.0, 0.03, 0.1], [0.5, 0.53, 0.6]]], dtype=torch.float64)
    order = [2, 0, 1]
    got = relative_to_present(times[..., order], torch.tensor([1]))
    torch.testing.assert_close(got, relative_to_present(times, torch.tensor([1]))[..., order])
    absent = torch.cat([times, torch.full((1, 2, 1), torch.nan, dtype=torch.float64)], dim=-1)
    torch.testing.assert_close(relative_to_present(absent, torch.tensor([1]))[..., order], got)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"timestamps: expected \(b, t, n\), got \(3, 5\)"):
        TimestampEncoder(dim=6)(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="max_seconds: expected a positive number of seconds, got 0"):
        TimestampEncoder(dim=6, max_seconds=0)
    with pytest.raises(ValueError, match=r"timestamps: expected \(b, t, n\), got \(3,\)"):
        relative_to_present(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"context_length: expected \(b=1\), got \(2,\)"):
        relative_to_present(torch.zeros(1, 3, 5), torch.zeros(2, dtype=torch.int64))


def given_scene() -> Scene:
    """Two latents of four frames and three cameras, on a clock of its own."""
    times = 50 + 0.1 * np.arange(8)[:, None] + np.array([0.0, 0.01, 0.05])
    return Scene.create("surround3", num_frames=8).replace(timestamps=times)


@pytest.mark.parametrize("present", [0, 1])
def test_a_latents_time_is_the_mean_of_its_frames_from_the_present_on(present: int) -> None:
    got = TimestampCondition().collate([given_scene()] * 2, LatentTimes(4, present))["timestamps"]
    expected = np.array([[0.0, 0.01, 0.05], [0.4, 0.41, 0.45]]) - 0.02 - 0.4 * present
    assert got.shape == (2, 2, 3)
    np.testing.assert_allclose(got[1], expected, atol=1e-9)


def test_the_condition_is_the_same_for_all_cells() -> None:
    condition = TimestampCondition(max_seconds=1.2)
    encoder = condition.make_encoder(6)
    assert encoder.max_seconds == 1.2
    times = torch.tensor([[[0.0, 0.1], [0.8, 0.9]]])
    got = condition.encode(encoder, {"timestamps": times}, None)
    assert got.shape == (1, 2, 2, 1, 1, 6)
    torch.testing.assert_close(got[:, :, :, 0, 0], encoder(times))
    assert list(condition.said_by(given_scene())) == ["timestamps"]
    assert not condition.masked_like("timestamps", times).any()
    key = condition.keys["timestamps"]
    assert (key.axes, key.required, key.droppable) == ("b t n", True, False)


def test_a_window_of_48_frames_at_20_hz_is_covered() -> None:
    assert TimestampEncoder(dim=6).max_seconds == TimestampCondition().max_seconds == 48 / 20
    assert TimestampEncoder(dim=6).features.num_frequencies == 10
