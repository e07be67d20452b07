"""Factorized transformer blocks over tokens `(b, t, ..., c)`.

Axes: b batch, t latent time, n cameras, h w latent grid, c channels, k condition tokens.

The parts of a block that are worth swapping are arguments: a class or function that is called with the arguments of the
part that it replaces, for example `partial(Attention, eps=1e-5)`, `MLP` or `torch.nn.LayerNorm`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange, repeat
from torch import nn

from gaia2.nn.attention import Attention, KeysValues
from gaia2.nn.context_parallel import TimeShards
from gaia2.nn.mlp import MLP
from gaia2.nn.norm import AdaptiveLayerNorm
from gaia2.nn.shapes import check_bools, check_channels, check_floats, check_last_axis

ModuleFactory = Callable[..., nn.Module]


class SpatialBlock(nn.Module):
    """Attention over the grid of one frame, then an MLP (the encoder's block, paper §2.1.1). `12 c^2` weights.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP as a multiple of `dim`.
        spatial_attention: Called with `dim` and `num_heads`; its module maps `(b, s, c)` to `(b, s, c)`.
        mlp: Called with `dim` and `ratio`.
        norm: Called with the number of channels.

    Example:
        >>> SpatialBlock(dim=16, num_heads=4)(torch.randn(2, 3, 4, 8, 16)).shape
        torch.Size([2, 3, 4, 8, 16])
        >>> SpatialBlock(dim=16, num_heads=4, norm=nn.RMSNorm).norm_mlp
        RMSNorm((16,), eps=None, elementwise_affine=True)
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        spatial_attention: ModuleFactory = Attention,
        mlp: ModuleFactory = MLP,
        norm: ModuleFactory = nn.LayerNorm,
    ) -> None:
        super().__init__()
        check_channels(dim=dim)
        self.dim = dim
        self.norm_spatial = norm(dim)
        self.spatial_attention = spatial_attention(dim=dim, num_heads=num_heads)
        self.norm_mlp = norm(dim)
        self.mlp = mlp(dim=dim, ratio=mlp_ratio)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, t, h, w, c)` to `(b, t, h, w, c)`; frames do not see one another."""
        check_floats("hidden_states", hidden_states, "b t h w c", c=self.dim)
        hidden_states = hidden_states + over_space(self.spatial_attention, self.norm_spatial(hidden_states))
        return hidden_states + self.mlp(self.norm_mlp(hidden_states))


class TemporalBlock(nn.Module):
    """Attention over the times of one cell, then an MLP; the other half of a space-time block. `12 c^2` weights.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP as a multiple of `dim`.
        temporal_attention: Called with `dim` and `num_heads`; its module maps `(b, s, c)` to `(b, s, c)`.
        mlp: Called with `dim` and `ratio`.
        norm: Called with the number of channels.

    Example:
        >>> TemporalBlock(dim=16, num_heads=4)(torch.randn(2, 3, 4, 8, 16)).shape
        torch.Size([2, 3, 4, 8, 16])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        temporal_attention: ModuleFactory = Attention,
        mlp: ModuleFactory = MLP,
        norm: ModuleFactory = nn.LayerNorm,
    ) -> None:
        super().__init__()
        check_channels(dim=dim)
        self.dim = dim
        self.norm_temporal = norm(dim)
        self.temporal_attention = temporal_attention(dim=dim, num_heads=num_heads)
        self.norm_mlp = norm(dim)
        self.mlp = mlp(dim=dim, ratio=mlp_ratio)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, t, ..., c)` to `(b, t, ..., c)`; cells do not see one another."""
        check_last_axis("hidden_states", hidden_states, self.dim, rank=3)
        hidden_states = hidden_states + over_time(self.temporal_attention, self.norm_temporal(hidden_states))
        return hidden_states + self.mlp(self.norm_mlp(hidden_states))


class SpaceTimeBlock(nn.Module):
    """Attention over space, attention over time, then one MLP (the decoder's block, paper §2.1.2). `16 c^2` weights.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP as a multiple of `dim`.
        spatial_attention: Called with `dim` and `num_heads`; its module maps `(b, s, c)` to `(b, s, c)`.
        temporal_attention: Likewise.
        mlp: Called with `dim` and `ratio`.
        norm: Called with the number of channels.

    Example:
        >>> SpaceTimeBlock(dim=16, num_heads=4)(torch.randn(2, 3, 4, 8, 16)).shape
        torch.Size([2, 3, 4, 8, 16])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        spatial_attention: ModuleFactory = Attention,
        temporal_attention: ModuleFactory = Attention,
        mlp: ModuleFactory = MLP,
        norm: ModuleFactory = nn.LayerNorm,
    ) -> None:
        super().__init__()
        check_channels(dim=dim)
        self.dim = dim
        self.norm_spatial = norm(dim)
        self.spatial_attention = spatial_attention(dim=dim, num_heads=num_heads)
        self.norm_temporal = norm(dim)
        self.temporal_attention = temporal_attention(dim=dim, num_heads=num_heads)
        self.norm_mlp = norm(dim)
        self.mlp = mlp(dim=dim, ratio=mlp_ratio)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """Map `(b, t, h, w, c)` to `(b, t, h, w, c)`."""
        check_floats("hidden_states", hidden_states, "b t h w c", c=self.dim)
        hidden_states = hidden_states + over_space(self.spatial_attention, self.norm_spatial(hidden_states))
        hidden_states = hidden_states + over_time(self.temporal_attention, self.norm_temporal(hidden_states))
        return hidden_states + self.mlp(self.norm_mlp(hidden_states))


class WorldModelBlock(nn.Module):
    """The world model's block (paper §2.2.1): `20 c^2` weights and `2 c^2` for the modulation.

    Positions are added; then spatial attention over space and cameras, temporal attention, cross-attention to the
    condition tokens of each time and camera, and an MLP behind an adaptive layer norm.

    Args:
        dim: Channels.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP as a multiple of `dim`.
        spatial_attention: Called with `dim` and `num_heads`; its module maps `(b, s, c)` to `(b, s, c)`, and takes an
            `attention_mask`.
        temporal_attention: Likewise, without the mask.
        cross_attention: Called with `dim`, `num_heads` and `context_dim`; its module takes a `context`, too.
        mlp: Called with `dim` and `ratio`.
        norm: Called with the number of channels; for the attentions, the MLP has its adaptive one.

    Example:
        >>> block = WorldModelBlock(dim=16, num_heads=4)
        >>> tokens, positions = torch.randn(2, 3, 5, 4, 8, 16), torch.randn(2, 3, 5, 4, 8, 16)
        >>> block(tokens, positions, torch.randn(2, 3, 16), torch.randn(2, 3, 5, 6, 16)).shape
        torch.Size([2, 3, 5, 4, 8, 16])
    """

    __call__: Callable[..., torch.Tensor]

    def __init__(
        self,
        *,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        spatial_attention: ModuleFactory = Attention,
        temporal_attention: ModuleFactory = Attention,
        cross_attention: ModuleFactory = Attention,
        mlp: ModuleFactory = MLP,
        norm: ModuleFactory = nn.LayerNorm,
    ) -> None:
        super().__init__()
        check_channels(dim=dim)
        self.dim = dim
        self.norm_spatial = norm(dim)
        self.spatial_attention = spatial_attention(dim=dim, num_heads=num_heads)
        self.norm_temporal = norm(dim)
        self.temporal_attention = temporal_attention(dim=dim, num_heads=num_heads)
        self.norm_cross = norm(dim)
        self.cross_attention = cross_attention(dim=dim, num_heads=num_heads, context_dim=dim)
        self.norm_mlp = AdaptiveLayerNorm(dim=dim)
        self.mlp = mlp(dim=dim, ratio=mlp_ratio)

    def forward(
        self,
        hidden_states: torch.Tensor,
        positions: torch.Tensor,
        modulation: torch.Tensor,
        condition: torch.Tensor | KeysValues,
        *,
        known_modulation: torch.Tensor | None = None,
        known_mask: torch.Tensor | None = None,
        condition_mask: torch.Tensor | None = None,
        camera_mask: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """One block.

        Args:
            hidden_states: Tokens `(b, t, n, h, w, c)`.
            positions: Broadcasts against the tokens; space, timestamp and camera summed.
            modulation: Flow time and action of each latent time, `(b, t, c)`.
            condition: Condition tokens `(b, t, n, k, c)`, or what `keys_values` made of them; tokens of a time and
                camera see only their own.
            known_modulation: As `modulation`, for tokens that are given rather than denoised, `(b, t, c)`.
            known_mask: Boolean `(b, t, n, h, w)`, true where a token is given.
            condition_mask: Boolean `(b, t, n, k)`, true where a condition token may be attended to.
            camera_mask: Boolean `(b, n)`, true where a camera takes part; the others influence nothing.

        Returns:
            `(b, t, n, h, w, c)`.

        Raises:
            ValueError: If axes, sizes or kinds of number do not fit.
        """
        self._check(hidden_states, positions, modulation, condition)
        self._check_masks(hidden_states, condition, known_modulation, known_mask, condition_mask, camera_mask)
        hidden_states = hidden_states + positions
        hidden_states = hidden_states + over_cameras_and_space(
            self.spatial_attention, self.norm_spatial(hidden_states), camera_mask
        )
        hidden_states = hidden_states + over_time(self.temporal_attention, self.norm_temporal(hidden_states))
        hidden_states = hidden_states + over_condition(
            self.cross_attention, self.norm_cross(hidden_states), condition, condition_mask
        )
        normed = self.norm_mlp(
            hidden_states,
            rearrange(modulation, "b t c -> b t 1 1 1 c"),
            None if known_modulation is None else rearrange(known_modulation, "b t c -> b t 1 1 1 c"),
            None if known_mask is None else rearrange(known_mask, "b t n h w -> b t n h w 1"),
        )
        return hidden_states + self.mlp(normed)

    def keys_values(self, condition: torch.Tensor) -> KeysValues | None:
        """Keys and values of the cross-attention, which `forward` takes in place of the condition tokens.

        They stay while the tokens are denoised, step after step.

        Args:
            condition: Condition tokens `(b, t, n, k, c)`.

        Returns:
            Keys and values `(b t n, k, heads, d)`; None if the cross-attention is one of your own that cannot tell
            them.
        """
        make = getattr(self.cross_attention, "keys_values", None)
        return None if make is None else make(rearrange(condition, "b t n k c -> (b t n) k c"))

    def _check(
        self,
        hidden_states: torch.Tensor,
        positions: torch.Tensor,
        modulation: torch.Tensor,
        condition: torch.Tensor | KeysValues,
    ) -> None:
        check_floats("hidden_states", hidden_states, "b t n h w c", c=self.dim)
        check_floats("positions", positions, "b t n h w c", c=self.dim)
        for axis, own, size in zip("btnhw", positions.shape, hidden_states.shape, strict=False):
            if own not in (1, size):
                raise ValueError(f"positions: expected {axis} to be 1 or {size}, as the tokens have, got {own}")
        b, t, n = hidden_states.shape[:3]
        check_floats("modulation", modulation, "b t c", b=b, t=t, c=self.dim)
        if not isinstance(condition, KeysValues):
            check_floats("condition", condition, "b t n k c", b=b, t=t, n=n, c=self.dim)

    def _check_masks(
        self,
        hidden_states: torch.Tensor,
        condition: torch.Tensor | KeysValues,
        known_modulation: torch.Tensor | None,
        known_mask: torch.Tensor | None,
        condition_mask: torch.Tensor | None,
        camera_mask: torch.Tensor | None,
    ) -> None:
        b, t, n, h, w, _ = hidden_states.shape
        if known_modulation is not None:
            check_floats("known_modulation", known_modulation, "b t c", b=b, t=t, c=self.dim)
        if known_mask is not None:
            check_bools("known_mask", known_mask, "b t n h w", b=b, t=t, n=n, h=h, w=w)
        if condition_mask is not None:
            k = condition.key.shape[1] if isinstance(condition, KeysValues) else condition.shape[3]
            check_bools("condition_mask", condition_mask, "b t n k", b=b, t=t, n=n, k=k)
        if camera_mask is not None:
            check_bools("camera_mask", camera_mask, "b n", b=b, n=n)


def over_space(attention: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Self-attention over h and w of tokens `(b, t, h, w, c)`."""
    b, _, h, _, _ = tokens.shape
    out = attention(rearrange(tokens, "b t h w c -> (b t) (h w) c"))
    return rearrange(out, "(b t) (h w) c -> b t h w c", b=b, h=h)


def over_time(attention: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Self-attention over t of tokens `(b, t, ..., c)`.

    Under context parallelism the tokens are a part of the times; they are exchanged for all times of a part of the
    grid, and back.
    """
    b, t, *grid, c = tokens.shape
    tokens = tokens.reshape(b, t, -1, c)
    shards = TimeShards.of(attention, tokens)
    tokens = tokens if shards is None else shards.to_space(tokens)
    out = rearrange(attention(rearrange(tokens, "b t s c -> (b s) t c")), "(b s) t c -> b t s c", b=b)
    out = out if shards is None else shards.to_time(out)
    return out.reshape(b, t, *grid, c)


def over_cameras_and_space(
    attention: nn.Module, tokens: torch.Tensor, camera_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Self-attention over n, h and w of tokens `(b, t, n, h, w, c)`; `camera_mask (b, n)` is true for cameras seen."""
    b, t, n, h, w, _ = tokens.shape
    mask = None if camera_mask is None else repeat(camera_mask, "b n -> (b t) (n h w)", t=t, h=h, w=w)
    out = attention(rearrange(tokens, "b t n h w c -> (b t) (n h w) c"), attention_mask=mask)
    return rearrange(out, "(b t) (n h w) c -> b t n h w c", b=b, n=n, h=h)


def over_condition(
    attention: nn.Module,
    tokens: torch.Tensor,
    condition: torch.Tensor | KeysValues,
    condition_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-attention of tokens `(b, t, n, h, w, c)` to condition `(b, t, n, k, c)` of their time and camera."""
    b, t, n, h, _, _ = tokens.shape
    mask = None if condition_mask is None else rearrange(condition_mask, "b t n k -> (b t n) k")
    held = isinstance(condition, KeysValues)
    context = condition if held else rearrange(condition, "b t n k c -> (b t n) k c")
    out = attention(rearrange(tokens, "b t n h w c -> (b t n) (h w) c"), context=context, attention_mask=mask)
    return rearrange(out, "(b t n) (h w) c -> b t n h w c", b=b, t=t, n=n, h=h)
