"""Weights in files of a bounded size, and in other number formats, as diffusers reads them."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from gaia2._checks import refuse
from gaia2._files import replacing
from gaia2.hub.safetensors_header import read_header

VARIANTS = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
"""Number format of the weights by the name of their variant."""
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_size(size: int | str) -> int:
    """Bytes of a size as diffusers takes it.

    Raises:
        ValueError: If it is none.

    Example:
        >>> parse_size("5GB"), parse_size(1000)
        (5000000000, 1000)
    """
    if isinstance(size, int) and not isinstance(size, bool) and size > 0:
        return size
    found = re.fullmatch(r"(\d+)\s*(KB|MB|GB)", size.strip().upper()) if isinstance(size, str) else None
    if found is None or int(found[1]) == 0:
        raise refuse("max_shard_size", "bytes, or a size such as '5GB'", size)
    return int(found[1]) * _UNITS[found[2]]


def write_weights(
    sources: Iterable[str | os.PathLike[str]], folder: str | Path, max_shard_size: int | str, variant: str | None = None
) -> list[Path]:
    """Write the tensors of some files into files of at most `max_shard_size`, a tensor at a time.

    Args:
        sources: safetensors files that make up one model's weights.
        folder: Where the files are written, under the names that diffusers looks for.
        max_shard_size: Bytes of a file; a tensor that is larger has a file of its own.
        variant: "bf16", "fp16" or "fp32": the number format to convert floats to, and part of the names.

    Returns:
        The files: one, or several and their index.

    Raises:
        ValueError: If the variant is unknown, or a source is damaged.
    """
    if variant is not None and variant not in VARIANTS:
        raise refuse("variant", f"one of {', '.join(VARIANTS)}", variant)
    dtype = VARIANTS.get(variant or "")
    headers = {Path(source): read_header(source) for source in sources}
    where = {name: source for source, header in headers.items() for name in header}
    limit = parse_size(max_shard_size)
    groups: list[list[str]] = [[]]
    sizes = [0]
    for name, source in where.items():
        size = _nbytes(headers[source][name], dtype)
        if groups[-1] and sizes[-1] + size > limit:
            groups.append([])
            sizes.append(0)
        groups[-1].append(name)
        sizes[-1] += size
    middle = f".{variant}" if variant else ""
    written: list[Path] = []
    index: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        part = f"-{number:05d}-of-{len(groups):05d}" if len(groups) > 1 else ""
        path = Path(folder) / f"diffusion_pytorch_model{middle}{part}.safetensors"
        tensors = {name: _tensor(where[name], name, dtype) for name in names}
        with replacing(path) as unfinished:
            save_file(tensors, unfinished, metadata={"format": "pt"})
        written.append(path)
        index |= dict.fromkeys(names, path.name)
    if len(groups) > 1:
        path = Path(folder) / f"diffusion_pytorch_model.safetensors.index{middle}.json"
        with replacing(path) as unfinished:
            content = {"metadata": {"total_size": sum(sizes)}, "weight_map": index}
            unfinished.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
        written.append(path)
    return written


def _nbytes(told: dict[str, Any], dtype: torch.dtype | None) -> int:
    """Bytes of a tensor of which the header tells, once it is converted."""
    begin, end = told["data_offsets"]
    is_float = told["dtype"] in _FLOATS
    return math.prod(told["shape"]) * dtype.itemsize if dtype is not None and is_float else end - begin


def _tensor(source: Path, name: str, dtype: torch.dtype | None) -> torch.Tensor:
    with safe_open(source, "pt") as weights:
        tensor = weights.get_tensor(name)
    return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor
