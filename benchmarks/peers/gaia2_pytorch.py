"""`gaia2-pytorch`, the other implementation of the paper's idea, where it is installed.

    pip install --no-deps --target peer gaia2-pytorch einx ema-pytorch hyper-connections jaxtyping wadler-lindig \
        rotary-embedding-torch torchdiffeq
    PYTHONPATH=peer python -m benchmarks peers tokenizer_peers

It imports torchvision for a loss of its training, and would fetch the weights of that loss: without torchvision a
placeholder stands in for it, and the loss is left out.

Axes: b batch, c channels, t latent time, h w latent grid with all cameras side by side, k condition tokens.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn

from benchmarks.models import CONDITION_TOKENS, Size
from benchmarks.peers.transformers import Peer


def available() -> bool:
    """Whether the package is there."""
    return importlib.util.find_spec("gaia2_pytorch") is not None


def _package() -> Any:
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        vision, transforms, models = (ModuleType(f"torchvision{end}") for end in ("", ".transforms", ".models"))
        transforms.Resize = nn.Identity  # type: ignore[attr-defined]
        models.VGG16_Weights = SimpleNamespace(DEFAULT=None)  # type: ignore[attr-defined]
        vision.transforms, vision.models = transforms, models  # type: ignore[attr-defined]
        sys.modules.update({module.__name__: module for module in (vision, transforms, models)})
    package = importlib.import_module("gaia2_pytorch.gaia2")
    package.LPIPSLoss = nn.Identity
    return package


def world_model(size: Size, dtype: torch.dtype, device: str = "cpu") -> Peer:
    """Its flow transformer: a layer attends to space, time and the context, with a gated MLP after each."""
    model = _package().Gaia2(
        None,
        dim_latent=size.channels,
        dim=size.dim,
        depth=size.blocks,
        heads=size.heads,
        dim_head=size.dim // size.heads,
    )
    model = model.to(device, dtype).eval()
    t, (h, w), c = size.times, size.grid, size.dim
    x = torch.randn(1, t, h, w * size.cameras, size.channels, device=device).to(dtype)
    text = torch.randn(1, CONDITION_TOKENS, c, device=device).to(dtype)
    time = torch.full((1,), 0.5, device=device).to(dtype)

    def run() -> torch.Tensor:
        return model(x, input_is_video=False, times=time, context=text, return_flow_loss=False)

    return Peer(model, run)


def tokenizer(dtype: torch.dtype, device: str = "cpu") -> Any:
    """Its video tokenizer, which keeps every pixel as a token: for small clips only."""
    return _package().VideoTokenizer().to(device, dtype).eval()
