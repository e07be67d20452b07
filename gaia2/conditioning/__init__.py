"""What a user says about a scene, and the encoders that turn it into condition tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.conditioning.action import ActionEncoder as ActionEncoder
    from gaia2.conditioning.action import inverse_symlog as inverse_symlog
    from gaia2.conditioning.action import symlog as symlog
    from gaia2.conditioning.agents import AgentEncoder as AgentEncoder
    from gaia2.conditioning.camera import CameraEncoder as CameraEncoder
    from gaia2.conditioning.clip import embed_images as embed_images
    from gaia2.conditioning.clip import embed_prompts as embed_prompts
    from gaia2.conditioning.collate import scene_conditioning as scene_conditioning
    from gaia2.conditioning.dropout import ConditioningDropout as ConditioningDropout
    from gaia2.conditioning.encoder import ConditioningEncoder as ConditioningEncoder
    from gaia2.conditioning.external import ClipEncoder as ClipEncoder
    from gaia2.conditioning.external import ScenarioEncoder as ScenarioEncoder
    from gaia2.conditioning.metadata import MetadataEncoder as MetadataEncoder
    from gaia2.conditioning.projection import project_boxes as project_boxes
    from gaia2.conditioning.rigs import named_rig as named_rig
    from gaia2.conditioning.scene import AGENT_CATEGORIES as AGENT_CATEGORIES
    from gaia2.conditioning.scene import METADATA as METADATA
    from gaia2.conditioning.scene import Agents as Agents
    from gaia2.conditioning.scene import CameraRig as CameraRig
    from gaia2.conditioning.scene import Scene as Scene
    from gaia2.conditioning.timestamp import TimestampEncoder as TimestampEncoder

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AGENT_CATEGORIES": "gaia2.conditioning.scene",
        "ActionEncoder": "gaia2.conditioning.action",
        "AgentEncoder": "gaia2.conditioning.agents",
        "Agents": "gaia2.conditioning.scene",
        "CameraEncoder": "gaia2.conditioning.camera",
        "CameraRig": "gaia2.conditioning.scene",
        "ClipEncoder": "gaia2.conditioning.external",
        "ConditioningDropout": "gaia2.conditioning.dropout",
        "ConditioningEncoder": "gaia2.conditioning.encoder",
        "METADATA": "gaia2.conditioning.scene",
        "MetadataEncoder": "gaia2.conditioning.metadata",
        "ScenarioEncoder": "gaia2.conditioning.external",
        "Scene": "gaia2.conditioning.scene",
        "TimestampEncoder": "gaia2.conditioning.timestamp",
        "embed_images": "gaia2.conditioning.clip",
        "embed_prompts": "gaia2.conditioning.clip",
        "inverse_symlog": "gaia2.conditioning.action",
        "named_rig": "gaia2.conditioning.rigs",
        "project_boxes": "gaia2.conditioning.projection",
        "scene_conditioning": "gaia2.conditioning.collate",
        "symlog": "gaia2.conditioning.action",
    },
)
