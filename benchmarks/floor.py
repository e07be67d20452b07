"""The floor of a computation: the time that its matrix products alone take, at their own shapes, in this process.

Products of weights (linear layers, and convolutions as the product that they amount to) are repeated on tensors that
are there already, by plain `torch.mm`. Products inside of attention are small or fused, and are counted at the rate
that the others reach together.

Axes: m rows, k summed, n columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from benchmarks.timing import timed

aten = torch.ops.aten
ON_CPU = {  # attention kernels that torch's counter does not know, by the shapes that they are given
    aten._scaled_dot_product_flash_attention_for_cpu: lambda *shapes, **_: sdpa_flop_count(*shapes[:3]),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda *shapes, **_: sdpa_backward_flop_count(
        *shapes[:4]
    ),
}
AT_MOST = 4
"""How often a product of one shape is repeated; where there are more, the time is scaled."""


@dataclass(frozen=True)
class Product:
    """A matrix product `(m, k) @ (k, n)`, and which of its sides lie in memory column by column."""

    m: int
    k: int
    n: int
    dtype: torch.dtype
    transposed: tuple[bool, bool] = (False, True)

    @property
    def flops(self) -> float:
        """Operations."""
        return 2.0 * self.m * self.k * self.n


class Floor:
    """What a computation multiplies, and how long that alone takes.

    Args:
        run: The computation; runs once, to be looked at.
        device: Where it computes.

    Attributes:
        flops: Operations of all its products, attention among them.
        products: Products of weights, by shape, and how many of each.

    Example:
        >>> layer, x = torch.nn.Linear(8, 4), torch.randn(2, 8)
        >>> Floor(lambda: layer(x)).flops
        128.0
    """

    def __init__(self, run: Callable[[], Any], device: torch.device | str = "cpu") -> None:
        self.device = device
        record = _Record()
        with record, FlopCounterMode(display=False, custom_mapping=ON_CPU) as flops:
            run()
        self.flops = float(flops.get_total_flops())
        self.products = record.products
        self._sides = {product: self._make(product) for product in self.products}

    @property
    def product_flops(self) -> float:
        """Operations of the products of weights."""
        return sum(product.flops * number for product, number in self.products.items())

    def seconds(self) -> float:
        """Measure once."""
        spent = 0.0
        for product, number in self.products.items():
            left, right, out = self._sides[product]
            repeats = min(number, AT_MOST)

            def multiply(left: Any = left, right: Any = right, out: Any = out, repeats: int = repeats) -> None:
                for _ in range(repeats):
                    torch.mm(left, right, out=out)

            spent += timed(multiply) * number / repeats
        return spent * self.flops / self.product_flops

    def _make(self, product: Product) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sides = []
        for shape, transposed in zip(((product.m, product.k), (product.k, product.n)), product.transposed, strict=True):
            side = torch.randn(shape[::-1] if transposed else shape, device=self.device).to(product.dtype)
            sides.append(side.t() if transposed else side)
        return sides[0], sides[1], torch.empty(product.m, product.n, dtype=product.dtype, device=self.device)


class _Record(TorchDispatchMode):
    """Products of weights that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.products: Counter[Product] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is aten.mm.default:
            self._multiply(args[0], args[1])
        elif func is aten.addmm.default:
            self._multiply(args[1], args[2])
        elif func is aten.convolution.default:
            self._convolve(args[0], args[1], out, args[8])
        elif func is aten.convolution_backward.default:
            for needed in args[10][:2]:
                if needed:
                    self._convolve(args[1], args[2], args[0], args[9])
        return out

    def _multiply(self, left: torch.Tensor, right: torch.Tensor) -> None:
        (m, k), n = left.shape, right.shape[1]
        transposed = (left.stride(1) != 1 and left.stride(0) == 1, right.stride(1) != 1 and right.stride(0) == 1)
        self.products[Product(m, k, n, left.dtype, transposed)] += 1

    def _convolve(self, x: torch.Tensor, weight: torch.Tensor, out: torch.Tensor, groups: int) -> None:
        cells = len(out) * math.prod(out.shape[2:])
        product = Product(cells, math.prod(weight.shape[1:]), weight.shape[0] // groups, x.dtype)
        self.products[product] += groups
