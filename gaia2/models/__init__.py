"""The video tokenizer, its discriminator, the world model, the behaviour encoder and their presets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.models import presets as presets
    from gaia2.models.behaviour_encoder import BehaviourEncoder as BehaviourEncoder
    from gaia2.models.video_decoder import VideoDecoder as VideoDecoder
    from gaia2.models.video_discriminator import VideoDiscriminator as VideoDiscriminator
    from gaia2.models.video_encoder import VideoEncoder as VideoEncoder
    from gaia2.models.video_tokenizer import VideoTokenizer as VideoTokenizer
    from gaia2.models.world_model import WorldModel as WorldModel

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "BehaviourEncoder": "gaia2.models.behaviour_encoder",
        "VideoDecoder": "gaia2.models.video_decoder",
        "VideoDiscriminator": "gaia2.models.video_discriminator",
        "VideoEncoder": "gaia2.models.video_encoder",
        "VideoTokenizer": "gaia2.models.video_tokenizer",
        "WorldModel": "gaia2.models.world_model",
        "presets": "gaia2.models.presets",
    },
)
