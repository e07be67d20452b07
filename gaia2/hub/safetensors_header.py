"""What a safetensors file says of its tensors, without reading them."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

LIMIT = 100_000_000  # bytes; the format's own


def header_bytes(path: str | os.PathLike[str]) -> bytes:
    """The header of a file, JSON as it stands there.

    Raises:
        ValueError: If the file is shorter than it says, or no such file at all.
    """
    path = Path(path)
    with open(path, "rb") as file:
        first = file.read(8)
        length = struct.unpack("<Q", first)[0] if len(first) == 8 else LIMIT
        header = file.read(length) if length < LIMIT else b""
    if len(header) < length:
        raise ValueError(f"{path}: expected safetensors, got a file that is none, or that was cut")
    return header


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tensors of a file by name, each with `dtype`, `shape` and `data_offsets`, without `__metadata__`.

    Raises:
        ValueError: If the file is shorter than it says, or no such file at all.
    """
    raw = header_bytes(path)
    try:
        header: dict[str, Any] = json.loads(raw)
        header.pop("__metadata__", None)
        size = 8 + len(raw) + max((one["data_offsets"][1] for one in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path}: expected safetensors, got a file whose header is none") from None
    if size > os.path.getsize(path):
        raise ValueError(f"{path}: expected {size:,} bytes of safetensors, got {os.path.getsize(path):,}; it was cut")
    return header


def count(path: str | os.PathLike[str]) -> tuple[int, dict[str, int]]:
    """Numbers in all tensors of a file, and how many of each dtype.

    Example:
        >>> import gaia2
        >>> numbers, kinds = count(gaia2.default_model() / "vae" / "diffusion_pytorch_model.safetensors")
        >>> numbers == sum(kinds.values()) > 1_000_000
        True
    """
    kinds: dict[str, int] = {}
    for tensor in read_header(path).values():
        kinds[tensor["dtype"]] = kinds.get(tensor["dtype"], 0) + math.prod(tensor["shape"])
    return sum(kinds.values()), kinds
