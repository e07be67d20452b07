"""Multi-head attention with query-key normalisation, through diffusers' attention dispatcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry, dispatch_attention_fn
from einops import rearrange
from torch import nn

from gaia2._checks import real_number, whole_number
from gaia2.nn.norm import RMSNorm
from gaia2.nn.shapes import check_bools, check_channels, check_floats

CPU_SHORT_CONTEXT = 256
"""Context tokens up to which plain products beat the CPU's flash kernel in training; benchmarks/attention.py."""
MASKED_BACKENDS = (
    AttentionBackendName.NATIVE,
    AttentionBackendName._NATIVE_CUDNN,
    AttentionBackendName._NATIVE_EFFICIENT,
    AttentionBackendName._NATIVE_MATH,
)
"""Kernels that take a boolean mask; a masked attention goes to the first of them where another one is chosen."""


class KeysValues(NamedTuple):
    """Keys, normalised, and values of the context of a cross-attention: what stays while the queries change.

    Attributes:
        key: `(b, k, heads, d)`.
        value: `(b, k, heads, d)`.
    """

    key: torch.Tensor
    value: torch.Tensor


def short_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Attention as two matrix products, for the short sequences where kernels cost more than they save.

    Args:
        query: `(b, s, heads, d)`.
        key: `(b, k, heads, d)`.
        value: `(b, k, heads, d)`.
        attention_mask: Boolean, broadcasts against `(b, heads, s, k)`; true where attention is allowed.

    Returns:
        `(b, s, heads, d)`.
    """
    query, key, value = (rearrange(x, "b s heads d -> b heads s d") for x in (query, key, value))
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if attention_mask is not None:
        logits = logits.masked_fill(~attention_mask, float("-inf"))
    return rearrange(logits.softmax(dim=-1).to(value.dtype) @ value, "b heads s d -> b s heads d")


class AttentionProcessor:
    """Computes an `Attention`.

    diffusers sets `_attention_backend`, by `set_attention_backend`, and `_parallel_config`, by `enable_parallelism`.
    The latter is for whoever lays out the tokens, see `gaia2.nn.context_parallel`: an attention is given all of them.
    """

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        context: torch.Tensor | KeysValues | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend as `Attention.forward` says."""
        if isinstance(context, KeysValues):
            query = attn.split_heads(of_each_token(attn.to_q, hidden_states))
            key, value = context
        else:
            query, key, value = (attn.split_heads(x) for x in attn.project(hidden_states, context))
            key = attn.norm_k(key)
        query = attn.norm_q(query)
        if attention_mask is not None:
            attention_mask = rearrange(attention_mask, "b k -> b 1 1 k")
        backend = self._backend(attention_mask)
        if backend == AttentionBackendName.NATIVE and _is_short(key):
            out = short_attention(query, key, value, attention_mask)
        else:
            out = dispatch_attention_fn(query, key, value, attn_mask=attention_mask, backend=backend)
        return of_each_token(attn.to_out[0], rearrange(out, "b s heads d -> b s (heads d)"))

    def _backend(self, attention_mask: torch.Tensor | None) -> AttentionBackendName:
        backend = self._attention_backend
        if backend is None:
            backend, _ = _AttentionBackendRegistry.get_active_backend()
        unfit = attention_mask is not None and backend not in MASKED_BACKENDS
        return AttentionBackendName.NATIVE if unfit else backend


def _is_short(key: torch.Tensor) -> bool:
    """Whether plain products are quicker; without gradients the CPU's kernel is, at any length."""
    return key.device.type == "cpu" and key.shape[1] <= CPU_SHORT_CONTEXT and torch.is_grad_enabled()


def of_each_token(layer: Callable[[torch.Tensor], torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """Apply a layer to tokens `(b, s, c)`, each alone; those that lie in memory as `(s, b, c)` are not moved for it.

    Attention over time reads the tokens that way, and a linear layer would make a copy of them in another order first.

    Example:
        >>> tokens = torch.randn(3, 10, 4).transpose(0, 1)
        >>> of_each_token(nn.Linear(4, 8), tokens).stride()
        (8, 80, 1)
    """
    turned = tokens.transpose(0, 1)
    if turned.is_contiguous() and not tokens.is_contiguous():
        return layer(turned).transpose(0, 1)
    return layer(tokens)


class Attention(nn.Module, AttentionModuleMixin):
    """Self- or cross-attention with normalised queries and keys (paper §2.2.1, "query-key normalization").

    Normalising each head's queries and keys bounds the logits, which keeps large models stable in low precision. The
    kernel is chosen with diffusers' `set_attention_backend` or `attention_backend` ("native", "flash", "xformers",
    "sage", "flex", ...); those that take no boolean mask leave masked attentions to torch's own. `fuse_projections`
    makes one product of the query, key and value projections, or of key and value in a cross-attention.

    Args:
        dim: Channels of the tokens, in and out.
        num_heads: Attention heads; must divide `dim`.
        context_dim: Channels of the context tokens of a cross-attention; None is a self-attention.
        eps: Added to the mean square in the query and key norms.

    Raises:
        ValueError: If a number is out of range, or `num_heads` does not divide `dim`.

    Example:
        >>> attention = Attention(dim=16, num_heads=4)
        >>> attention(torch.randn(2, 10, 16)).shape
        torch.Size([2, 10, 16])
        >>> attention(torch.randn(2, 10, 16), context=torch.randn(2, 3, 16)).shape
        torch.Size([2, 10, 16])
    """

    __call__: Callable[..., torch.Tensor]

    _default_processor_cls = AttentionProcessor
    _available_processors = [AttentionProcessor]
    use_bias = False
    to_qkv: nn.Linear  # these two only while the projections are fused
    to_kv: nn.Linear

    def __init__(self, *, dim: int, num_heads: int, context_dim: int | None = None, eps: float = 1e-6) -> None:
        super().__init__()
        check_channels(dim=dim, context_dim=dim if context_dim is None else context_dim)
        whole_number("num_heads", num_heads)
        real_number("eps", eps, above=0)
        if dim % num_heads:
            raise ValueError(f"num_heads: expected a divisor of dim={dim}, got {num_heads}; choose one that divides it")
        self.is_cross_attention = context_dim is not None
        context_dim = dim if context_dim is None else context_dim
        self.heads, self.dim, self.context_dim = num_heads, dim, context_dim
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.norm_q = RMSNorm(dim // num_heads, eps=eps)
        self.norm_k = RMSNorm(dim // num_heads, eps=eps)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])  # a list, so that LoRA's usual "to_out.0" finds it
        self.processor = AttentionProcessor()

    def forward(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor | KeysValues | None = None,
        attention_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attend.

        Args:
            hidden_states: Tokens `(b, s, c)` that ask.
            context: Tokens `(b, k, context_dim)` that answer, or what `keys_values` made of them; the same tokens by
                default.
            attention_mask: Boolean `(b, k)`, true where a context token may be attended to. Every row needs one.

        Returns:
            `(b, s, c)`.

        Raises:
            ValueError: If axes or kinds of number do not fit.
        """
        self._check(hidden_states, context, attention_mask)
        return self.processor(self, hidden_states, context, attention_mask)

    def keys_values(self, context: torch.Tensor) -> KeysValues:
        """What `forward` makes of a context, once for several calls with other `hidden_states`.

        Args:
            context: Tokens `(b, k, context_dim)`.

        Raises:
            ValueError: If axes or kinds of number do not fit.

        Example:
            >>> attention = Attention(dim=16, num_heads=4, context_dim=8)
            >>> tokens, context = torch.randn(2, 10, 16), torch.randn(2, 3, 8)
            >>> torch.equal(attention(tokens, attention.keys_values(context)), attention(tokens, context))
            True
        """
        check_floats("context", context, "b k c", c=self.context_dim)
        if self.fused_projections and self.is_cross_attention:
            key, value = self.to_kv(context).chunk(2, dim=-1)
        else:
            key, value = self.to_k(context), self.to_v(context)
        return KeysValues(self.norm_k(self.split_heads(key)), self.split_heads(value))

    def split_heads(self, tokens: torch.Tensor) -> torch.Tensor:
        """From `(b, s, c)` to `(b, s, heads, d)`."""
        return rearrange(tokens, "b s (heads d) -> b s heads d", heads=self.heads)

    def _check(
        self,
        hidden_states: torch.Tensor,
        context: torch.Tensor | KeysValues | None,
        attention_mask: torch.Tensor | None,
    ) -> None:
        check_floats("hidden_states", hidden_states, "b s c", c=self.dim)
        answers = hidden_states
        if isinstance(context, KeysValues):
            b, d = len(hidden_states), self.dim // self.heads
            for name, tensor in zip(context._fields, context, strict=True):
                check_floats(name, tensor, "b k heads d", b=b, heads=self.heads, d=d)
            answers = context.key
        elif context is not None or self.context_dim != self.dim:
            answers = context  # type: ignore[assignment]
            check_floats("context", answers, "b k c", b=len(hidden_states), c=self.context_dim)
        if attention_mask is not None:
            b, k = answers.shape[:2]
            check_bools("attention_mask", attention_mask, "b k", b=b, k=k)

    def project(
        self, hidden_states: torch.Tensor, context: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries `(b, s, c)` of the tokens, keys and values `(b, k, c)` of the context, all heads together."""
        if self.fused_projections and self.is_cross_attention:
            key, value = self.to_kv(hidden_states if context is None else context).chunk(2, dim=-1)
            return self.to_q(hidden_states), key, value
        if self.fused_projections and context is None:
            query, key, value = of_each_token(self.to_qkv, hidden_states).chunk(3, dim=-1)
            return query, key, value
        answers = hidden_states if context is None else context
        return (
            of_each_token(self.to_q, hidden_states),
            of_each_token(self.to_k, answers),
            of_each_token(self.to_v, answers),
        )
