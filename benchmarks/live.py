"""Operations and bytes of a computation on the meta device: counted, with nothing allocated or computed."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.models import CONDITION_TOKENS, Size
from gaia2.nn import attention


class LiveBytes(TorchDispatchMode):
    """Bytes of the tensors that are alive at once; those that were there before do not count.

    Attributes:
        now: Alive now.
        peak: Alive at the most.

    Example:
        >>> with LiveBytes() as live:
        ...     x = torch.zeros(1000) + torch.zeros(1000)
        >>> live.now, live.peak
        (4000, 12000)
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in before | self._seen:
                self._add(leaf.untyped_storage())
        return out

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self._seen.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def peak_bytes(run: Callable[[], Any], *, on_meta: bool = False) -> int:
    """Of a run without gradients; on the meta device attention counts as the fused kernels that a GPU has."""
    with torch.no_grad(), _fused_attention() if on_meta else nullcontext(), LiveBytes() as live:
        run()
    return live.peak


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention that holds its result and nothing else; the meta device has no such kernel."""
    before = attention.dispatch_attention_fn
    attention.dispatch_attention_fn = lambda query, *_, **__: torch.empty_like(query)
    try:
        yield
    finally:
        attention.dispatch_attention_fn = before


def step_flops(size: Size) -> float:
    """Operations of one network evaluation, by the formula of docs/performance.md; keys and values are there.

    A token costs 2 x 18 c^2 a block in products (4 c^2 of spatial, 4 of temporal, 2 of cross-attention and 8 of the
    MLP), and 4 c in attention for each token that it looks at.
    """
    c, (h, w) = size.dim, size.grid
    seen = size.cameras * h * w + size.times + CONDITION_TOKENS
    return size.tokens * (size.blocks * (36.0 * c**2 + 4.0 * c * seen) + 4.0 * c * size.channels)
