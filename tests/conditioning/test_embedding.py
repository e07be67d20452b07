from __future__ import annotations

import pytest
import torch

from gaia2.conditioning.clip_embedding import ClipEncoder
from gaia2.conditioning.embedding import EmbeddingEncoder
from gaia2.conditioning.scenario import ScenarioEncoder

NAN = float("nan")
BOTH = pytest.mark.parametrize("cls", [ClipEncoder, ScenarioEncoder])


@BOTH
def test_linear_projection_or_null(cls: type[EmbeddingEncoder]) -> None:
    encoder = cls(dim=4, embedding_dim=3)
    embedding = torch.randn(3, 3)
    embedding[1] = NAN
    out = encoder(embedding)
    assert out.shape == (3, 1, 4)
    torch.testing.assert_close(out[[0, 2], 0], encoder.linear(embedding[[0, 2]]))
    torch.testing.assert_close(out[1, 0], encoder.null)
    assert (encoder(torch.zeros(1, 3))[0, 0] - encoder.null).abs().max() > 1e-3


@BOTH
def test_absence_leaves_gradients_finite(cls: type[EmbeddingEncoder]) -> None:
    encoder = cls(dim=4, embedding_dim=3)
    embedding = torch.tensor([[NAN] * 3, [1.0, 2.0, 3.0]], requires_grad=True)
    encoder(embedding).square().sum().backward()
    assert embedding.grad is not None
    assert embedding.grad.isfinite().all()
    assert embedding.grad[0].abs().max() == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_bad_input_names_the_condition() -> None:
    with pytest.raises(ValueError, match=r"clip_embedding: expected \(b, d=768\), got \(1, 512\)"):
        ClipEncoder(dim=4, embedding_dim=768)(torch.zeros(1, 512))
    with pytest.raises(ValueError, match=r"scenario_embedding: .* or all NaN where absent, got 1 NaN of 3 in row 1"):
        ScenarioEncoder(dim=4, embedding_dim=3)(torch.tensor([[1.0, 2.0, 3.0], [NAN, 1.0, 2.0]]))
