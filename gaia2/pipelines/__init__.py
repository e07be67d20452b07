"""From a scene to multi-camera video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.pipelines.guidance import Guidance as Guidance
    from gaia2.pipelines.labels import agent_tubes as agent_tubes
    from gaia2.pipelines.labels import project_agents as project_agents
    from gaia2.pipelines.output import Gaia2PipelineOutput as Gaia2PipelineOutput
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline as Gaia2Pipeline
    from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline as Gaia2EditPipeline
    from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline as Gaia2InpaintPipeline
    from gaia2.pipelines.rollout import Rollout as Rollout
    from gaia2.pipelines.sampling import Sampling as Sampling

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Gaia2EditPipeline": "gaia2.pipelines.pipeline_gaia2_edit",
        "Gaia2InpaintPipeline": "gaia2.pipelines.pipeline_gaia2_inpaint",
        "Gaia2Pipeline": "gaia2.pipelines.pipeline_gaia2",
        "Gaia2PipelineOutput": "gaia2.pipelines.output",
        "Guidance": "gaia2.pipelines.guidance",
        "Rollout": "gaia2.pipelines.rollout",
        "Sampling": "gaia2.pipelines.sampling",
        "agent_tubes": "gaia2.pipelines.labels",
        "project_agents": "gaia2.pipelines.labels",
    },
)
