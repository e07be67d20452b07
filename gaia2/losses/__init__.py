"""Training losses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.losses.flow_matching import flow_matching_loss as flow_matching_loss
    from gaia2.losses.reconstruction import KLLoss as KLLoss
    from gaia2.losses.reconstruction import PixelLoss as PixelLoss

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "KLLoss": "gaia2.losses.reconstruction",
        "PixelLoss": "gaia2.losses.reconstruction",
        "flow_matching_loss": "gaia2.losses.flow_matching",
    },
)
