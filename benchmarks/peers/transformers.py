"""Video transformers of diffusers at the width, depth, heads and tokens of a world model.

Cameras are put side by side, as they know one only; of condition tokens they get as many as one of our cameras has at
one time, for the whole video. All have patches of one cell.

Axes: b batch, c channels, t latent time, h w latent grid with all cameras side by side, k condition tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import nn

from benchmarks.models import CONDITION_TOKENS, Size


@dataclass(frozen=True)
class Peer:
    """A model and a call of it.

    Attributes:
        model: With random weights.
        run: One forward pass; gives a tensor.
    """

    model: nn.Module
    run: Callable[[], torch.Tensor]

    @property
    def block_parameters(self) -> int:
        """Weights of the repeated blocks."""
        return sum(
            parameter.numel()
            for name, parameter in self.model.named_parameters()
            if "blocks." in name or "layers." in name
        )


def _shape(size: Size) -> tuple[int, int, int]:
    return size.times, size.grid[0], size.grid[1] * size.cameras


def _text(size: Size, dtype: torch.dtype, device: str) -> torch.Tensor:
    return torch.randn(1, CONDITION_TOKENS, size.dim, device=device).to(dtype)


def _frames(size: Size, dtype: torch.dtype, device: str, order: str) -> torch.Tensor:
    """Latents with the axes in an order such as "bcthw"."""
    t, h, w = _shape(size)
    sizes = {"b": 1, "c": size.channels, "t": t, "h": h, "w": w}
    return torch.randn([sizes[axis] for axis in order], device=device).to(dtype)


def cosmos(size: Size, dtype: torch.dtype, device: str = "cpu") -> Peer:
    """NVIDIA's Cosmos: full attention over space and time."""
    model = diffusers.CosmosTransformer3DModel(
        in_channels=size.channels,
        out_channels=size.channels,
        num_attention_heads=size.heads,
        attention_head_dim=size.dim // size.heads,
        num_layers=size.blocks,
        text_embed_dim=size.dim,
        patch_size=(1, 1, 1),
        concat_padding_mask=False,
        extra_pos_embed_type=None,
    )
    model = model.to(device, dtype).eval()
    x, text = _frames(size, dtype, device, "bcthw"), _text(size, dtype, device)
    time = torch.full((1,), 0.5, device=device).to(dtype)
    return Peer(model, lambda: model(x, time, text, return_dict=False)[0])


def cogvideox(size: Size, dtype: torch.dtype, device: str = "cpu") -> Peer:
    """CogVideoX: full attention over space, time and text."""
    t, h, w = _shape(size)
    model = diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.dim // size.heads,
        in_channels=size.channels,
        out_channels=size.channels,
        text_embed_dim=size.dim,
        num_layers=size.blocks,
        sample_width=w,
        sample_height=h,
        sample_frames=4 * (t - 1) + 1,
        patch_size=1,
        max_text_seq_length=CONDITION_TOKENS,
    )
    model = model.to(device, dtype).eval()
    x, text = _frames(size, dtype, device, "btchw"), _text(size, dtype, device)
    time = torch.full((1,), 500, device=device)
    return Peer(model, lambda: model(x, text, time, return_dict=False)[0])


def ltx(size: Size, dtype: torch.dtype, device: str = "cpu") -> Peer:
    """LTX-Video: full attention over space and time, the norm of queries and keys over all heads together."""
    t, h, w = _shape(size)
    model = diffusers.LTXVideoTransformer3DModel(
        in_channels=size.channels,
        out_channels=size.channels,
        num_attention_heads=size.heads,
        attention_head_dim=size.dim // size.heads,
        cross_attention_dim=size.dim,
        num_layers=size.blocks,
        caption_channels=size.dim,
    )
    model = model.to(device, dtype).eval()
    x, text = torch.randn(1, t * h * w, size.channels, device=device).to(dtype), _text(size, dtype, device)
    time, mask = torch.full((1,), 500, device=device), torch.ones(1, CONDITION_TOKENS, device=device)

    def run() -> torch.Tensor:
        return model(x, text, time, mask, num_frames=t, height=h, width=w, return_dict=False)[0]

    return Peer(model, run)


def latte(size: Size, dtype: torch.dtype, device: str = "cpu") -> Peer:
    """Latte: the one that is factorized, too; a layer is a spatial and a temporal block, each with an MLP."""
    t, h, w = _shape(size)
    model = diffusers.LatteTransformer3DModel(
        num_attention_heads=size.heads,
        attention_head_dim=size.dim // size.heads,
        in_channels=size.channels,
        out_channels=size.channels,
        num_layers=size.blocks,
        cross_attention_dim=size.dim,
        attention_bias=True,
        sample_size=max(h, w),
        patch_size=1,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=size.dim,
        video_length=t,
    )
    model = model.to(device, dtype).eval()
    x, text = _frames(size, dtype, device, "bcthw"), _text(size, dtype, device)
    time = torch.full((1,), 500, device=device)
    return Peer(model, lambda: model(x, time, text, return_dict=False)[0])


MAKE: dict[str, Callable[[Size, torch.dtype, str], Peer]] = {
    "Latte": latte,
    "Cosmos": cosmos,
    "LTX": ltx,
    "CogVideoX": cogvideox,
}


def parameters(model: Any) -> int:
    """Weights of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
