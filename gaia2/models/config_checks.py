"""Checks of what models are made of, before anything is built; a config that comes from a file is checked likewise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from gaia2._checks import real_number, refuse, true_or_false, whole_number
from gaia2.nn.conv import as_stride
from gaia2.nn.shapes import check_channels

MAX_BLOCKS = 1000
MAX_SIDE = 65_536
MAX_WINDOW = 1000
MAX_AGENTS = 10_000


def check_width(dim: int, num_heads: int) -> None:
    """Check the channels of a transformer and its heads.

    Raises:
        ValueError: If they are out of range, the channels no multiple of 4, or the heads do not divide them.

    Example:
        >>> check_width(32, 3)
        Traceback (most recent call last):
        ...
        ValueError: num_heads: expected a divisor of dim=32, got 3
    """
    check_channels(dim=dim)
    whole_number("num_heads", num_heads)
    if dim % 4:
        raise refuse("dim", "a multiple of 4", dim, "rows and columns take half of the position's channels each")
    if dim % num_heads:
        raise refuse("num_heads", f"a divisor of dim={dim}", num_heads)


def check_world_model(config: Mapping[str, Any]) -> None:
    """Check the arguments of `WorldModel` that are plain values.

    Args:
        config: Arguments by name.

    Raises:
        ValueError: If one is out of range; the message names it.
    """
    check_channels(**{name: config[name] for name in ("latent_channels", "clip_dim", "scenario_dim")})
    check_width(config["dim"], config["num_heads"])
    whole_number("num_blocks", config["num_blocks"], 1, MAX_BLOCKS)
    real_number("mlp_ratio", config["mlp_ratio"], 1 / config["dim"], 1000)
    whole_number("window_latents", config["window_latents"], 1, MAX_WINDOW, hint="latent times of a training window")
    whole_number("max_agents", config["max_agents"], 0, MAX_AGENTS)
    for name in ("ray_map", "agent_map", "ground_map"):
        true_or_false(name, config[name])
    if config["metadata"] is not None:
        check_vocabulary("metadata", config["metadata"])


def check_vocabulary(name: str, vocabulary: Any) -> None:
    """Check the argument `name`, metadata and the values that each can have, or how many.

    Raises:
        ValueError: If it is none; the message names it.
    """
    hint = "such as {'weather': ['clear', 'rain']}"
    expected = "names and their allowed values"
    pairs = list(vocabulary.items()) if isinstance(vocabulary, Mapping) else vocabulary
    if not isinstance(pairs, list | tuple):
        raise refuse(name, expected, vocabulary, hint)
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise refuse(name, expected, pair, hint)
        values = pair[1]
        if isinstance(values, int) and not isinstance(values, bool):
            whole_number(f"{name}: number of values of {pair[0]!r}", values)
        elif not isinstance(values, list | tuple) or not values:
            raise refuse(name, f"at least one value of {pair[0]!r}, in a list", values, hint)


def check_video_tokenizer(config: Mapping[str, Any]) -> None:
    """Check the arguments of `VideoTokenizer`.

    Args:
        config: Arguments by name.

    Raises:
        ValueError: If one is out of range; the message names it.
    """
    check_channels(in_channels=config["in_channels"], latent_channels=config["latent_channels"])
    check_width(config["dim"], config["num_heads"])
    whole_number("encoder_blocks", config["encoder_blocks"], 1, MAX_BLOCKS)
    for blocks in _several("decoder_blocks", config["decoder_blocks"], 2):
        whole_number("decoder_blocks", blocks, 0, MAX_BLOCKS)
    whole_number("frame_stride", config["frame_stride"], 1, 1024)
    for name in ("encoder_strides", "decoder_strides"):
        for stride in _several(name, config[name], 3):
            as_stride(stride, name)
    if any(size % 2 == 0 for size in as_stride(config["decoder_kernel_size"], "decoder_kernel_size")):
        raise refuse("decoder_kernel_size", "odd numbers", config["decoder_kernel_size"])
    if whole_number("decode_window", config["decode_window"], 1, MAX_WINDOW) % 2 == 0:
        raise refuse("decode_window", "an odd number, so that it has a middle", config["decode_window"])
    for side in _several("sample_size", config["sample_size"], 2):
        whole_number("sample_size", side, 1, MAX_SIDE)
    down, up = (
        [math.prod(s[axis] for s in config[n]) for axis in (1, 2)] for n in ("encoder_strides", "decoder_strides")
    )
    if down != up:
        raise ValueError(f"decoder_strides: expected to undo the encoder's {down} (height, width), got {up}")
    if down[0] != down[1]:
        raise ValueError(f"encoder_strides: expected one reduction of height and width, got {down[0]} and {down[1]}")
    _check_statistics(config)


def _check_statistics(config: Mapping[str, Any]) -> None:
    for name, above in (("latents_mean", None), ("latents_std", 0)):
        value, channels = config[name], config["latent_channels"]
        if isinstance(value, Sequence) and len(value) != channels:
            raise refuse(name, f"one number or latent_channels={channels} of them", len(value))
        for one in value if isinstance(value, list | tuple) else [value]:
            real_number(name, one, -1e6, 1e6) if above is None else real_number(name, one, above=above, below=1e6)


def _several(name: str, values: Any, number: int) -> Sequence[Any]:
    if not isinstance(values, list | tuple) or len(values) != number:
        raise refuse(name, f"{number} of them in a list", values)
    return values


def check_video_discriminator(config: Mapping[str, Any]) -> None:
    """Check the arguments of `VideoDiscriminator`.

    Args:
        config: Arguments by name.

    Raises:
        ValueError: If one is out of range; the message names it.
    """
    multipliers = config["channel_multipliers"]
    if not isinstance(multipliers, list | tuple) or not multipliers:
        raise refuse("channel_multipliers", "at least one positive number", multipliers)
    for multiplier in multipliers:
        whole_number("channel_multipliers", multiplier, 1, 10_000, hint="of a positive base_channels")
    check_channels(in_channels=config["in_channels"], base_channels=config["base_channels"])
    as_stride(config["stride"])
    real_number("negative_slope", config["negative_slope"], 0, 1)
