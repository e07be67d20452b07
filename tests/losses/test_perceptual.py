from __future__ import annotations

import sys
from itertools import pairwise
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from gaia2.losses.features import LayerFeatures, efficientnet_lite0
from gaia2.losses.perceptual import LPIPSLoss, PerceptualLoss


def small_network() -> LayerFeatures:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3, stride=2))
    return LayerFeatures(network=net, layers=["2", "3"])


def videos(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 2, 3, 4, 9, 10, generator=torch.Generator().manual_seed(seed)).mul(2).sub(1).unbind()


def picture() -> torch.Tensor:
    """One frame `(1, 3, 1, 64, 128)`: rectangles of random colours with sharp edges, over a fine pattern."""
    rng = np.random.default_rng(0)
    image = np.tile(np.indices((64, 128)).sum(axis=0) % 4 / 6.0, (3, 1, 1)) - 0.5
    for _ in range(30):
        (top, left), (height, width) = rng.integers(0, (56, 112)), rng.integers(4, 32, 2)
        image[:, top : top + height, left : left + width] = rng.uniform(-1, 1, (3, 1, 1))
    return torch.tensor(image[None, :, None], dtype=torch.float32)


def blurred(frames: torch.Tensor, radius: int) -> torch.Tensor:
    if not radius:
        return frames
    padded = functional.pad(frames, [radius] * 4 + [0, 0], mode="replicate")
    return functional.avg_pool3d(padded, (1, 2 * radius + 1, 2 * radius + 1), stride=1)


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_is_the_distance_of_unit_features(weight: float) -> None:
    network = small_network()
    loss = PerceptualLoss(network=network, weight=weight)
    one, other = videos()
    distances = []
    for layer in ("2", "3"):
        features = []
        for video in (one, other):
            images = video.transpose(1, 2).reshape(8, 3, 9, 10)
            feature = network(images)[layer].detach().double().numpy()
            features.append(feature / np.sqrt((feature**2).sum(axis=1, keepdims=True) + 1e-8))
        distances.append(((features[0] - features[1]) ** 2).sum(axis=1).mean())
    terms = loss(one, other)
    assert set(terms) == {"perceptual"}
    assert float(terms["perceptual"]) == pytest.approx(weight * np.mean(distances), rel=1e-5)


def test_equal_videos_have_no_distance() -> None:
    frames = videos()[0]
    assert PerceptualLoss(network=small_network())(frames, frames)["perceptual"].item() == 0


def test_more_blur_is_further_away() -> None:
    loss = PerceptualLoss(network=efficientnet_lite0())
    frames = picture()
    distances = [float(loss(blurred(frames, radius), frames)["perceptual"]) for radius in (0, 1, 2, 4, 8)]
    assert distances[0] == 0
    assert all(less < more for less, more in pairwise(distances)), distances


def test_blur_is_further_away_than_a_shift_in_brightness_of_the_same_squared_error() -> None:
    loss = PerceptualLoss(network=efficientnet_lite0())
    frames = 0.5 * picture()
    soft = blurred(frames, 2)
    shifted = frames + (soft - frames).square().mean().sqrt()
    assert loss(soft, frames)["perceptual"] > 2 * loss(shifted, frames)["perceptual"]


@pytest.mark.parametrize("kind", [PerceptualLoss, LPIPSLoss])
def test_gradient_goes_to_the_reconstruction_alone(kind: type[PerceptualLoss] | type[LPIPSLoss]) -> None:
    network: nn.Module = small_network() if kind is PerceptualLoss else Distance()
    loss = kind(network=network).train()
    statistics = {name: value.clone() for name, value in network.state_dict().items()}
    one, other = (video.clone().requires_grad_() for video in videos())
    (term,) = loss(one, other).values()
    term.backward()
    assert one.grad.abs().amax(dim=(0, 1, 3, 4)).gt(0).all()  # every frame
    assert other.grad is None
    assert all(p.grad is None for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, statistics[name]), name


def test_descending_the_loss_brings_the_picture_back() -> None:
    loss = PerceptualLoss(network=efficientnet_lite0(layers=["stage1", "stage2"]))
    frames = picture()
    guess = blurred(frames, 2).requires_grad_()
    optimizer = torch.optim.Adam([guess], lr=0.02)
    start = (guess - frames).square().mean().item()
    for _ in range(30):
        loss(guess, frames)["perceptual"].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (guess - frames).square().mean().item() < 0.8 * start


def test_black_frames_have_a_finite_gradient() -> None:
    network = LayerFeatures(network=nn.Sequential(nn.Conv2d(3, 4, 1, bias=False)), layers=["0"], mean=[0.0] * 3)
    black = torch.full((1, 3, 1, 4, 4), -1.0)
    guess = black.clone().requires_grad_()
    PerceptualLoss(network=network)(guess, black + 0.5)["perceptual"].backward()
    assert guess.grad.isfinite().all()


def test_a_random_subset_of_frames() -> None:
    loss = PerceptualLoss(network=small_network(), num_frames=2)
    one, other = videos()
    one = one.clone().requires_grad_()

    def touched(seed: int) -> list[bool]:
        term = loss(one, other, generator=torch.Generator().manual_seed(seed))["perceptual"]
        (gradient,) = torch.autograd.grad(term, one)
        return gradient.abs().amax(dim=(0, 1, 3, 4)).gt(0).tolist()

    chosen = [touched(seed) for seed in range(6)]
    assert all(sum(frames) == 2 for frames in chosen)
    assert len({tuple(frames) for frames in chosen}) > 1
    assert touched(0) == chosen[0]


def test_videos_of_different_sizes() -> None:
    one, other = videos()
    for loss in (PerceptualLoss(network=small_network()), LPIPSLoss(network=Distance())):
        with pytest.raises(ValueError, match=r"reconstruction: expected \(b=2, c=3, tv=4, hv=9, wv=10\), got"):
            loss(one[:, :, 1:], other)


class Distance(nn.Module):
    """Like `lpips.LPIPS`: a number for each pair of images, in whatever mode it is."""

    def __init__(self, net: str = "vgg", verbose: bool = True) -> None:
        super().__init__()
        self.net = net
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.drop = nn.Dropout(0.5)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.scale * self.drop(one - other).square().mean(dim=(1, 2, 3), keepdim=True)


def test_lpips_is_the_mean_over_images() -> None:
    one, other = videos()
    terms = LPIPSLoss(network=Distance()).train()(one, other)
    assert set(terms) == {"lpips"}
    assert float(terms["lpips"]) == pytest.approx(0.1 * 2 * float((one - other).square().mean()), rel=1e-5)


def test_lpips_from_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Distance))
    loss = LPIPSLoss.from_pretrained("alex", weight=0.7, num_frames=3)
    assert (loss.network.net, loss.weight, loss.num_frames) == ("alex", 0.7, 3)


def test_lpips_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ImportError, match=r"lpips: the term needs .* pip install 'gaia2\[lpips\]', or turn the term"):
        LPIPSLoss.from_pretrained()


def test_lpips_without_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(**kwargs: Any) -> nn.Module:
        raise URLError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=offline))
    with pytest.raises(OSError, match=r"lpips: expected the ImageNet weights of 'vgg' .* no route to host.* weight 0"):
        LPIPSLoss.from_pretrained()


def test_weighs_a_tenth_unless_told_otherwise() -> None:
    default, whole = (PerceptualLoss(network=small_network(), **given) for given in ({}, {"weight": 1.0}))
    first, second = videos()
    torch.testing.assert_close(default(first, second)["perceptual"], 0.1 * whole(first, second)["perceptual"])


def test_lpips_is_by_default_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    """VGG, a weight of a tenth, all frames; and the package is told to print nothing."""
    told = {}

    def make(**given: Any) -> nn.Module:
        told.update(given)
        return Distance()

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=make))
    loss = LPIPSLoss.from_pretrained()
    assert told == {"net": "vgg", "verbose": False}
    assert (loss.weight, loss.num_frames) == (0.1, None)
    assert (LPIPSLoss(network=Distance()).weight, LPIPSLoss(network=Distance()).num_frames) == (0.1, None)


def test_lpips_of_a_random_subset_of_frames() -> None:
    one, other = videos()
    loss = LPIPSLoss(network=Distance(), weight=1.0, num_frames=1)
    by_frame = [2 * float((one[:, :, t] - other[:, :, t]).square().mean()) for t in range(4)]
    drawn = [float(loss(one, other, generator=torch.Generator().manual_seed(i))["lpips"]) for i in range(30)]
    nearest = [min(range(4), key=lambda t, d=value: abs(by_frame[t] - d)) for value in drawn]
    assert set(nearest) == {0, 1, 2, 3}
    assert drawn == pytest.approx([by_frame[t] for t in nearest], rel=1e-5)
