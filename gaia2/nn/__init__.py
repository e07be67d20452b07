"""Building blocks on plain tensors: they know nothing of driving and each works alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.nn.attention import Attention as Attention
    from gaia2.nn.blocks import SpaceTimeBlock as SpaceTimeBlock
    from gaia2.nn.blocks import SpatialBlock as SpatialBlock
    from gaia2.nn.blocks import TemporalBlock as TemporalBlock
    from gaia2.nn.blocks import WorldModelBlock as WorldModelBlock
    from gaia2.nn.conv import BlurPool3d as BlurPool3d
    from gaia2.nn.conv import DepthToSpaceUpsample as DepthToSpaceUpsample
    from gaia2.nn.conv import DownsampleConv as DownsampleConv
    from gaia2.nn.discriminator_blocks import ResidualDiscriminatorBlock as ResidualDiscriminatorBlock
    from gaia2.nn.discriminator_blocks import spectral_conv3d as spectral_conv3d
    from gaia2.nn.embeddings import FourierFeatures as FourierFeatures
    from gaia2.nn.embeddings import TimestepEmbedder as TimestepEmbedder
    from gaia2.nn.embeddings import sinusoidal_embedding as sinusoidal_embedding
    from gaia2.nn.embeddings import spatial_position_embedding as spatial_position_embedding
    from gaia2.nn.mlp import MLP as MLP
    from gaia2.nn.norm import AdaptiveLayerNorm as AdaptiveLayerNorm
    from gaia2.nn.norm import RMSNorm as RMSNorm

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AdaptiveLayerNorm": "gaia2.nn.norm",
        "Attention": "gaia2.nn.attention",
        "BlurPool3d": "gaia2.nn.conv",
        "DepthToSpaceUpsample": "gaia2.nn.conv",
        "DownsampleConv": "gaia2.nn.conv",
        "MLP": "gaia2.nn.mlp",
        "FourierFeatures": "gaia2.nn.embeddings",
        "RMSNorm": "gaia2.nn.norm",
        "ResidualDiscriminatorBlock": "gaia2.nn.discriminator_blocks",
        "TimestepEmbedder": "gaia2.nn.embeddings",
        "SpaceTimeBlock": "gaia2.nn.blocks",
        "SpatialBlock": "gaia2.nn.blocks",
        "TemporalBlock": "gaia2.nn.blocks",
        "WorldModelBlock": "gaia2.nn.blocks",
        "sinusoidal_embedding": "gaia2.nn.embeddings",
        "spatial_position_embedding": "gaia2.nn.embeddings",
        "spectral_conv3d": "gaia2.nn.discriminator_blocks",
    },
)
