"""What a model costs, found on the meta device: nothing is allocated or computed, so a laptop can tell of 8.4B weights.

Axes: b batch, s k tokens, d channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

import gaia2.nn.attention as attention_module
from gaia2.training.parallel import PRODUCTS, blocks_of


@dataclass(frozen=True)
class ForwardCost:
    """Costs of one forward pass, and of the backward pass through it.

    Attributes:
        flops: Floating-point operations of its matrix products, convolutions and attentions; a product of m x k and
            k x n has 2mkn.
        backward_flops: Those of the backward pass: twice as many where everything is trained, fewer where weights are
            frozen. What fused attention computes again is not counted.
        block_flops: The part of `flops` in repeated blocks that are trained through.
        outside_bytes: Bytes that are kept for the backward pass outside of the blocks.
        block_bytes: Bytes kept in the blocks, all together, if nothing is computed twice.
        selective_bytes: Bytes kept in the blocks by selective checkpointing.
        input_bytes: Bytes kept in the blocks by full checkpointing: their inputs.
        largest_block_bytes: What one block, the largest, keeps: full and selective checkpointing need it once more.
        selective_flops: Operations that selective checkpointing computes again.
    """

    flops: float
    backward_flops: float
    block_flops: float
    outside_bytes: int
    block_bytes: int
    selective_bytes: int
    input_bytes: int
    largest_block_bytes: int
    selective_flops: float


def forward_cost(models: nn.Module | Sequence[nn.Module], run: Callable[[], torch.Tensor]) -> ForwardCost:
    """Run models on the meta device, forward and backward, and count.

    Args:
        models: On the meta device, in the number format of their products; what is frozen asks for no gradient.
        run: Calls them, and gives what the loss is made of.

    Example:
        >>> with torch.device("meta"):
        ...     layer, x = nn.Linear(8, 4), torch.empty(2, 8)
        >>> cost = forward_cost(layer, lambda: layer(x))
        >>> cost.flops, cost.backward_flops  # nobody asks for the gradient of x
        (128.0, 128.0)
    """
    count = _Count([models] if isinstance(models, nn.Module) else models)
    with count.watching(), _fused_attention(count), FlopCounterMode(display=False) as forward:
        out = run()
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    return count.result(float(forward.get_total_flops()), float(backward.get_total_flops()))


@torch.no_grad()
def inference_flops(run: Callable[[], Any]) -> float:
    """Operations of models that are called on the meta device, without gradients.

    Example:
        >>> with torch.device("meta"):
        ...     layer, x = nn.Linear(8, 4), torch.empty(2, 8)
        >>> inference_flops(lambda: layer(x))
        128.0
    """
    count = _Count([])
    with _fused_attention(count), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() + count.attention_flops


class _Count:
    """What is kept, by block."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.blocks = [block for model in models for block in blocks_of(model)]
        self.own = {parameter.untyped_storage()._cdata for model in models for parameter in model.parameters()}
        self.attention_flops = self.attention_backward_flops = 0.0
        self.outside = 0
        self.kept: list[int] = []
        self.selective: list[int] = []
        self.inputs: list[int] = []
        self.block_flops = self.again = 0.0
        self.inside = False
        self.seen: dict[int, torch.UntypedStorage] = {}  # storages are held, so that no name is given twice

    def result(self, forward: float, backward: float) -> ForwardCost:
        return ForwardCost(
            flops=forward + self.attention_flops,
            backward_flops=backward + self.attention_backward_flops,
            block_flops=self.block_flops,
            outside_bytes=self.outside,
            block_bytes=sum(self.kept),
            selective_bytes=sum(self.selective) + sum(self.inputs),
            input_bytes=sum(self.inputs),
            largest_block_bytes=max(self.kept, default=0),
            selective_flops=self.again,
        )

    def attend_backward(self, flops: float) -> None:
        """A gradient has gone through an attention."""
        self.attention_backward_flops += flops

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as stack:
            for block in self.blocks:
                for handle in (
                    block.register_forward_pre_hook(self._enter),
                    block.register_forward_hook(self._leave),
                ):
                    stack.callback(handle.remove)
            stack.enter_context(saved_tensors_hooks(self._keep, lambda tensor: tensor))
            stack.enter_context(_Products(self))
            yield

    def _enter(self, block: nn.Module, args: tuple[Any, ...]) -> None:
        trained = args[0].requires_grad or any(parameter.requires_grad for parameter in block.parameters())
        if not (torch.is_grad_enabled() and trained):
            return  # it keeps nothing, and is not computed again
        self.inside = True
        self.kept.append(0)
        self.selective.append(0)
        self.inputs.append(args[0].numel() * args[0].element_size())
        self.products = 0

    def _leave(self, block: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.inside = False

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.seen and storage._cdata not in self.own:
            self.seen[storage._cdata] = storage
            if self.inside:
                self.kept[-1] += storage.nbytes()
            else:
                self.outside += storage.nbytes()
        return tensor

    def product(
        self, flops: float, output: torch.Tensor, *, attention: bool = False, convolution: bool = False
    ) -> None:
        """A product, an attention or a convolution was computed."""
        if not self.inside:
            return
        self.block_flops += flops
        self.products += not (attention or convolution)
        if attention or (self.products % 2 == 1 and not convolution):
            self.selective[-1] += output.numel() * output.element_size()
        else:
            self.again += flops


class _Products(TorchDispatchMode):
    """Tells of matrix products."""

    def __init__(self, count: _Count) -> None:
        super().__init__()
        self.count = count

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in PRODUCTS:
            left = args[1] if func is torch.ops.aten.addmm.default else args[0]
            self.count.product(2.0 * out.numel() * left.shape[-1], out)
        elif func is torch.ops.aten.convolution.default:
            source, weight, transposed = args[0], args[1], args[6]
            places = source if transposed else out  # each of them meets all of a kernel
            self.count.product(2.0 * places.numel() * weight[0].numel(), out, convolution=True)
        return out


@contextmanager
def _fused_attention(count: _Count) -> Iterator[None]:
    """Within the block attention keeps what fused kernels keep; the meta device has none and would keep more."""

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **_: Any) -> torch.Tensor:
        b, s, heads, d = query.shape
        flops = 4.0 * b * heads * s * key.shape[1] * d
        count.attention_flops += flops
        out = _Kernel.apply(query, key, value, lambda: count.attend_backward(2 * flops))
        count.product(flops, out, attention=True)
        return out

    before = attention_module.dispatch_attention_fn
    attention_module.dispatch_attention_fn = attend
    try:
        yield
    finally:
        attention_module.dispatch_attention_fn = before


class _Kernel(torch.autograd.Function):
    """What a fused attention keeps: its inputs, its output, and a number for each query and head."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, passed: Callable[[], None]
    ) -> torch.Tensor:
        out = torch.empty_like(query)
        sums = torch.empty(query.shape[:3], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.passed = passed
        return out

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        ctx.passed()
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None
