"""Bad arguments for the procedural world, clips, and the motion of logs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch

from gaia2.data.clip import Clip
from gaia2.data.log_files import motion_from_poses
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.random_rigs import random_rig
from gaia2.scene import Scene
from tests.edges.bad_values import array, choice, count, either, flag, image_size, instance, of
from tests.edges.calls import Target

SEEDS = of(None, [], "seeds", 5, [0.5], [None], [[1, 2]], ["a"], {}, [True], torch.zeros(2), [1j], np.array([0.5]))


@cache
def world() -> ProceduralWorld:
    return ProceduralWorld(rig="front", image_size=(8, 16), num_frames=1, rays=1)


@cache
def scene() -> Scene:
    return world().sample_scenes([3])[0]


def poses() -> dict[str, Any]:
    times = np.linspace(0, 2, 9)
    place = np.stack([5 * times, 0 * times, 0 * times], axis=1)
    return dict(times=times, position=place, rotation=np.tile(np.eye(3), (9, 1, 1)), at=np.array([0.5, 1.0]))


def clip() -> dict[str, Any]:
    return dict(scene=Scene.create("front", num_frames=2), frames=np.zeros((2, 1, 3, 448, 960), np.uint8))


TARGETS = [
    Target(
        "ProceduralWorld",
        ProceduralWorld,
        lambda: dict(rig="front", image_size=(8, 16), num_frames=1, frame_rates=(10.0,), rays=1),
        {
            "rig": choice(),
            "image_size": image_size(),
            "num_frames": count(1, 1_000_000),
            "frame_rates": of(
                None, (), 10.0, (0.0,), (-1.0,), ("10",), (float("nan"),), (float("inf"),), "10", (None,), {}
            ),
            "rig_jitter": flag,
            "rays": either(count(1, 1024), of(3, 5)),
            "compile": flag,
            "device": of("foo", 5.5, [], "CPU", {}),
        },
    ),
    Target(
        "ProceduralWorld",
        ProceduralWorld,
        lambda: dict(rig="random", image_size=(8, 16), num_cameras=2),
        {"num_cameras": count(1, 6)},
    ),
    Target(
        "world.sample_scenes", lambda seeds: world().sample_scenes(seeds), lambda: dict(seeds=[1]), {"seeds": SEEDS}
    ),
    Target(
        "world.render",
        lambda **arguments: world().render(**arguments),
        lambda: dict(scenes=[scene()], seeds=[1], cameras=[0]),
        {
            "scenes": of(None, [], "front", [1], {}, 5, [Scene.create("front")] * 2, Scene.create("front")),
            "seeds": either(SEEDS, of([1, 2])),
            "cameras": of("front", 5, [0.5], [1], [-1], [0, 0], [None], {}, [[0]]),
        },
        {"scenes": ("seeds",)},
    ),
    Target(
        "world.render_with_masks",
        lambda **arguments: world().render_with_masks(**arguments),
        lambda: dict(scenes=[scene()], seeds=[1], stride=1),
        {"stride": count(1, 1_000_000)},
    ),
    Target(
        "random_rig",
        random_rig,
        lambda: dict(seed=1, num_cameras=2, image_size=(8, 16)),
        {"num_cameras": count(1, 6), "image_size": image_size(), "seed": of(None, "a", 1.5, -1, [])},
    ),
    Target(
        "motion_from_poses",
        motion_from_poses,
        poses,
        {
            "times": either(array(), of(np.zeros(9), np.arange(9)[::-1])),
            "position": array(),
            "rotation": array(),
            "at": array(free=(0,)),
        },
        {"times": ("position",)},
    ),
    Target(
        "Clip",
        Clip,
        clip,
        {
            "scene": instance(),
            "frames": of(
                None,
                "x",
                [1],
                np.zeros((2, 1, 3, 448, 960)),
                np.zeros((2, 1, 3, 8, 8), np.uint8),
                torch.zeros(2, 1, 3, 448, 960),
                np.zeros((1, 1, 3, 448, 960), np.uint8),
            ),
        },
    ),
]
