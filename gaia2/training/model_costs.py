"""The costs of the library's models at the sizes of a preset, found on the meta device."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gaia2.models.presets import Preset
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.training.cost import ForwardCost, forward_cost
from gaia2.training.parallel import blocks_of


@dataclass(frozen=True)
class ModelCost:
    """What one sample of a model costs.

    Attributes:
        parameters: Its weights.
        largest_unit: Weights of its largest block, or of all that is in no block.
        forward: Of one sample.
        tokens: Of one sample.
        latent_bytes: Bytes on disk of the mean and the deviation of one sample's latents, in bfloat16.
    """

    parameters: int
    largest_unit: int
    forward: ForwardCost
    tokens: int
    latent_bytes: int


def world_model_cost(preset: Preset, *, cameras: int = 5, bf16: bool = True) -> ModelCost:
    """Cost of the world model for a window of some cameras, with all conditions.

    Example:
        >>> from gaia2.models import presets
        >>> cost = world_model_cost(presets.mini(), cameras=1)
        >>> cost.parameters, cost.tokens
        (8113600, 96)
    """
    with _meta():
        tokenizer, whole = VideoTokenizer(**preset.tokenizer), WorldModel(**preset.world_model)
    t = preset.num_frames // tokenizer.frames_per_latent
    h, w = (side // tokenizer.spatial_compression_ratio for side in preset.image_size)
    channels = whole.config.latent_channels

    def of(blocks: int) -> ForwardCost:
        with _meta():
            model = WorldModel(**{**preset.world_model, "num_blocks": blocks})
            model = model.to(torch.bfloat16) if bf16 else model
            x = torch.empty(1, t, cameras, h, w, channels, dtype=model.dtype)
            known = torch.empty(1, t, cameras, h, w, dtype=torch.bool)
            kept = torch.empty(1, cameras, dtype=torch.bool)
            given = _conditioning(model, t, cameras)
            tau = torch.empty(1, dtype=torch.float32)
        return forward_cost(model, lambda: model(x, tau, given, known_mask=known, camera_mask=kept))

    return ModelCost(
        parameters=_size(whole),
        largest_unit=_largest_unit(whole, [whole]),
        forward=_extrapolated(of, preset.world_model["num_blocks"]),
        tokens=t * cameras * h * w,
        latent_bytes=2 * 2 * t * cameras * h * w * channels,
    )


def tokenizer_cost(preset: Preset, *, image_size: tuple[int, int], num_frames: int, bf16: bool = True) -> ModelCost:
    """Cost of encoding and decoding one video of one camera, without the networks of the losses."""
    with _meta():
        model = VideoTokenizer(**preset.tokenizer)
        model = model.to(torch.bfloat16) if bf16 else model
        frames = torch.empty(1, 3, num_frames, *image_size, dtype=model.dtype)
    t = num_frames // model.frames_per_latent
    h, w = (side // model.spatial_compression_ratio for side in image_size)

    def run() -> None:
        model.decode(model.encode(frames).latent_dist.mean)

    return ModelCost(
        parameters=_size(model),
        largest_unit=_largest_unit(model, [model.encoder, model.decoder]),
        forward=forward_cost(model, run),
        tokens=t * h * w,
        latent_bytes=2 * 2 * t * h * w * model.config.latent_channels,
    )


def _extrapolated(of: Callable[[int], ForwardCost], blocks: int) -> ForwardCost:
    """The cost of many equal blocks, from that of one and of two."""
    one, two = of(1), of(2)
    values = {
        name: value + (blocks - 1) * (getattr(two, name) - value)
        for name, value in vars(one).items()
        if name != "largest_block_bytes"
    }
    return ForwardCost(**values, largest_block_bytes=one.largest_block_bytes)


def _conditioning(model: WorldModel, t: int, n: int) -> dict[str, torch.Tensor]:
    """Tensors of all conditions of one sample, with as many agents as the model takes."""
    given = {}
    sizes = {"b": 1, "t": t, "n": n, "m": model.config.max_agents}
    for key, spec in model.conditions.keys.items():
        shape = spec.shape(sizes)
        if shape is not None:
            given[key] = torch.empty(shape, dtype=torch.int64 if spec.integer else torch.float32)
    return given


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _largest_unit(model: nn.Module, roots: list[nn.Module]) -> int:
    blocks = [_size(block) for block in blocks_of(model)]
    rest = [_size(root) - sum(_size(block) for block in blocks_of(model) if _is_in(block, root)) for root in roots]
    return max([*blocks, *rest])


def _is_in(block: nn.Module, root: nn.Module) -> bool:
    return any(module is block for module in root.modules())


@contextmanager
def _meta() -> Iterator[None]:
    """Within the block everything is on the meta device; diffusers says nothing of number formats."""
    logger: Any = logging.getLogger("diffusers.models.modeling_utils")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.device("meta"):
            yield
    finally:
        logger.setLevel(level)
