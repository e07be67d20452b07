"""Models made ready to be trained on many GPUs: blocks sharded, compiled, their activations computed twice."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models._modeling_parallel import ParallelConfig
from torch import nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from gaia2.models.world_model import WorldModel
from gaia2.training.options import Checkpointing
from gaia2.training.ranks import Ranks

warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor")  # nothing changes it

ATTENTION = (
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
)
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default, torch.ops.aten.bmm.default)


def blocks_of(model: nn.Module) -> Iterator[nn.Module]:
    """The repeated blocks of a model, those classes that it names in `_repeated_blocks`."""
    names = set(getattr(model, "_repeated_blocks", None) or ())
    for module in model.modules():
        if type(module).__name__.removeprefix("FSDP") in names:
            yield module


def prepare_model(
    model: nn.Module,
    ranks: Ranks,
    *,
    roots: Iterable[nn.Module] | None = None,
    activation_checkpointing: Checkpointing = "none",
    compile: bool = False,
    bf16: bool = False,
    from_main: bool = False,
) -> None:
    """Bring a model to its device and make it ready, in place: checkpointing, context parallelism, compiling, shards.

    Args:
        model: The model. Its weights are the same in all ranks, or, with `from_main`, are those of the main rank.
        ranks: Who shares it.
        roots: Parts that are called from outside; the model itself by default.
        activation_checkpointing: Of its repeated blocks.
        compile: Compile its repeated blocks.
        bf16: Gather sharded weights in bfloat16; gradients are summed in float32.
        from_main: Only the main rank has weights, the others' model is on the meta device: a model that is too large to
            be built once for each GPU of a machine is built once in all. It may have no buffers but saved ones.
    """
    blocks = list(blocks_of(model))
    for block in blocks:
        checkpoint_activations(block, activation_checkpointing)
    if ranks.times is not None:
        share_times(model, ranks)
    if compile:
        for block in blocks:
            block.compile(dynamic=False)  # there are few shapes, and code for any shape is slow
    if ranks.weights is None:
        model.to(ranks.device)
        return
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if bf16 else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    whole = model.state_dict() if from_main and ranks.is_main else {}
    if from_main:
        model.to("meta")
    for part in [*blocks, *([model] if roots is None else roots)]:
        fully_shard(part, mesh=ranks.weights, mp_policy=policy)
    if from_main:
        model.to_empty(device=ranks.device)
        set_model_state_dict(model, whole, options=StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))
    if hasattr(model, "encode_conditioning"):
        register_fsdp_forward_method(model, "encode_conditioning")
    model.to(ranks.device)  # the buffers; sharded weights are there already


def reduce_after(modules: nn.ModuleDict, *, last: bool) -> None:
    """Say whether the next backward pass is the last of its step: replicas exchange gradients once a step.

    Shards of gradients are exchanged in each pass all the same, so that no rank ever holds whole ones.
    """
    for module in modules.modules():
        if isinstance(module, FSDPModule):
            module.set_requires_all_reduce(last, recurse=False)


def checkpoint_activations(block: nn.Module, mode: Checkpointing) -> None:
    """Let a block forget its activations and compute them again in the backward pass; changes its `forward`.

    Args:
        block: Any module.
        mode: `none` keeps all, `full` keeps the inputs, `selective` also the results of attention and of every other
            matrix product, which costs half of the products again and none of the attention.
    """
    if mode == "none":
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if mode == "selective":
        options["context_fn"] = _selective_contexts
    block.forward = partial(checkpoint, block.forward, **options)  # type: ignore[method-assign]


def _selective_contexts() -> Any:
    counts = {False: 0, True: 0}  # matrix products so far, in the forward pass and when it is computed again

    def policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if operation in PRODUCTS:
            counts[context.is_recompute] += 1
        keep = operation in ATTENTION or (operation in PRODUCTS and counts[context.is_recompute] % 2 == 1)
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)


def share_times(model: nn.Module, ranks: Ranks) -> None:
    """Give each of `ranks.context` ranks a part of the latent times; the temporal attention exchanges them.

    As diffusers' `enable_parallelism` does, but also on a CPU, which has no accelerator to number.

    Raises:
        ValueError: If the model is not a world model, or its window cannot be divided.
    """
    if not isinstance(model, WorldModel):
        raise ValueError(f"context_ranks: expected 1 for a {type(model).__name__}; only a WorldModel shares times")
    if model.config.window_latents % ranks.context:
        raise ValueError(
            f"context_ranks: expected a divisor of the window of {model.config.window_latents} latents, "
            f"got {ranks.context}"
        )
    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=ranks.context))
    config.setup(ranks.rank, ranks.world, ranks.device, mesh=ranks.times)
    for module in model.modules():
        processor: Any = getattr(module, "processor", None)
        if hasattr(processor, "_parallel_config"):
            processor._parallel_config = config
    assert model._cp_plan is not None
    apply_context_parallel(model, config.context_parallel_config, model._cp_plan)
    model._parallel_config = config
