"""Named sizes of the models: `mini` ships with the package, `paper` is GAIA-2 as published.

A preset holds keyword arguments, not models, so that it can be changed before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Keyword arguments of one size.

    Attributes:
        tokenizer: For `VideoTokenizer`.
        world_model: For `WorldModel`.
        image_size: Pixels `(height, width)` of a frame that it is trained on.
        num_frames: Video frames of one window of the world model.
    """

    tokenizer: dict[str, Any]
    world_model: dict[str, Any]
    image_size: tuple[int, int]
    num_frames: int


def paper() -> Preset:
    """The sizes of the paper: encoder 85M, decoder 200M, world model 8.4B (§2.1, §2.2.1).

    Example:
        >>> paper().world_model["dim"], paper().world_model["num_blocks"]
        (4096, 22)
    """
    return Preset(
        tokenizer=dict(
            latent_channels=64,
            dim=512,
            num_heads=16,
            encoder_blocks=24,
            decoder_blocks=(16, 8),
            latents_mean=0.0,
            latents_std=0.32,
        ),
        world_model=dict(latent_channels=64, dim=4096, num_heads=32, num_blocks=22),
        image_size=(448, 960),
        num_frames=48,
    )


def mini() -> Preset:
    """The sizes of the default model: 64x128 pixels and 24 frames, for a laptop's CPU.

    The paper's blocks in the paper's order; cells of 16 pixels with 64 channels make it a 96-fold compression. Unlike
    the paper's, its cells are told where they look and which agents they hold.

    Example:
        >>> mini().image_size, mini().num_frames
        ((64, 128), 24)
    """
    return Preset(
        tokenizer=dict(
            latent_channels=64,
            dim=160,
            num_heads=5,
            encoder_blocks=4,
            decoder_blocks=(6, 0),
            encoder_strides=((2, 4, 4), (2, 2, 2), (1, 2, 2)),
            decoder_strides=((2, 2, 2), (1, 2, 2), (4, 4, 4)),
            decoder_kernel_size=(1, 3, 3),
            sample_size=(64, 128),
        ),
        world_model=dict(
            latent_channels=64,
            dim=224,
            num_heads=7,
            num_blocks=6,
            window_latents=3,
            ray_map=True,
            agent_map=True,
            ground_map=True,
        ),
        image_size=(64, 128),
        num_frames=24,
    )
