from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_dispatch import AttentionBackendName, attention_backend
from hypothesis import given, settings
from hypothesis import strategies as st

from gaia2.nn import attention as attention_module
from gaia2.nn.attention import CPU_SHORT_CONTEXT, Attention, short_attention


def make(dim: int = 8, num_heads: int = 2, context_dim: int | None = None) -> Attention:
    torch.manual_seed(0)
    attention = Attention(dim=dim, num_heads=num_heads, context_dim=context_dim).double()
    for norm in (attention.norm_q, attention.norm_k):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    return attention


def by_hand(attention: Attention, x: torch.Tensor, context: torch.Tensor, mask: torch.Tensor | None) -> np.ndarray:
    """The definition, a query at a time."""
    w = {name: p.detach().numpy() for name, p in attention.named_parameters()}
    heads = attention.heads
    d = x.shape[-1] // heads
    out = np.zeros(x.shape)
    for b in range(x.shape[0]):
        q, k, v = (source[b].numpy() @ w[f"to_{name}.weight"].T for name, source in zip("qkv", (x, context, context)))
        for head in range(heads):
            part = slice(head * d, (head + 1) * d)
            qh = q[:, part] / np.sqrt((q[:, part] ** 2).mean(-1, keepdims=True) + 1e-6) * w["norm_q.weight"]
            kh = k[:, part] / np.sqrt((k[:, part] ** 2).mean(-1, keepdims=True) + 1e-6) * w["norm_k.weight"]
            for i in range(len(qh)):
                weights = np.exp(np.array([qh[i] @ key for key in kh]) / np.sqrt(d))
                if mask is not None:
                    weights = weights * mask[b].numpy()
                out[b, i, part] = weights @ v[:, part] / weights.sum()
    return out @ w["to_out.0.weight"].T + w["to_out.0.bias"]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [1, 5, CPU_SHORT_CONTEXT, CPU_SHORT_CONTEXT + 1])
def test_cross_attention_is_the_definition(tokens: int, masked: bool) -> None:
    attention = make(context_dim=6)
    x, context = torch.randn(2, 3, 8).double(), torch.randn(2, tokens, 6).double()
    mask = (torch.rand(2, tokens) < 0.5) | (torch.arange(tokens) == 0) if masked else None
    with torch.no_grad():
        got = attention(x, context=context, attention_mask=mask)
    np.testing.assert_allclose(got, by_hand(attention, x, context, mask), atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_self_attention_is_the_definition(masked: bool) -> None:
    attention = make()
    x = torch.randn(2, 7, 8).double()
    mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1], [0, 1, 1, 1, 1, 1, 1]]).bool() if masked else None
    with torch.no_grad():
        got = attention(x, attention_mask=mask)
    np.testing.assert_allclose(got, by_hand(attention, x, x, mask), atol=1e-12)


@pytest.mark.parametrize("tokens", [CPU_SHORT_CONTEXT - 3, CPU_SHORT_CONTEXT + 3])
@pytest.mark.parametrize("masked", [False, True])
def test_short_and_dispatched_attention_agree(tokens: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = make()
    x, context = torch.randn(2, 4, 8).double(), torch.randn(2, tokens, 8).double()
    mask = (torch.rand(2, tokens) < 0.5) | (torch.arange(tokens) == 0) if masked else None
    results = []
    for limit in (0, 10**6):
        monkeypatch.setattr(attention_module, "CPU_SHORT_CONTEXT", limit)
        results.append(attention(x, context=context, attention_mask=mask))
    torch.testing.assert_close(results[0], results[1], atol=1e-12, rtol=0)


@pytest.fixture
def dispatched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """Context lengths and kernels that diffusers' dispatcher is asked for."""
    calls: list[tuple[int, str]] = []
    dispatch = attention_module.dispatch_attention_fn

    def spy(query: torch.Tensor, key: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append((key.shape[1], kwargs["backend"].value))
        kwargs["backend"] = AttentionBackendName.NATIVE
        return dispatch(query, key, *args, **kwargs)

    monkeypatch.setattr(attention_module, "dispatch_attention_fn", spy)
    return calls


def test_on_a_cpu_the_length_chooses_between_torchs_kernel_and_plain_products_in_training(
    dispatched: list[tuple[int, str]],
) -> None:
    attention = make()
    x = torch.randn(1, 2, 8).double()
    for tokens in (3, CPU_SHORT_CONTEXT, CPU_SHORT_CONTEXT + 1):
        attention(x, context=torch.randn(1, tokens, 8).double())
    assert dispatched == [(CPU_SHORT_CONTEXT + 1, "native")]
    with torch.no_grad():
        attention(x, context=torch.randn(1, 3, 8).double())
    assert dispatched[1:] == [(3, "native")]


@pytest.mark.parametrize("fused", [False, True])
def test_tokens_that_lie_time_by_time_are_not_moved(fused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    attention = make()
    if fused:
        attention.fuse_projections()
    x = torch.randn(3, 7, 8).double()
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    seen: list[bool] = []
    for layer in (attention.to_qkv,) if fused else (attention.to_q, attention.to_k, attention.to_v):
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].data_ptr() == turned.data_ptr()))
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous()))
    with torch.no_grad():
        got = attention(turned)
    assert all(seen)
    assert len(seen) == (2 if fused else 6)
    torch.testing.assert_close(got, attention(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("fused", [False, True])
def test_keys_and_values_can_be_made_beforehand(fused: bool) -> None:
    attention = make(context_dim=6)
    if fused:
        attention.fuse_projections()
    context, mask = torch.randn(2, 5, 6).double(), torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]]).bool()
    held = attention.keys_values(context)
    for _ in range(2):
        x = torch.randn(2, 3, 8).double()
        expected = attention(x, context=context, attention_mask=mask)
        torch.testing.assert_close(attention(x, context=held, attention_mask=mask), expected, atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match=r"key: expected \(b=3, k, heads=2, d=4\), got \(2, 5, 2, 4\)"):
        attention(torch.randn(3, 3, 8).double(), context=held)


def test_the_user_chooses_the_kernel_for_a_module_or_for_all(dispatched: list[tuple[int, str]]) -> None:
    attention, x = make(), torch.randn(1, 2, 8).double()
    with attention_backend("_native_math"):
        attention(x)
    attention(x)
    attention.set_attention_backend("flash")
    attention(x)
    assert dispatched == [(2, "_native_math"), (2, "flash")]


@pytest.mark.parametrize("backend", ["flash", "sage", "xformers", "_flash_3_hub"])
def test_kernels_without_masks_leave_masked_attention_to_torch(
    backend: str, dispatched: list[tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_module, "CPU_SHORT_CONTEXT", 0)
    attention, x = make(), torch.randn(1, 2, 8).double()
    attention.set_attention_backend(backend)
    attention(x, attention_mask=torch.tensor([[True, False]]))
    attention(x)
    attention.set_attention_backend("_native_math")
    attention(x, attention_mask=torch.tensor([[True, False]]))
    assert [name for _, name in dispatched] == ["native", backend, "_native_math"]


@pytest.mark.parametrize("cross", [False, True])
def test_fused_projections_change_nothing(cross: bool) -> None:
    attention = make(context_dim=6 if cross else None)
    x, context = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 6).double() if cross else None
    mask = torch.tensor([[1, 1, 0, 1, 1], [0, 1, 1, 1, 1]]).bool() if cross else None
    before = attention(x, context=context, attention_mask=mask)
    attention.fuse_projections()
    names = {name for name, _ in attention.named_children()}
    assert ("to_kv" in names, "to_qkv" in names) == (cross, not cross)
    attention.to_k.weight.data.zero_()  # not used any more
    torch.testing.assert_close(attention(x, context=context, attention_mask=mask), before, atol=1e-12, rtol=0)


def test_a_fused_self_attention_still_takes_another_context() -> None:
    attention, x, context = make(), torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    before = attention(x, context=context)
    attention.fuse_projections()
    torch.testing.assert_close(attention(x, context=context), before, atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-2, 1e6), d=st.integers(1, 8), heads=st.integers(1, 3))
def test_the_norms_bound_the_logits(scale: float, d: int, heads: int) -> None:
    seen: dict[str, torch.Tensor] = {}

    def spy(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        seen["logits"] = torch.einsum("bshd,bkhd->bhsk", query, key) * d**-0.5
        return short_attention(query, key, value, mask)

    torch.manual_seed(0)
    attention = Attention(dim=heads * d, num_heads=heads).double()
    x = scale * torch.randn(1, 6, heads * d).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_module, "short_attention", spy)
        attention(x)
    assert seen["logits"].shape == (1, heads, 6, 6)
    assert seen["logits"].abs().max() <= d**0.5 * (1 + 1e-9)


def test_the_size_of_the_queries_does_not_matter() -> None:
    attention = make()
    x, context = torch.randn(2, 3, 8).double(), torch.randn(2, 5, 8).double()
    expected = attention(100 * x, context=context)
    torch.testing.assert_close(attention(1e5 * x, context=context), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("tokens", [6, CPU_SHORT_CONTEXT + 6])
def test_masked_context_changes_nothing(tokens: int) -> None:
    attention = make()
    x, context = torch.randn(2, 3, 8).double(), torch.randn(2, tokens, 8).double().requires_grad_()
    mask = torch.arange(tokens) % 3 != 1
    out = attention(x, context=context, attention_mask=mask.expand(2, -1))
    changed = torch.where(mask[:, None], context, 1e3 * torch.randn_like(context))
    torch.testing.assert_close(attention(x, context=changed, attention_mask=mask.expand(2, -1)), out, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(out.square().sum(), context)
    assert (gradient[:, ~mask] == 0).all()
    assert (gradient[:, mask] != 0).any(dim=-1).all()


def test_the_mask_lies_on_the_context_and_not_on_the_queries() -> None:
    attention = make()
    x = torch.randn(1, 4, 8).double()
    mask = torch.tensor([[True, True, False, True]])
    kept = attention(x, context=x[:, [0, 1, 3]])
    torch.testing.assert_close(attention(x, attention_mask=mask), kept)


def test_low_precision_stays_near() -> None:
    attention = make().float()
    x = torch.randn(2, 5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = attention(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), attention(x), atol=0.03, rtol=0.03)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"num_heads: expected a divisor of dim=8, got 3; choose one that divides it"):
        Attention(dim=8, num_heads=3)


def test_the_norms_need_a_number_above_zero() -> None:
    assert Attention(dim=8, num_heads=2, eps=1e-3).norm_k.eps == 1e-3
    for eps in (0.0, -1e-6, float("nan")):
        with pytest.raises(ValueError, match="eps: expected"):
            Attention(dim=8, num_heads=2, eps=eps)


@pytest.mark.parametrize(
    ("context_dim", "given", "match"),
    [
        (None, dict(hidden_states=(2, 3, 6)), r"hidden_states: expected \(b, s, c=8\), got \(2, 3, 6\)"),
        (None, dict(context=(2, 5, 6)), r"context: expected \(b=2, k, c=8\), got \(2, 5, 6\)"),
        (6, dict(context=(2, 5, 8)), r"context: expected \(b=2, k, c=6\), got \(2, 5, 8\)"),
        (6, dict(context=(1, 5, 6)), r"context: expected \(b=2, k, c=6\), got \(1, 5, 6\)"),
        (6, dict(), r"context: expected a torch.Tensor \(b=2, k, c=6\), got None"),
        (None, dict(attention_mask=(2, 4)), r"attention_mask: expected \(b=2, k=3\), got \(2, 4\)"),
        (6, dict(context=(2, 5, 6), attention_mask=(2, 3)), r"attention_mask: expected \(b=2, k=5\), got \(2, 3\)"),
    ],
)
def test_tokens_context_and_mask_have_their_axes(context_dim: int | None, given: dict, match: str) -> None:
    tensors = {name: torch.ones(shape).double() for name, shape in {"hidden_states": (2, 3, 8), **given}.items()}
    if "attention_mask" in tensors:
        tensors["attention_mask"] = tensors["attention_mask"].bool()
    with pytest.raises(ValueError, match=match):
        make(context_dim=context_dim)(**tensors)


def test_keys_and_values_are_made_of_a_context_of_the_right_width_alone() -> None:
    attention = make(context_dim=6)
    with pytest.raises(ValueError, match=r"context: expected \(b, k, c=6\), got \(2, 5, 8\)"):
        attention.keys_values(torch.zeros(2, 5, 8).double())
    held = attention.keys_values(torch.zeros(2, 5, 6).double())
    with pytest.raises(ValueError, match=r"attention_mask: expected \(b=2, k=5\), got \(2, 3\)"):
        attention(torch.zeros(2, 3, 8).double(), context=held, attention_mask=torch.ones(2, 3).bool())


@pytest.mark.parametrize("name", ["dim", "context_dim", "num_heads"])
def test_channels_and_heads_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a whole number"):
        Attention(**{"dim": 8, "num_heads": 2, name: 0})


def test_fused_projections_make_the_keys_and_values_too() -> None:
    attention, context = make(context_dim=6), torch.randn(2, 5, 6).double()
    before = attention.keys_values(context)
    attention.fuse_projections()
    for layer in (attention.to_k, attention.to_v):
        layer.weight.data.zero_()  # not used any more
    for one, other in zip(attention.keys_values(context), before, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
