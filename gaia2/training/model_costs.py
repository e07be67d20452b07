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
from gaia2.models.video_discriminator import VideoDiscriminator
from gaia2.models.video_tokenizer import VideoTokenizer
from gaia2.models.world_model import WorldModel
from gaia2.training.cost import ForwardCost, forward_cost, inference_flops
from gaia2.training.parallel import blocks_of


@dataclass(frozen=True)
class ModelCost:
    """What one sample of a model costs.

    Attributes:
        parameters: Its weights that are trained.
        largest_unit: Weights of its largest block, or of all that is in no block.
        forward: Of one sample.
        tokens: Of one sample.
        latent_bytes: Bytes on disk of the mean and the deviation of one sample's latents, in bfloat16.
        frozen: Its weights that are not trained.
        averaged: Trained weights that have an average; None is all of them.
        second: Of a second pass of the same sample, when the first one's activations are free again.
    """

    parameters: int
    largest_unit: int
    forward: ForwardCost
    tokens: int
    latent_bytes: int
    frozen: int = 0
    averaged: int | None = None
    second: ForwardCost | None = None


def world_model_cost(
    preset: Preset, *, cameras: int = 5, bf16: bool = True, adapt: Callable[[WorldModel], None] | None = None
) -> ModelCost:
    """Cost of the world model for a window of some cameras, with all conditions.

    Args:
        preset: Its size, and that of the frames.
        cameras: Of a sample.
        bf16: Count bytes as with products in bfloat16.
        adapt: Changes the model before it is counted, in place: adds an adapter, freezes weights.

    Example:
        >>> from gaia2.models import presets
        >>> cost = world_model_cost(presets.mini(), cameras=1)
        >>> cost.parameters, cost.tokens
        (8201184, 96)
    """

    def build(blocks: int) -> WorldModel:
        model = WorldModel(**{**preset.world_model, "num_blocks": blocks})
        if adapt is not None:
            adapt(model)
        return model

    with _meta():
        tokenizer, whole = VideoTokenizer(**preset.tokenizer), build(preset.world_model["num_blocks"])
    t = preset.num_frames // tokenizer.frames_per_latent
    h, w = (side // tokenizer.spatial_compression_ratio for side in preset.image_size)
    channels = whole.config.latent_channels

    def of(blocks: int) -> ForwardCost:
        with _meta():
            model = build(blocks).to(torch.bfloat16 if bf16 else torch.float32)
            x = torch.empty(1, t, cameras, h, w, channels, dtype=model.dtype)
            known = torch.empty(1, t, cameras, h, w, dtype=torch.bool)
            kept = torch.empty(1, cameras, dtype=torch.bool)
            given = _conditioning(model, t, cameras)
            tau = torch.empty(1, dtype=torch.float32)
        return forward_cost(model, lambda: model(x, tau, given, known_mask=known, camera_mask=kept).sample)

    return ModelCost(
        parameters=_trained(whole),
        frozen=_size(whole) - _trained(whole),
        largest_unit=_largest_unit(whole, [whole]),
        forward=_extrapolated(of, preset.world_model["num_blocks"]),
        tokens=t * cameras * h * w,
        latent_bytes=2 * 2 * t * cameras * h * w * channels,
    )


def tokenizer_cost(
    preset: Preset,
    *,
    image_size: tuple[int, int],
    num_frames: int,
    freeze_encoder: bool = False,
    bf16: bool = True,
) -> ModelCost:
    """Cost of encoding and decoding one video of one camera, without the networks of the losses.

    Args:
        preset: The tokenizer's size.
        image_size: Pixels `(height, width)` of the video.
        num_frames: Its frames.
        freeze_encoder: Whether the decoder alone is trained.
        bf16: Count bytes as with products in bfloat16.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    with _meta():
        model = VideoTokenizer(**preset.tokenizer).to(dtype)
        frames = torch.empty(1, 3, num_frames, *image_size, dtype=dtype)
    model.encoder.requires_grad_(not freeze_encoder)
    tokens = _tokens(model, image_size, num_frames)
    return ModelCost(
        parameters=_trained(model),
        frozen=_size(model) - _trained(model),
        largest_unit=_largest_unit(model, [model.encoder, model.decoder]),
        forward=forward_cost(model, lambda: model.decode(model.encode(frames).latent_dist.mean).sample),
        tokens=tokens,
        latent_bytes=2 * 2 * tokens * model.config.latent_channels,
    )


def encoding_flops(model: VideoTokenizer, image_size: tuple[int, int]) -> float:
    """Operations of encoding one latent time of one camera.

    Args:
        model: On the meta device.
        image_size: Pixels `(height, width)` of a frame.
    """
    with _meta():
        frames = torch.empty(1, model.config.in_channels, model.frames_per_latent, *image_size)
    return inference_flops(lambda: model.encode(frames))


def decoder_stage_cost(
    preset: Preset,
    *,
    image_size: tuple[int, int],
    num_frames: int,
    discriminator_channels: int,
    sharded: bool = False,
    bf16: bool = True,
) -> ModelCost:
    """Cost of the tokenizer's adversarial stage for one video of one camera, without the networks of the losses.

    The encoder runs without gradients, the decoder is trained through the discriminator, and then the discriminator on
    the true and the decoded video.

    Args:
        preset: The tokenizer's size.
        image_size: Pixels `(height, width)` of the video.
        num_frames: Its frames.
        discriminator_channels: Its `base_channels`.
        sharded: Whether ranks share the discriminator: then its gradients are computed in the decoder's pass as well.
        bf16: Count bytes as with products in bfloat16.
    """
    dtype = torch.bfloat16 if bf16 else torch.float32
    with _meta():
        tokenizer = VideoTokenizer(**preset.tokenizer).to(dtype)
        discriminator = VideoDiscriminator(
            in_channels=tokenizer.config.in_channels, base_channels=discriminator_channels
        ).to(dtype)
        frames = torch.empty(1, tokenizer.config.in_channels, num_frames, *image_size, dtype=dtype)
        both = torch.empty(2, *frames.shape[1:], dtype=dtype)
    tokenizer.encoder.requires_grad_(False)
    tokens, decoder = _tokens(tokenizer, image_size, num_frames), _trained(tokenizer)

    def sharpen() -> torch.Tensor:
        with torch.no_grad():
            latents = tokenizer.encode(frames).latent_dist.mean
        return discriminator(tokenizer.decode(latents).sample).logits

    discriminator.requires_grad_(sharded)
    sharpening = forward_cost([tokenizer, discriminator], sharpen)
    discriminator.requires_grad_(True)
    judging = forward_cost(discriminator, lambda: discriminator(both).logits)
    return ModelCost(
        parameters=decoder + _size(discriminator),
        frozen=_size(tokenizer) - decoder,
        averaged=decoder,
        largest_unit=max(
            _largest_unit(tokenizer, [tokenizer.encoder, tokenizer.decoder]),
            _largest_unit(discriminator, [discriminator]),
        ),
        forward=sharpening,
        second=judging,
        tokens=tokens,
        latent_bytes=2 * 2 * tokens * tokenizer.config.latent_channels,
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


def _tokens(tokenizer: VideoTokenizer, image_size: tuple[int, int], num_frames: int) -> int:
    """Cells of the latents of one video."""
    h, w = (side // tokenizer.spatial_compression_ratio for side in image_size)
    return num_frames // tokenizer.frames_per_latent * h * w


def _trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


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
