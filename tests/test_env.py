from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
import pytest
import torch

from gaia2.env import Gaia2Env, move_agents
from gaia2.pipelines.guidance import Guidance
from gaia2.pipelines.rollout import Rollout
from gaia2.pipelines.sampling import Sampling
from gaia2.scene import Scene
from tests.pipelines.helpers import H, Spy, W, pipeline, scene, with_agents


def env(num_frames: int = 40, rig: str = "front", **kwargs: Any) -> Gaia2Env:
    return Gaia2Env(pipeline(), scene(num_frames, rig), **dict(sampling=Sampling(1)) | kwargs)


def test_it_is_an_environment_of_gymnasium() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gymnasium.utils.env_checker import check_env

    made = env(num_frames=24, render_mode="rgb_array")
    assert isinstance(made, gymnasium.Env)
    check_env(made, skip_render_check=True)
    wrapped = gymnasium.wrappers.TimeLimit(made, max_episode_steps=1)
    wrapped.reset(seed=0, options={"scene": scene(24, "front", weather="snow")})
    *_, truncated, info = wrapped.step(np.array([3.0, 0.0], dtype=np.float32))
    assert truncated
    assert info["scene"].metadata["weather"] == "snow"


def test_gymnasium_makes_it_by_its_name() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from gaia2._gym import ENV_ID, register_envs

    register_envs()  # as gymnasium does with the package's entry point
    made = gymnasium.make(ENV_ID, pipe=pipeline(), scene=scene(24, "front"), sampling=Sampling(1))
    assert ENV_ID == "gaia2/Drive-v0"
    assert isinstance(made.unwrapped, Gaia2Env)
    frames, _ = made.reset(seed=0)
    assert made.observation_space.contains(frames)


def test_it_works_without_gymnasium(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gymnasium", None)
    monkeypatch.delitem(sys.modules, "gaia2.env")
    thin = importlib.import_module("gaia2.env")
    assert thin.Env.__module__ == "gaia2.env"
    made = thin.Gaia2Env(pipeline(), scene(24, "front"), sampling=Sampling(1))
    frames, _ = made.reset(seed=3)
    again, _ = made.reset(seed=3)
    other, _ = made.reset()
    np.testing.assert_array_equal(frames, again)
    assert (frames != other).any()
    assert made.observation_space.contains(made.step((5.0, 0.0))[0])
    assert made.observation_space.shape == frames.shape == (8, 1, 32, 64, 3)
    made.close()


def test_a_policy_drives_in_closed_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = env(num_frames=56, rig="surround3")
    spy = Spy(made.pipe, monkeypatch)
    frames, info = made.reset(seed=0)
    shown, actions, truncated = [info["scene"]], [], False
    while not truncated:
        assert frames.shape == (8, 3, 32, 64, 3)
        assert frames.dtype == np.uint8
        brightness = frames[-1, 0].mean() / 255
        actions.append((20 * brightness, 0.05 * (brightness - 0.5)))
        frames, reward, terminated, truncated, info = made.step(actions[-1])
        shown.append(info["scene"])
        assert (reward, terminated) == (0.0, False)
    assert len(actions) == 6
    times = np.concatenate([part.timestamps for part in shown])
    np.testing.assert_allclose(times, scene(56, "surround3").timestamps)
    for part, (speed, curvature) in zip(shown[1:], actions, strict=True):
        np.testing.assert_allclose(part.speed, speed)
        np.testing.assert_allclose(part.curvature, curvature)
    # the network got the actions so far, and clean latents of what was shown before: at most a window together
    assert [len(call["known_mask"][0]) if call["known_mask"] is not None else 1 for call in spy.calls] == [
        1,
        2,
        *[3] * 5,
    ]
    speeds = [8.0, *(speed for speed, _ in actions)]
    for index, given in enumerate(spy.conditioning):
        np.testing.assert_allclose(given["speed"][0], speeds[max(0, index - 2) : index + 1], rtol=1e-6)
        assert given["timestamps"][0, max(0, min(index, 2) - 1), 0].abs() < 1e-6  # the present is the last known latent
    with pytest.raises(ValueError, match="step: expected an episode under way, got none or one that is over"):
        made.step(actions[0])


def test_what_a_policy_does_changes_what_it_sees() -> None:
    seen = []
    for action in ((0.0, 0.0), (25.0, 0.0), (0.0, 0.05)):
        made = env()
        made.reset(seed=1)
        seen.append(made.step(action)[0].astype(int))
    assert np.abs(seen[0] - seen[1]).max() > 0
    assert np.abs(seen[0] - seen[2]).max() > 0


def test_episodes_repeat_with_their_seed_and_differ_without() -> None:
    made = env()

    def episode(**kwargs: Any) -> np.ndarray:
        first, _ = made.reset(**kwargs)
        return np.concatenate([first, made.step((4.0, 0.0))[0]])

    one, other = episode(seed=5), episode()
    np.testing.assert_array_equal(episode(seed=5), one)
    assert (one != other).any()


def test_latents_handed_on_are_those_that_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made = env(latents_per_step=2, num_frames=48)
    spy = Spy(made.pipe, monkeypatch)
    frames, _ = made.reset(seed=0)
    assert frames.shape[0] == 16
    held = made._rollout.latents.clone()
    made.step((1.0, 0.0))
    assert torch.equal(spy.calls[1]["latents"][:, 0], held[:, -1])
    assert spy.calls[1]["latents"].shape == (1, 3, 1, H, W, 4)


def test_an_episode_is_a_rollout_in_which_the_policy_does_as_the_scene_says() -> None:
    sampling = Sampling(2, guidance=Guidance(2.0), num_context_latents=2, context_noise=0.1)
    made = env(sampling=sampling, num_frames=40)
    shown = [made.reset(seed=0)[0], *(made.step((8.0, 0.0))[0] for _ in range(4))]
    given = scene(40, "front", speed=8.0, curvature=0.0)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(0).integers(2**62)))
    rollout = Rollout(made.pipe, made.pipe.validate(given.window(0, 8), sampling, generator=generator))
    rollout.start()
    for index, frames in enumerate(shown):
        rollout.extend(given.window(0, 8 * (index + 1)))
        expected = ((rollout.frames()[0] + 1) / 2 * 255).round().permute(0, 1, 3, 4, 2)
        np.testing.assert_allclose(frames, expected, atol=1)


def test_reward_and_picture() -> None:
    made = env(reward=lambda frames, part: frames.shape[0] + part.speed[0], render_mode="rgb_array")
    made.reset(seed=0)
    frames, reward, *_ = made.step((2.0, 0.0))
    assert reward == 10.0
    picture = made.render()
    assert picture.shape == frames.shape[2:]
    np.testing.assert_array_equal(picture[16:], frames[-1, 0, 16:])  # below the camera's name
    assert env().render() is None


def test_agents_keep_their_places_in_the_world() -> None:
    base = with_agents(scene(16, "front", speed=10.0))
    made = Gaia2Env(pipeline(), base, sampling=Sampling(1))
    _, info = made.reset(seed=0)
    np.testing.assert_allclose(info["scene"].agents.boxes, base.agents.boxes[:8])  # driven as in the scene
    *_, info = made.step((0.0, 0.0))
    stood = base.agents.boxes[8:].copy()
    # own speed 10 m/s throughout; the policy brakes from frame 7 to 8 and stands from then on
    metres = 10 * 0.1 * np.arange(8) + 10 * 0.1 / 2
    stood[..., 0] += metres[:, None]
    np.testing.assert_allclose(info["scene"].agents.boxes, stood, atol=1e-9)


def test_agents_seen_from_a_turned_vehicle() -> None:
    agents = with_agents(scene(8, "front")).agents
    own, driven = np.tile([1.0, 2.0, 0.3], (8, 1)), np.tile([-4.0, 0.5, -0.9], (8, 1))

    def world(boxes: np.ndarray, pose: np.ndarray) -> np.ndarray:
        c, s = np.cos(pose[0, 2]), np.sin(pose[0, 2])
        return boxes[..., :2] @ np.array([[c, s], [-s, c]]) + pose[0, :2]

    moved = move_agents(agents, own, driven)
    np.testing.assert_allclose(world(moved.boxes, driven), world(agents.boxes, own), atol=1e-9)
    np.testing.assert_allclose(moved.boxes[..., 6] - 0.9, agents.boxes[..., 6] + 0.3)
    np.testing.assert_array_equal(moved.boxes[..., 2:6], agents.boxes[..., 2:6])
    np.testing.assert_array_equal(moved.track_id, agents.track_id)


@pytest.mark.parametrize(
    ("action", "match"),
    [
        ((50.0, 0.0), r"action: expected speed in m/s and curvature in 1/m, .* got \[50.0, 0.0\]"),
        ((5.0, 0.5), "action: expected speed"),
        ((float("nan"), 0.0), "action: expected speed"),
        ((5.0,), "action: expected speed"),
    ],
)
def test_bad_actions_are_refused(action: Any, match: str) -> None:
    made = env()
    made.reset(seed=0)
    with pytest.raises(ValueError, match=match):
        made.step(action)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        (dict(latents_per_step=3), "latents_per_step: expected a whole number from 1 to 2, got 3"),
        (
            dict(latents_per_step=2, sampling=Sampling(num_context_latents=2)),
            "num_context_latents: expected at most 1, so that a step of 2 latents goes into one window, got 2",
        ),
        (dict(speed_range=(5.0, 5.0)), "speed_range: expected a rising range"),
        (dict(render_mode="human"), "render_mode: expected one of None, rgb_array, got 'human'"),
    ],
)
def test_bad_environments_are_refused(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        env(**kwargs)


def test_bad_scenes_are_refused() -> None:
    made = env()
    with pytest.raises(ValueError, match="step: expected an episode under way, got none"):
        made.step((1.0, 0.0))
    with pytest.raises(
        ValueError, match="scene: expected the cameras of the environment, front, got front, front_left"
    ):
        made.reset(scene(16, "surround3"))
    with pytest.raises(ValueError, match=r"scene: expected a gaia2.Scene, got str"):
        made.reset("snow")
    with pytest.raises(ValueError, match="scene: expected at least 8 frames, got 4; give a longer one"):
        made.reset(scene(4, "front"))
    with pytest.raises(ValueError, match="scene: expected speed and curvature in every frame beside agents"):
        made.reset(with_agents(scene(16, "front", speed=None)))
    with pytest.raises(ValueError, match=r"scene: expected a gaia2.Scene, got NoneType"):
        Gaia2Env(pipeline(), None)
    assert isinstance(scene(), Scene)
