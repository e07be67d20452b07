"""A block and the whole network of the world model against the floor; temporal attention alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.floor import Floor
from benchmarks.models import MINI, TINY, Size, block, block_inputs, conditioning, latents, paper_width, world_model
from benchmarks.settings import Settings
from benchmarks.timing import Figure, collect, interleaved, ratio
from gaia2.models.world_model import WorldModel
from gaia2.nn.attention import Attention, short_attention
from gaia2.nn.blocks import over_time

FORWARD = {"float32": 1.1, "bfloat16": 1.3}
BOTH = {"float32": 1.3, "bfloat16": 1.6}
"""Times the floor that forward, and forward and backward, should not exceed."""


def against_floor(
    part: str,
    works: dict[str, tuple[Callable[[], Any], float | None]],
    settings: Settings,
    details: dict[str, Any],
) -> Iterator[Figure]:
    """Figures of works against the floor of their products; works are named, with what they should not exceed."""
    floors = {name: Floor(run, settings.device) for name, (run, _) in works.items()}
    turns: dict[str, Callable[[], Any]] = {name: run for name, (run, _) in works.items()}
    spent: dict[str, list[float]] = {name: [] for name in works}

    def measure(name: str) -> Callable[[], None]:
        return lambda: spent[name].append(floors[name].seconds())

    times = interleaved({**turns, **{f"{name}, floor": measure(name) for name in works}}, settings.rounds)
    for name, (_, target) in works.items():
        floor = spent[name][-settings.rounds :]
        rate = floors[name].flops / sorted(floor)[len(floor) // 2] / 1e9
        more = {"gflop": floors[name].flops / 1e9, "floor_gflop_a_second": rate}
        yield Figure(part, name, "of the floor", ratio(times[name], floor), target, {**details, **more})


def measure_block(settings: Settings) -> Iterator[Figure]:
    """One block of width 512, forward, and forward with backward."""
    size = TINY if settings.small else Size(blocks=1)
    yield from _block("block", size, settings, FORWARD, BOTH)


def measure_paper_width(settings: Settings) -> Iterator[Figure]:
    """One block of the paper's width."""
    size = TINY if settings.small else paper_width(settings.device)
    yield from _block("paper_width", size, settings, {}, {})


def _block(
    part: str, size: Size, settings: Settings, forward: dict[str, float], both: dict[str, float]
) -> Iterator[Figure]:
    for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
        model = block(size, dtype, settings.device)
        inputs = block_inputs(size, dtype, settings.device)
        works = {f"{name}, forward": (without_gradients(model, *inputs), forward.get(name))}
        works[f"{name}, forward and backward"] = (with_gradients(model, *inputs), both.get(name))
        if settings.compiled:
            compiled = torch.compile(block(size, dtype, settings.device))
            yield from _compiled(part, name, model, compiled, inputs, settings, size)
        yield from against_floor(part, works, settings, {"size": str(size)})
        del model
        collect()


def _compiled(
    part: str, name: str, model: nn.Module, compiled: Any, inputs: Any, settings: Settings, size: Size
) -> Iterator[Figure]:
    """A compiled block against the same one as it is."""
    for way, of in (("forward", without_gradients), ("forward and backward", with_gradients)):
        times = interleaved({"eager": of(model, *inputs), "compiled": of(compiled, *inputs)}, settings.rounds, 2)
        value = ratio(times["compiled"], times["eager"])
        yield Figure(part, f"{name}, {way}, compiled", "of eager", value, None, {"size": str(size)})


def without_gradients(model: nn.Module, *inputs: torch.Tensor) -> Callable[[], Any]:
    """A forward pass as in generation."""

    def run() -> Any:
        with torch.no_grad():
            return model(*inputs)

    return run


def with_gradients(model: nn.Module, *inputs: torch.Tensor) -> Callable[[], Any]:
    """A forward and backward pass, to the tokens and to all weights."""
    tokens = inputs[0].detach().requires_grad_()

    def run() -> None:
        model(tokens, *inputs[1:]).square().mean().backward()
        model.zero_grad(set_to_none=True)
        tokens.grad = None

    return run


def prepared(model: WorldModel, size: Size, device: str) -> Any:
    """The conditions of a window, as a generation holds them from step to step."""
    with torch.no_grad():
        return model.prepare(model.encode_conditioning(conditioning(size, device), grid=size.grid), size.grid)


def step(model: WorldModel, size: Size, dtype: torch.dtype, device: str) -> Callable[[], Any]:
    """One network evaluation of a generation."""
    x, tau, held = latents(size, dtype, device), torch.full((1,), 0.5, device=device), prepared(model, size, device)

    def run() -> torch.Tensor:
        with torch.no_grad():
            return model(x, tau, held, return_dict=False)[0]

    return run


def measure_world_model(settings: Settings) -> Iterator[Figure]:
    """The whole network, at width 512 and at the size of the default model."""
    sizes = {"width 512": Size(), "default model": MINI}
    for label, size in {"tiny": TINY}.items() if settings.small else sizes.items():
        for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
            model = world_model(size, dtype, settings.device)
            asked = label == "width 512"
            works = {
                f"{label}, {name}, forward": (
                    step(model, size, dtype, settings.device),
                    FORWARD[name] if asked else None,
                )
            }
            if asked or settings.small:
                given, tau = conditioning(size, settings.device), torch.full((1,), 0.5, device=settings.device)
                x = latents(size, dtype, settings.device)

                def train(model: WorldModel = model, x: Any = x, tau: Any = tau, given: Any = given) -> None:
                    model(x, tau, given, return_dict=False)[0].square().mean().backward()
                    model.zero_grad(set_to_none=True)

                works[f"{label}, {name}, forward and backward"] = (train, BOTH[name])
            yield from against_floor("world_model", works, settings, {"size": str(size)})
            del model
            collect()


def measure_temporal_attention(settings: Settings) -> Iterator[Figure]:
    """Attention over time alone: against its four products, and what it does beside them against torch's kernel."""
    size = TINY if settings.small else Size()
    for name, dtype in zip(settings.dtypes, settings.torch_dtypes, strict=True):
        attention = Attention(dim=size.dim, num_heads=size.heads).to(settings.device, dtype)
        tokens = block_inputs(size, dtype, settings.device)[0]
        whole = {f"{name}, forward": (without_gradients(_OverTime(attention), tokens), None)}
        yield from against_floor("temporal_attention", whole, settings, {"size": str(size)})
        cells = size.tokens // size.times
        shape = (size.times, cells, size.heads, size.dim // size.heads)
        sides = [torch.randn(shape, device=settings.device).to(dtype).transpose(0, 1) for _ in range(3)]
        works = {"kernel": partial(_kernel, *sides), "products": partial(short_attention, *sides)}
        times = interleaved(works, settings.rounds)
        value = ratio(times["products"], times["kernel"])
        details = {"problems": cells * size.heads, "tokens": size.times}
        yield Figure("temporal_attention", f"{name}, plain products", "of torch's kernel", value, None, details)


def _kernel(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Torch's own attention of `(b, s, heads, d)`."""
    heads_first = (x.transpose(1, 2) for x in (query, key, value))
    return nn.functional.scaled_dot_product_attention(*heads_first)


class _OverTime(nn.Module):
    """`over_time` as a module."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return over_time(self.attention, tokens)
