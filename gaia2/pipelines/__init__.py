"""From a scene to multi-camera video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.pipelines.output import Gaia2PipelineOutput as Gaia2PipelineOutput
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline as Gaia2Pipeline

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Gaia2Pipeline": "gaia2.pipelines.pipeline_gaia2",
        "Gaia2PipelineOutput": "gaia2.pipelines.output",
    },
)
