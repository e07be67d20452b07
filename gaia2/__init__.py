"""A controllable multi-camera driving world model.

The public names are imported when they are first used: `import gaia2` alone loads neither torch nor diffusers. With
the first of them that needs diffusers, our classes become known to it, and `DiffusionPipeline.from_pretrained` loads
our checkpoints: `from gaia2 import Gaia2Pipeline` beforehand, or `import gaia2` after `import diffusers`.

Example:
    >>> import gaia2
    >>> scene = gaia2.Scene.create(rig="surround", num_frames=24, speed=12.0, weather="rain")
    >>> scene.rig.num_cameras
    5
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaia2._lazy import attach
from gaia2._registration import register_if_loaded

if TYPE_CHECKING:
    from gaia2._registration import register as register
    from gaia2.data.clip import Clip as Clip
    from gaia2.env import Gaia2Env as Gaia2Env
    from gaia2.models import presets as presets
    from gaia2.models.video_discriminator import VideoDiscriminator as VideoDiscriminator
    from gaia2.models.video_tokenizer import VideoTokenizer as VideoTokenizer
    from gaia2.models.world_model import WorldModel as WorldModel
    from gaia2.pipelines.modular import Gaia2Blocks as Gaia2Blocks
    from gaia2.pipelines.modular import Gaia2ModularPipeline as Gaia2ModularPipeline
    from gaia2.pipelines.output import Gaia2PipelineOutput as Gaia2PipelineOutput
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline as Gaia2Pipeline
    from gaia2.pipelines.pipeline_gaia2_edit import Gaia2EditPipeline as Gaia2EditPipeline
    from gaia2.pipelines.pipeline_gaia2_inpaint import Gaia2InpaintPipeline as Gaia2InpaintPipeline
    from gaia2.scene import Agents as Agents
    from gaia2.scene import CameraRig as CameraRig
    from gaia2.scene import Scene as Scene
    from gaia2.schedulers.flow_match import FlowMatchScheduler as FlowMatchScheduler
    from gaia2.zoo import default_model as default_model

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Agents": "gaia2.scene",
        "CameraRig": "gaia2.scene",
        "Clip": "gaia2.data.clip",
        "FlowMatchScheduler": "gaia2.schedulers.flow_match",
        "Gaia2Blocks": "gaia2.pipelines.modular",
        "Gaia2EditPipeline": "gaia2.pipelines.pipeline_gaia2_edit",
        "Gaia2Env": "gaia2.env",
        "Gaia2InpaintPipeline": "gaia2.pipelines.pipeline_gaia2_inpaint",
        "Gaia2ModularPipeline": "gaia2.pipelines.modular",
        "Gaia2Pipeline": "gaia2.pipelines.pipeline_gaia2",
        "Gaia2PipelineOutput": "gaia2.pipelines.output",
        "Scene": "gaia2.scene",
        "VideoDiscriminator": "gaia2.models.video_discriminator",
        "VideoTokenizer": "gaia2.models.video_tokenizer",
        "WorldModel": "gaia2.models.world_model",
        "default_model": "gaia2.zoo",
        "presets": "gaia2.models",
        "register": "gaia2._registration",
    },
    on_use=register_if_loaded,
    # diffusers asks a library for its base classes under these names
    unlisted={"DiffusionPipeline": "diffusers", "ModelMixin": "diffusers", "SchedulerMixin": "diffusers"},
)

register_if_loaded()
