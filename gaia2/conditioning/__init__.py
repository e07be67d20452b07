"""The conditions of the world model: what a scene says, as tensors, and the encoders that embed them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach

if TYPE_CHECKING:
    from gaia2.conditioning.action import ActionEncoder as ActionEncoder
    from gaia2.conditioning.action import inverse_symlog as inverse_symlog
    from gaia2.conditioning.action import symlog as symlog
    from gaia2.conditioning.agents import AgentEncoder as AgentEncoder
    from gaia2.conditioning.camera import CameraEncoder as CameraEncoder
    from gaia2.conditioning.clip_embedding import ClipEncoder as ClipEncoder
    from gaia2.conditioning.clip_embedding import embed_images as embed_images
    from gaia2.conditioning.clip_embedding import embed_prompts as embed_prompts
    from gaia2.conditioning.collate import scene_conditioning as scene_conditioning
    from gaia2.conditioning.condition import Condition as Condition
    from gaia2.conditioning.condition import Key as Key
    from gaia2.conditioning.dropout import ConditioningDropout as ConditioningDropout
    from gaia2.conditioning.encoder import ConditioningEncoder as ConditioningEncoder
    from gaia2.conditioning.metadata import MetadataEncoder as MetadataEncoder
    from gaia2.conditioning.projection import project_boxes as project_boxes
    from gaia2.conditioning.registry import register_condition as register_condition
    from gaia2.conditioning.scenario import ScenarioEncoder as ScenarioEncoder
    from gaia2.conditioning.table import ConditionTable as ConditionTable
    from gaia2.conditioning.table import standard_conditions as standard_conditions
    from gaia2.conditioning.timestamp import TimestampEncoder as TimestampEncoder

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "ActionEncoder": "gaia2.conditioning.action",
        "AgentEncoder": "gaia2.conditioning.agents",
        "CameraEncoder": "gaia2.conditioning.camera",
        "ClipEncoder": "gaia2.conditioning.clip_embedding",
        "Condition": "gaia2.conditioning.condition",
        "ConditionTable": "gaia2.conditioning.table",
        "ConditioningDropout": "gaia2.conditioning.dropout",
        "ConditioningEncoder": "gaia2.conditioning.encoder",
        "Key": "gaia2.conditioning.condition",
        "MetadataEncoder": "gaia2.conditioning.metadata",
        "ScenarioEncoder": "gaia2.conditioning.scenario",
        "TimestampEncoder": "gaia2.conditioning.timestamp",
        "embed_images": "gaia2.conditioning.clip_embedding",
        "embed_prompts": "gaia2.conditioning.clip_embedding",
        "inverse_symlog": "gaia2.conditioning.action",
        "project_boxes": "gaia2.conditioning.projection",
        "register_condition": "gaia2.conditioning.registry",
        "scene_conditioning": "gaia2.conditioning.collate",
        "standard_conditions": "gaia2.conditioning.table",
        "symlog": "gaia2.conditioning.action",
    },
)
