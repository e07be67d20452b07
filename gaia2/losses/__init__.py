"""Training losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.losses.adversarial import AdversarialLoss as AdversarialLoss
    from gaia2.losses.distillation import DINODistillationLoss as DINODistillationLoss
    from gaia2.losses.features import LayerFeatures as LayerFeatures
    from gaia2.losses.features import efficientnet_lite0 as efficientnet_lite0
    from gaia2.losses.flow_matching import flow_matching_loss as flow_matching_loss
    from gaia2.losses.perceptual import LPIPSLoss as LPIPSLoss
    from gaia2.losses.perceptual import PerceptualLoss as PerceptualLoss
    from gaia2.losses.reconstruction import KLLoss as KLLoss
    from gaia2.losses.reconstruction import PixelLoss as PixelLoss
    from gaia2.losses.reconstruction import SeamLoss as SeamLoss

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AdversarialLoss": "gaia2.losses.adversarial",
        "DINODistillationLoss": "gaia2.losses.distillation",
        "KLLoss": "gaia2.losses.reconstruction",
        "LPIPSLoss": "gaia2.losses.perceptual",
        "LayerFeatures": "gaia2.losses.features",
        "PerceptualLoss": "gaia2.losses.perceptual",
        "PixelLoss": "gaia2.losses.reconstruction",
        "SeamLoss": "gaia2.losses.reconstruction",
        "efficientnet_lite0": "gaia2.losses.features",
        "flow_matching_loss": "gaia2.losses.flow_matching",
    },
)
