"""The world model as an environment: a policy decides speed and curvature from generated frames, in closed loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gaia2._checks import one_of, real_number, refuse, whole_number
from gaia2._gym import register_envs
from gaia2.pipelines.output import to_output
from gaia2.pipelines.pipeline_gaia2 import Gaia2Pipeline
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.scene import Agents, Scene, ego_poses
from gaia2.scene.validation import as_floats
from gaia2.video.pixels import unit_to_uint8

try:
    from gymnasium import Env
    from gymnasium.spaces import Box
except ImportError:  # the extra gaia2[gym] is not installed: the same methods on a thin base

    class Env:  # type: ignore[no-redef]
        """The part of `gymnasium.Env` that `Gaia2Env` needs."""

        def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
            """Seed the random numbers, as gymnasium does."""
            if seed is not None or not hasattr(self, "np_random"):
                self.np_random = np.random.default_rng(seed)

        def close(self) -> None:
            """Nothing is open."""

    @dataclass(frozen=True)
    class Box:  # type: ignore[no-redef]
        """Bounds of an array: the part of `gymnasium.spaces.Box` that `Gaia2Env` needs."""

        low: Any
        high: Any
        shape: tuple[int, ...] | None = None
        dtype: Any = np.float32

        def contains(self, x: Any) -> bool:
            """Whether an array lies within the bounds."""
            return bool(((np.asarray(x) >= self.low) & (np.asarray(x) <= self.high)).all())


else:
    register_envs()

Reward = Callable[[np.ndarray, Scene], float]


class Gaia2Env(Env):
    """Closed-loop driving in generated video (paper §5, autoregressive prediction).

    The scene says who looks, when, and what the world is like; its own speed and curvature hold for the first frames
    only, then the policy's. Where the policy leaves the scene's own path, the scene's agents keep their places in the
    world: their boxes are moved to the new ego frame. Extra data of the scene stay as they are. An episode ends
    (`truncated`) with the scene's timestamps.

    It is a `gymnasium.Env` where gymnasium is installed (`pip install "gaia2[gym]"`), and has the same methods where
    it is not. `gymnasium.make("gaia2/Drive-v0")` makes one of the default model; `pipe=`, `scene=` and what follows are
    taken there, too.

    Args:
        pipe: Generates the frames.
        scene: What `reset` begins with if it is given none; its rig also sets the observation's shape.
        latents_per_step: Latents that one step makes, `frames_per_latent` frames each; fewer than the window.
        sampling: How to sample; `Sampling()` by default, guided as the checkpoint says. A step is given as many
            latents as go with it into one window.
        speed_range: Lowest and highest speed of an action in m/s.
        max_curvature: Sharpest curvature of an action in 1/m.
        reward: Of frames uint8 `(tv, n, hv, wv, 3)` and their scene; 0 without one.
        render_mode: "rgb_array" lets `render` give the last frame of all cameras.

    Attributes:
        observation_space: uint8 frames `(tv, n, hv, wv, 3)` of one step.
        action_space: Speed in m/s and curvature in 1/m, positive to the left.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> import gaia2
        >>> pipe = gaia2.Gaia2Pipeline.from_pretrained(gaia2.default_model())
        >>> env = Gaia2Env(pipe, gaia2.Scene.create("front", num_frames=24), sampling=Sampling(num_inference_steps=1))
        >>> frames, info = env.reset(seed=0)
        >>> frames, reward, terminated, truncated, info = env.step((8.0, 0.01))
        >>> frames.shape, truncated, info["scene"].speed[0].item()
        ((8, 1, 64, 128, 3), False, 8.0)
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        pipe: Gaia2Pipeline,
        scene: Scene,
        *,
        latents_per_step: int = 1,
        sampling: Sampling | None = None,
        speed_range: tuple[float, float] = (0.0, 40.0),
        max_curvature: float = 0.1,
        reward: Reward | None = None,
        render_mode: str | None = None,
    ) -> None:
        window = pipe.transformer.config.window_latents
        whole_number("latents_per_step", latents_per_step, 1, window - 1)
        if not isinstance(speed_range, tuple | list) or len(speed_range) != 2:
            raise refuse("speed_range", "the lowest and the highest speed in m/s", speed_range)
        slowest, fastest = (real_number("speed_range", speed, -150, 150, what="m/s") for speed in speed_range)
        if not slowest < fastest:
            raise refuse("speed_range", "a rising range", speed_range)
        real_number("max_curvature", max_curvature, high=1, above=0, what="1/m")
        one_of("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        if sampling is not None and not isinstance(sampling, Sampling):
            raise refuse("sampling", "a Sampling", sampling)
        if reward is not None and not callable(reward):
            raise refuse("reward", "a function of frames and scene", reward)
        self.pipe = pipe
        self.render_mode = render_mode
        self._scene = self._checked(scene)
        self._step_frames = latents_per_step * pipe.vae.frames_per_latent
        room = window - latents_per_step
        self._sampling = sampling or Sampling()
        if self._sampling.num_context_latents is None:
            self._sampling = replace(self._sampling, num_context_latents=room)
        if self._sampling.overlap(window) > room:
            raise ValueError(
                f"num_context_latents: expected at most {room}, so that a step of {latents_per_step} latents goes into "
                f"one window, got {self._sampling.num_context_latents}"
            )
        self._reward = reward
        height, width = pipe.vae.config.sample_size
        shape = (self._step_frames, scene.rig.num_cameras, height, width, 3)
        self.observation_space = Box(0, 255, shape, np.uint8)
        bounds = np.array([speed_range, (-max_curvature, max_curvature)], dtype=np.float32).T
        self._low, self._high = bounds
        self.action_space = Box(self._low, self._high, (2,), np.float32)
        self._done = 0

    def reset(  # type: ignore[override]
        self, scene: Scene | None = None, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: its first frames are generated from noise, with the scene's own speed and curvature.

        Args:
            scene: With the rig of the environment's scene; that scene if None. Gymnasium's wrappers hand it on as
                `options={"scene": scene}`.
            seed: Of all random numbers of the episode; None goes on with those of before.
            options: May hold "scene".

        Returns:
            Frames uint8 `(tv, n, hv, wv, 3)` of one step, and a dict whose "scene" is that of these frames.

        Raises:
            ValueError: If the scene has another rig, is too short, or has agents but no ego motion of its own.
        """
        super().reset(seed=seed)
        given = scene if scene is not None else (options or {}).get("scene")
        if given is not None:
            self._scene = self._checked(given)
        self._generator = torch.Generator().manual_seed(int(self.np_random.integers(2**62)))
        self._speed, self._curvature = self._scene.speed.copy(), self._scene.curvature.copy()
        self._rollout: Rollout | None = None
        self._done = 0
        return self._generate()

    def step(self, action: npt.ArrayLike) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:  # type: ignore[override]
        """Drive on: the next frames, with the policy's action.

        Args:
            action: Speed in m/s and curvature in 1/m, `(2,)`, that hold for all frames of the step.

        Returns:
            Frames uint8 `(tv, n, hv, wv, 3)`, reward, False, whether the scene is over, and a dict whose "scene" is
            that of the frames, with the action in place.

        Raises:
            ValueError: If the action is out of range, or the episode has not begun or is over.
        """
        values = as_floats("action", action, allow_nan=True)  # which are out of every range
        if values.shape != (2,) or not ((values >= self._low) & (values <= self._high)).all():
            raise ValueError(
                f"action: expected speed in m/s and curvature in 1/m, (2,) from {self._low.tolist()} to "
                f"{self._high.tolist()}, got {values.tolist()}"
            )
        if not self._done or self._over:
            raise ValueError("step: expected an episode under way, got none or one that is over; call reset")
        new = slice(self._done, self._done + self._step_frames)
        self._speed[new], self._curvature[new] = values
        frames, info = self._generate()
        reward = 0.0 if self._reward is None else float(self._reward(frames, info["scene"]))
        return frames, reward, False, self._over, info

    def render(self) -> np.ndarray | None:  # type: ignore[override]
        """The last frame of all cameras in one picture, uint8 `(height, width, 3)`; None without a render mode."""
        if self.render_mode is None:
            return None
        from gaia2.viz.mosaic import mosaic

        return mosaic(self._frames[-1:], self._scene.rig.names)[0]

    @property
    def _over(self) -> bool:
        return self._done + self._step_frames > self._scene.num_frames

    def _checked(self, scene: Scene) -> Scene:
        if not isinstance(scene, Scene):
            raise ValueError(f"scene: expected a gaia2.Scene, got {type(scene).__name__}; make one: Scene.create()")
        own = getattr(self, "_scene", scene)
        if scene.rig.names != own.rig.names:
            raise ValueError(
                f"scene: expected the cameras of the environment, {', '.join(own.rig.names)}, got "
                f"{', '.join(scene.rig.names)}; make another environment"
            )
        motion = np.stack([scene.speed, scene.curvature])
        if scene.agents.most_at_once and np.isnan(motion).any():
            raise ValueError(
                "scene: expected speed and curvature in every frame beside agents, whose places in the world follow "
                "from them, got absent ones; fill them in, or leave the agents out"
            )
        return self.pipe.embed_prompts([scene])[0]  # once, not at every step

    @torch.no_grad()
    def _generate(self) -> tuple[np.ndarray, dict[str, Any]]:
        """Make the next frames from the latents that are there and the actions so far."""
        start, stop = self._done, self._done + self._step_frames
        if stop > self._scene.num_frames:
            raise ValueError(
                f"scene: expected at least {self._step_frames} frames, got {self._scene.num_frames}; give a longer one"
            )
        scene = self._driven(stop)
        if self._rollout is None:
            self._rollout = Rollout(self.pipe, self.pipe.validate(scene, self._sampling, generator=self._generator))
            self._rollout.start()
            self._rollout.extend()
        else:
            self._rollout.extend(scene)
        self._done = stop
        self._frames = unit_to_uint8(np.asarray(to_output(self._rollout.frames(), "np")[0]))
        return self._frames, {"scene": self._rollout.job.scenes[0].window(start, stop)}

    def _driven(self, stop: int) -> Scene:
        """The scene up to a frame as it was driven, its agents where they are in the world."""
        scene = self._scene.window(0, stop)
        speed, curvature = self._speed[:stop], self._curvature[:stop]
        agents = scene.agents
        if agents.most_at_once:
            own = ego_poses(scene.frame_times, scene.speed, scene.curvature)
            agents = move_agents(agents, own, ego_poses(scene.frame_times, speed, curvature))
        return scene.replace(speed=speed, curvature=curvature, agents=agents)


def move_agents(agents: Agents, own: Sequence[Any] | np.ndarray, driven: Sequence[Any] | np.ndarray) -> Agents:
    """Agents in the frame of an ego vehicle that is elsewhere, at the same places in the world.

    Args:
        agents: In the ego frames of `own`.
        own: `(tv, 3)` x, y (metres) and yaw (radians) of the ego vehicle that saw them.
        driven: `(tv, 3)` of the one whose frame is wanted.

    Example:
        >>> car = Agents([[[20.0, 0.0, 1.0, 4.0, 2.0, 1.5, 0.0]]], [[0]])
        >>> move_agents(car, [[5.0, 0.0, 0.0]], [[0.0, 0.0, 0.0]]).boxes[0, 0, :2].tolist()
        [25.0, 0.0]
    """
    (x0, y0, yaw0), (x1, y1, yaw1) = (np.asarray(pose, dtype=np.float64).T[..., None] for pose in (own, driven))
    boxes = agents.boxes.copy()
    x = np.cos(yaw0) * boxes[..., 0] - np.sin(yaw0) * boxes[..., 1] + x0 - x1
    y = np.sin(yaw0) * boxes[..., 0] + np.cos(yaw0) * boxes[..., 1] + y0 - y1
    boxes[..., 0] = np.cos(yaw1) * x + np.sin(yaw1) * y
    boxes[..., 1] = np.cos(yaw1) * y - np.sin(yaw1) * x
    boxes[..., 6] += yaw0 - yaw1
    return Agents(boxes, agents.category, agents.track_id)
