"""What a user says about a drive: scenes, camera rigs, agents, metadata and the ego's path. Needs numpy only."""

from __future__ import annotations

from gaia2.scene.agents import AGENT_CATEGORIES, BOX_FIELDS, Agents
from gaia2.scene.camera_rig import CameraRig
from gaia2.scene.ego_path import ego_poses
from gaia2.scene.extra import AxisArray
from gaia2.scene.named_rigs import RIG_NAMES, camera_extrinsics, named_rig, pinhole_intrinsics
from gaia2.scene.rig_fields import DISTORTION_MODELS
from gaia2.scene.scene import SCENE_VERSION, Scene
from gaia2.scene.vocabulary import METADATA, check_metadata, value_id

__all__ = [
    "AGENT_CATEGORIES",
    "BOX_FIELDS",
    "DISTORTION_MODELS",
    "METADATA",
    "RIG_NAMES",
    "SCENE_VERSION",
    "Agents",
    "AxisArray",
    "CameraRig",
    "Scene",
    "camera_extrinsics",
    "check_metadata",
    "ego_poses",
    "named_rig",
    "pinhole_intrinsics",
    "value_id",
]
