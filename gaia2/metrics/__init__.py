"""How good generated and reconstructed video is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.metrics.agent_overlap import OneFormerSegmenter as OneFormerSegmenter
    from gaia2.metrics.agent_overlap import agent_iou as agent_iou
    from gaia2.metrics.ego_motion import measure_ego_motion as measure_ego_motion
    from gaia2.metrics.frechet import FrechetStatistics as FrechetStatistics
    from gaia2.metrics.frechet import frechet_distance as frechet_distance
    from gaia2.metrics.fvmd import FrechetVideoMotionDistance as FrechetVideoMotionDistance
    from gaia2.metrics.reconstruction import psnr as psnr
    from gaia2.metrics.reconstruction import ssim as ssim
    from gaia2.metrics.sharpness import high_frequency_ratio as high_frequency_ratio
    from gaia2.metrics.sharpness import seam_ratio as seam_ratio

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "FrechetStatistics": "gaia2.metrics.frechet",
        "FrechetVideoMotionDistance": "gaia2.metrics.fvmd",
        "OneFormerSegmenter": "gaia2.metrics.agent_overlap",
        "agent_iou": "gaia2.metrics.agent_overlap",
        "measure_ego_motion": "gaia2.metrics.ego_motion",
        "frechet_distance": "gaia2.metrics.frechet",
        "high_frequency_ratio": "gaia2.metrics.sharpness",
        "psnr": "gaia2.metrics.reconstruction",
        "seam_ratio": "gaia2.metrics.sharpness",
        "ssim": "gaia2.metrics.reconstruction",
    },
)
