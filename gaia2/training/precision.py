"""Which number format a machine multiplies matrices in fast."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

Precision = Literal["auto", "bf16", "fp32"]


def resolve_precision(precision: Precision, device: str | torch.device) -> Literal["bf16", "fp32"]:
    """What `auto` means on a device: bf16 where there are instructions that multiply it, else fp32.

    A CPU without them (AMX, AVX-512 BF16) multiplies bfloat16 more slowly than float32.

    Example:
        >>> resolve_precision("fp32", "cpu")
        'fp32'
    """
    if precision != "auto":
        return precision
    kind = torch.device(device).type
    if kind == "cpu":
        asked = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
        fast = any(getattr(torch.cpu, name, lambda: False)() for name in asked)
    elif kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = False
    return "bf16" if fast else "fp32"


def autocast(precision: Precision, device: str | torch.device) -> AbstractContextManager[None]:
    """Within the block, matrix products are in that format; weights stay in float32."""
    kind = torch.device(device).type
    return torch.autocast(kind, torch.bfloat16, enabled=resolve_precision(precision, device) == "bf16")
