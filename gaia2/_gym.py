"""What gymnasium finds when it looks for environments: `gymnasium.make("gaia2/Drive-v0")`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gaia2.env import Gaia2Env
    from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
    from gaia2.scene import Scene

ENV_ID = "gaia2/Drive-v0"


def register_envs() -> None:
    """Tell gymnasium of the environments; done once, whoever asks.

    Example:
        >>> register_envs()
        >>> import gymnasium
        >>> ENV_ID in gymnasium.registry
        True
    """
    from gymnasium.envs.registration import register, registry

    if ENV_ID not in registry:
        register(id=ENV_ID, entry_point="gaia2._gym:make_env", disable_env_checker=True)


def make_env(pipe: Gaia2Pipeline | None = None, scene: Scene | None = None, **options: Any) -> Gaia2Env:
    """A `Gaia2Env`, of the default model and a plain drive unless others are given.

    Args:
        pipe: Generates the frames; the default model, on the CPU, by default.
        scene: What `reset` begins with; ten seconds of the rig "surround" by default.
        **options: Of `Gaia2Env`.
    """
    import gaia2

    if pipe is None:
        pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
    if scene is None:
        scene = gaia2.Scene.create("surround", num_frames=96, speed=8.0)
    return gaia2.Gaia2Env(pipe, scene, **options)
