"""Norms: one for queries and keys, and one whose shift and scale come from a modulation vector."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from gaia2._checks import real_number, refuse
from gaia2.nn.shapes import check_channels, check_last_axis, unexpanded


class RMSNorm(nn.RMSNorm):
    """Root-mean-square norm in the dtype of its input, which keeps the fused kernel under autocast.

    Example:
        >>> RMSNorm(4)(torch.tensor([[3.0, 3.0, 3.0, 3.0]]))
        tensor([[1., 1., 1., 1.]], grad_fn=<...>)
    """

    __call__: Callable[..., torch.Tensor]

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Normalise over the last axis."""
        check_last_axis("hidden_states", hidden_states, self.normalized_shape[-1])
        weight = None if self.weight is None else self.weight.to(hidden_states.dtype)
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if plain or hidden_states.device.type != "cpu" or self.eps is None:
            return functional.rms_norm(hidden_states, self.normalized_shape, weight, self.eps)
        return _two_passes(hidden_states, weight, self.eps)


def _two_passes(hidden_states: torch.Tensor, weight: torch.Tensor | None, eps: float) -> torch.Tensor:
    """Torch has no kernel of this norm on CPUs: it makes five passes over the tokens, in bfloat16 seven."""
    precise = torch.promote_types(hidden_states.dtype, torch.float32)
    length = torch.linalg.vector_norm(hidden_states, dim=-1, keepdim=True, dtype=precise)
    scale = length.square_().div_(hidden_states.shape[-1]).add_(eps).rsqrt_()
    normed = hidden_states * scale.to(hidden_states.dtype)
    return normed if weight is None else normed.mul_(weight)


class AdaptiveLayerNorm(nn.Module):
    """Layer norm whose shift and scale are predicted from a modulation (paper §2.2.1; Peebles & Xie).

    The prediction starts at zero, so at initialisation this is a plain layer norm.

    With `known_modulation` and `known_mask`, each token takes one of the two modulations: a token that is given (a
    context frame) is told that it is clean, while its neighbour is told how noisy it is. A mask that was expanded along
    the grid, as whole frames are given, costs next to nothing; otherwise there is a shift and scale for each token.

    Args:
        dim: Channels of the tokens and of the modulation.
        eps: Added to the variance.

    Example:
        >>> norm = AdaptiveLayerNorm(dim=8)
        >>> norm(torch.randn(2, 3, 5, 8), torch.randn(2, 3, 1, 8)).shape
        torch.Size([2, 3, 5, 8])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(self, *, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        check_channels(dim=dim)
        real_number("eps", eps, above=0)
        self.dim = dim
        self.norm = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.activation = nn.SiLU()
        self.to_shift_scale = nn.Linear(dim, 2 * dim)
        nn.init.zeros_(self.to_shift_scale.weight)
        nn.init.zeros_(self.to_shift_scale.bias)

    def forward(
        self,
        hidden_states: torch.Tensor,
        modulation: torch.Tensor,
        known_modulation: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Normalise, then shift and scale.

        Args:
            hidden_states: Tokens `(..., c)`.
            modulation: Broadcasts against the tokens, `(..., c)`.
            known_modulation: Like `modulation`, for the tokens where `known_mask` is true.
            known_mask: Boolean `(..., 1)`, broadcasts against the tokens.

        Returns:
            `(..., c)`.

        Raises:
            ValueError: If axes do not fit, or only one of `known_modulation` and `known_mask` is given.
        """
        check_last_axis("hidden_states", hidden_states, self.dim)
        check_last_axis("modulation", modulation, self.dim)
        if (known_modulation is None) != (known_mask is None):
            missing = "known_modulation" if known_modulation is None else "known_mask"
            raise refuse(missing, "both known_modulation and known_mask, or neither", None)
        if known_modulation is not None:
            check_last_axis("known_modulation", known_modulation, self.dim)
        shift_scale = self.to_shift_scale(self.activation(modulation))
        if known_modulation is not None and known_mask is not None:
            known_shift_scale = self.to_shift_scale(self.activation(known_modulation))
            shift_scale = torch.where(unexpanded(known_mask), known_shift_scale, shift_scale)
        shift, scale = shift_scale.chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(hidden_states), 1 + scale)
