from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.nn.norm import AdaptiveLayerNorm, RMSNorm


@settings(max_examples=25, deadline=None)
@given(dim=st.integers(1, 16), scale=st.floats(1e-2, 1e3), seed=st.integers(0, 100))
def test_rms_norm_is_the_formula(dim: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = scale * rng.normal(size=(3, dim)), rng.normal(size=dim)
    norm = RMSNorm(dim, eps=1e-6).double()
    norm.weight.data = torch.tensor(weight)
    expected = x / np.sqrt((x**2).sum(1, keepdims=True) / dim + 1e-6) * weight
    np.testing.assert_allclose(norm(torch.tensor(x)).detach(), expected, rtol=1e-9, atol=1e-12)
    with torch.no_grad():  # another way there
        np.testing.assert_allclose(norm(torch.tensor(x)), expected, rtol=1e-9, atol=1e-12)


def test_rms_norm_keeps_the_type_of_its_input() -> None:
    norm = RMSNorm(4)
    assert norm(torch.randn(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
    assert norm(torch.randn(2, 4)).dtype == torch.float32
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            assert norm(torch.randn(2, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16
            plain = RMSNorm(4, elementwise_affine=False)(torch.full((4,), 2.0))
            assert plain.tolist() == pytest.approx([1.0] * 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_norm_without_gradients_is_as_precise_as_torchs(dtype: torch.dtype) -> None:
    norm = RMSNorm(32, eps=1e-6).to(dtype)
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    x = (300 * torch.randn(50, 32)).to(dtype)  # squares beyond float16
    exact = torch.nn.functional.rms_norm(x.double(), (32,), norm.weight.double(), 1e-6)
    with torch.no_grad():
        got = norm(x).double()
    torch.testing.assert_close(got, exact.detach(), rtol=4 * torch.finfo(dtype).eps, atol=0)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)


def test_adaptive_norm_is_a_plain_layer_norm_at_first() -> None:
    x, modulation = torch.randn(2, 5, 8), torch.randn(2, 1, 8)
    got = AdaptiveLayerNorm(dim=8)(x, modulation)
    np.testing.assert_allclose(got.detach(), layer_norm(x.numpy()), atol=1e-5)


def perturbed() -> AdaptiveLayerNorm:
    torch.manual_seed(0)
    norm = AdaptiveLayerNorm(dim=8).double()
    torch.nn.init.normal_(norm.to_shift_scale.weight)
    torch.nn.init.normal_(norm.to_shift_scale.bias)
    return norm


def modulated(norm: AdaptiveLayerNorm, x: np.ndarray, modulation: np.ndarray) -> np.ndarray:
    silu = modulation / (1 + np.exp(-modulation))
    both = silu @ norm.to_shift_scale.weight.detach().numpy().T + norm.to_shift_scale.bias.detach().numpy()
    shift, scale = both[..., :8], both[..., 8:]
    return layer_norm(x) * (1 + scale) + shift


def test_adaptive_norm_shifts_and_scales() -> None:
    norm = perturbed()
    x, modulation = torch.randn(2, 3, 5, 8).double(), torch.randn(2, 3, 1, 8).double()
    expected = modulated(norm, x.numpy(), modulation.numpy())
    np.testing.assert_allclose(norm(x, modulation).detach(), expected, atol=1e-12)


def test_each_token_takes_its_own_modulation() -> None:
    norm = perturbed()
    x, noisy, clean = torch.randn(2, 3, 5, 8).double(), *torch.randn(2, 2, 3, 1, 8).double()
    mask = torch.rand(2, 3, 5, 1) < 0.5
    assert mask.any()
    assert not mask.all()
    got = norm(x, noisy, clean, mask).detach().numpy()
    x, noisy, clean, mask = (value.numpy() for value in (x, noisy, clean, mask))
    expected = np.where(mask, modulated(norm, x, clean), modulated(norm, x, noisy))
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert abs(modulated(norm, x, clean) - modulated(norm, x, noisy)).max() > 0.1


def test_a_mask_of_whole_frames_makes_no_shift_and_scale_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    norm = perturbed()
    x, modulation, known = torch.randn(2, 3, 5, 8).double(), torch.randn(2, 3, 1, 8), torch.randn(2, 3, 1, 8)
    frames = torch.tensor([True, False, False])[None, :, None, None].expand(2, 3, 5, 1)
    shapes, where = [], torch.where
    monkeypatch.setattr(torch, "where", lambda *args: shapes.append(where(*args).shape) or where(*args))
    args = (x, modulation.double(), known.double())
    torch.testing.assert_close(norm(*args, frames), norm(*args, frames.clone()), rtol=0, atol=1e-12)
    assert shapes == [(2, 3, 1, 16), (2, 3, 5, 16)]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(hidden_states=torch.zeros(2, 5, 6)), r"hidden_states: expected \(..., c=8\), got \(2, 5, 6\)"),
        (dict(modulation=torch.zeros(2, 1, 6)), r"modulation: expected \(..., c=8\), got \(2, 1, 6\)"),
        (dict(known_modulation=torch.zeros(2, 1, 8)), "known_mask: expected both known_modulation and known_mask, or"),
        (dict(known_mask=torch.ones(2, 5, 1).bool()), "known_modulation: expected both known_modulation and"),
        (
            dict(known_modulation=torch.zeros(2, 1, 6), known_mask=torch.ones(2, 5, 1).bool()),
            r"known_modulation: expected \(..., c=8\), got \(2, 1, 6\)",
        ),
    ],
)
def test_what_an_adaptive_norm_is_given_has_its_axes(changes: dict[str, torch.Tensor], match: str) -> None:
    given = {"hidden_states": torch.zeros(2, 5, 8), "modulation": torch.zeros(2, 1, 8), **changes}
    with pytest.raises(ValueError, match=match):
        AdaptiveLayerNorm(dim=8)(**given)


def test_sizes_of_the_norms() -> None:
    with pytest.raises(ValueError, match=r"hidden_states: expected \(..., c=4\), got \(2, 5\)"):
        RMSNorm(4)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="dim: expected a whole number from 1"):
        AdaptiveLayerNorm(dim=0)
    for eps in (0.0, float("nan")):
        with pytest.raises(ValueError, match="eps: expected a number above 0"):
            AdaptiveLayerNorm(dim=8, eps=eps)
    assert AdaptiveLayerNorm(dim=8).norm.eps == 1e-6
    assert not list(AdaptiveLayerNorm(dim=8).norm.parameters())
