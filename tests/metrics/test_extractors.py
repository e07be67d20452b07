"""Feature extractors against the networks that they wrap, at the size that the metric asks for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from gaia2.metrics.extractors import dino_features, efficientnet_features, inception_features

IMAGES = torch.randint(0, 256, (3, 3, 48, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_dino_is_the_class_token_at_the_stated_size() -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    model = Dinov2Model(config).eval()
    extractor = dino_features(model, size=(28, 56))
    assert extractor.name == "dinov2 CLS 28x56"
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    resized = F.interpolate(IMAGES.float() / 255, size=(28, 56), mode="bilinear", align_corners=False, antialias=True)
    given = (resized - mean[:, None, None]) / std[:, None, None]
    want = model(pixel_values=given).last_hidden_state[:, 0]
    torch.testing.assert_close(extractor(IMAGES), want, atol=1e-4, rtol=1e-4)


def test_inception_gets_bytes_of_299_pixels() -> None:
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, 299, 299)
            return images.float().mean(dim=(2, 3))

    extractor = inception_features(Mean())
    assert extractor.name == "Mean 299x299"
    torch.testing.assert_close(extractor(IMAGES), IMAGES.float().mean(dim=(2, 3)), atol=1.0, rtol=0)


def test_bytes_and_numbers_give_the_same_and_batches_change_nothing() -> None:
    extractor = efficientnet_features()
    whole = extractor(IMAGES)
    torch.testing.assert_close(extractor(IMAGES.float() / 127.5 - 1), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(torch.cat([extractor(image[None]) for image in IMAGES]), whole, atol=1e-3, rtol=1e-3)
    assert extractor.name == "efficientnet-lite0 stage5"


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"images: expected \(i, 3, hv, wv\)"):
        efficientnet_features()(torch.zeros(2, 1, 3, 8, 8))


def test_missing_weights_say_which_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    def nowhere(name: str) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", nowhere)
    with pytest.raises(OSError, match=r"facebook/dinov2-large: expected its weights in the cache.*or give a network"):
        dino_features()
