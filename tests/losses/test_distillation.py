from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from gaia2.losses.distillation import DINODistillationLoss

TINY: dict[str, Any] = dict(
    hidden_size=8, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=28, patch_size=14
)
CHANNELS = 4


def dinov2(kind: str = "plain") -> nn.Module:
    torch.manual_seed(0)
    if kind == "plain":
        return Dinov2Model(Dinov2Config(**TINY))
    return Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**TINY, num_register_tokens=3))


def distillation(kind: str = "plain", **changes: Any) -> DINODistillationLoss:
    return DINODistillationLoss(network=dinov2(kind), latent_channels=CHANNELS, **changes)


def inputs(t: int = 3, h: int = 2, w: int = 4, tv: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, CHANNELS, t, h, w, generator=generator)
    return latents, torch.rand(2, 3, tv, 32, 64, generator=generator) * 2 - 1


@torch.no_grad()
def target_of_all_frames(loss: DINODistillationLoss, frames: torch.Tensor, t: int, h: int, w: int) -> torch.Tensor:
    """Every frame through the network, then torch's interpolation in time: `(b, t, h, w, c)`."""
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    by_frame = []
    for frame in frames.unbind(dim=2):
        image = functional.interpolate(frame, (14 * h, 14 * w), mode="bilinear", antialias=True)
        tokens = loss.network(pixel_values=(image / 2 + 0.5 - mean) / std).last_hidden_state
        registers = getattr(loss.network.config, "num_register_tokens", 0)
        by_frame.append(tokens[:, 1 + registers :])
    stacked = torch.stack(by_frame, dim=-1)  # b (h w) c tv
    b, cells, c, tv = stacked.shape
    in_time = functional.interpolate(stacked.reshape(b, cells * c, tv), t, mode="linear", align_corners=False)
    return in_time.reshape(b, h, w, c, t).permute(0, 4, 1, 2, 3)


@pytest.mark.parametrize("kind", ["plain", "registers"])
@pytest.mark.parametrize("weight", [0.1, 2.0])
def test_is_the_cosine_distance_from_interpolated_features(kind: str, weight: float) -> None:
    loss = distillation(kind, weight=weight)
    latents, frames = inputs()
    target = target_of_all_frames(loss, frames, 3, 2, 4)
    predicted = torch.einsum("bithw,oi->bthwo", latents, loss.head.weight) + loss.head.bias
    cosine = (predicted * target).sum(-1) / (predicted.norm(dim=-1) * target.norm(dim=-1))
    terms = loss(latents, frames)
    assert set(terms) == {"dino"}
    assert terms["dino"].item() == pytest.approx(weight * (1 - cosine).mean().item(), rel=1e-4)


@settings(max_examples=15, deadline=None)
@given(tv=st.integers(1, 12), t=st.integers(1, 6))
def test_interpolation_in_time_is_torchs(tv: int, t: int) -> None:
    loss = distillation()
    frames = torch.rand(1, 3, tv, 28, 28) * 2 - 1
    got = loss.target(frames, t, 1, 1)
    torch.testing.assert_close(got, target_of_all_frames(loss, frames, t, 1, 1), atol=1e-4, rtol=1e-4)


def test_computes_the_frames_that_are_read_on_the_latent_grid() -> None:
    loss = distillation()
    seen: list[tuple[int, ...]] = []
    loss.network.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tuple(kwargs["pixel_values"].shape)), with_kwargs=True
    )
    loss.target(torch.zeros(1, 3, 24, 448, 960), 3, 14, 30)
    assert seen == [(2 * 3, 3, 196, 420)]


def test_head_learns_and_nothing_of_the_network_does() -> None:
    loss = distillation().train()
    latents, frames = inputs()
    latents.requires_grad_()
    frames.requires_grad_()
    loss(latents, frames)["dino"].backward()
    assert [name for name, p in loss.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    assert loss.head.weight.grad.abs().max() > 0
    assert latents.grad.abs().amax(dim=1).gt(0).all()
    assert frames.grad is None
    assert not any(module.training for module in loss.network.modules())


def test_alignment_of_latents_and_features_can_be_learned() -> None:
    loss = distillation(weight=1.0)
    latents, frames = inputs()
    optimizer = torch.optim.Adam([latents.requires_grad_(), *loss.head.parameters()], lr=0.1)
    start = loss(latents, frames)["dino"].item()
    for _ in range(60):
        optimizer.zero_grad()
        term = loss(latents, frames)["dino"]
        term.backward()
        optimizer.step()
    assert term.item() < 0.25 * start


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_ends_of_the_scale(sign: float) -> None:
    loss = DINODistillationLoss(network=dinov2(), latent_channels=8)
    _, frames = inputs()
    with torch.no_grad():
        loss.head.weight.copy_(sign * torch.eye(8))
        loss.head.bias.zero_()
        latents = loss.target(frames, 3, 2, 4).permute(0, 4, 1, 2, 3)
    assert loss(latents, frames)["dino"].item() == pytest.approx(0.0 if sign > 0 else 0.2, abs=1e-6)


@pytest.mark.parametrize("kind", ["plain", "registers"])
def test_loads_from_a_folder(kind: str, tmp_path: Path) -> None:
    loss = distillation(kind)
    loss.network.save_pretrained(tmp_path)
    loaded = DINODistillationLoss.from_pretrained(str(tmp_path), latent_channels=CHANNELS, weight=0.3)
    assert loaded.weight == 0.3
    assert loaded.head.in_features == CHANNELS
    frames = inputs()[1]
    torch.testing.assert_close(loaded.target(frames, 3, 2, 4), loss.target(frames, 3, 2, 4))
    assert "torchvision" not in sys.modules


def test_without_weights_it_says_which_and_how_to_go_on(tmp_path: Path) -> None:
    missing = str(tmp_path / "dinov2-large")
    with pytest.raises(OSError, match=r"dino: expected the weights of '.*dinov2-large' .* or turn the term off with w"):
        DINODistillationLoss.from_pretrained(missing)


def test_default_is_the_papers_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def from_pretrained(name: str, **kwargs: Any) -> nn.Module:
        asked.append((name, kwargs))
        return dinov2()

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", from_pretrained)
    loss = DINODistillationLoss.from_pretrained()
    assert asked == [("facebook/dinov2-large", {"use_safetensors": True})]
    assert loss.head.in_features == 64
    assert loss.weight == 0.1


@pytest.mark.parametrize(
    ("latents", "frames", "match"),
    [
        ((2, 5, 3, 2, 4), (2, 3, 24, 32, 64), r"latents: expected \(b, c=4, t, h, w\), got .*; make the loss with the"),
        ((2, 4, 3, 2, 4), (1, 3, 24, 32, 64), r"frames: expected \(b=2, c=3, tv, hv, wv\), got \(1, 3, 24, 32, 64\)"),
        ((2, 4, 3, 2, 4), (2, 24, 3, 32, 64), r"frames: expected \(b=2, c=3, tv, hv, wv\), got .*; give RGB video"),
    ],
)
def test_bad_inputs(latents: tuple[int, ...], frames: tuple[int, ...], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        distillation()(torch.zeros(latents), torch.zeros(frames))
