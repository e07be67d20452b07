from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gaia2.losses.frozen import FrozenNetworkLoss, paired_images


def test_network_stays_frozen_and_in_eval_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    loss = FrozenNetworkLoss(network=network, weight=0.5)
    assert loss.train() is loss
    parent = nn.ModuleList([loss]).train()
    assert parent[0].training
    assert not any(module.training for module in network.modules())
    assert not any(p.requires_grad for p in loss.parameters())
    assert not loss.eval().training


@settings(max_examples=20, deadline=None)
@given(tv=st.integers(1, 9), count=st.integers(1, 9), seed=st.integers(0, 100))
def test_the_same_frames_of_both_videos(tv: int, count: int, seed: int) -> None:
    count = min(count, tv)
    frames = torch.arange(tv * 2.0).reshape(2, 1, tv, 1, 1).expand(2, 3, tv, 2, 4)
    generator = torch.Generator().manual_seed(seed)
    one, other = paired_images(frames + 100, frames, num_frames=count, generator=generator)
    assert one.shape == (2 * count, 3, 2, 4)
    assert torch.equal(one, other + 100)
    seen = other[:, 0, 0, 0].reshape(2, count)
    assert torch.equal(seen[1], seen[0] + tv)
    assert len(seen[0].unique()) == count
    again = paired_images(frames, frames, num_frames=count, generator=torch.Generator().manual_seed(seed))[1]
    assert torch.equal(again, other)


def test_all_frames_in_order() -> None:
    frames = torch.randn(2, 3, 5, 2, 4)
    one, _ = paired_images(frames, frames)
    assert torch.equal(one[5 + 2], frames[1, :, 2])


@pytest.mark.parametrize(
    ("reconstruction", "frames", "num_frames", "match"),
    [
        (
            (2, 3, 4, 8, 8),
            (2, 3, 4, 8, 9),
            None,
            r"reconstruction: expected \(b=2, c=3, tv=4, hv=8, wv=9\), got",
        ),
        ((2, 1, 4, 8, 8), (2, 1, 4, 8, 8), None, r"frames: expected \(b, c=3, tv, hv, wv\), got .*; give RGB video"),
        ((3, 4, 8, 8), (3, 4, 8, 8), None, r"frames: expected \(b, c=3, tv, hv, wv\), got \(3, 4, 8, 8\)"),
        ((1, 3, 4, 8, 8), (1, 3, 4, 8, 8), 5, r"num_frames: expected from 1 to the 4 frames given, got 5; None takes"),
        ((1, 3, 4, 8, 8), (1, 3, 4, 8, 8), 0, r"num_frames: expected from 1 to the 4 frames given, got 0"),
    ],
)
def test_bad_videos(
    reconstruction: tuple[int, ...], frames: tuple[int, ...], num_frames: int | None, match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        paired_images(torch.zeros(reconstruction), torch.zeros(frames), num_frames=num_frames)
