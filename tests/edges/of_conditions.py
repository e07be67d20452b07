"""Bad arguments for making conditions of scenes, and for their encoders."""

from __future__ import annotations

from typing import Any

import torch

from gaia2.conditioning import project_boxes, scene_conditioning
from gaia2.conditioning.action import inverse_symlog, symlog
from gaia2.scene import Scene
from tests.edges.bad_values import count, either, instance, number, of, tensor
from tests.edges.calls import Target

SCENE = Scene.create("front", num_frames=16)
REAL = of(None, "x", 0.5, [1.0], torch.ones(2).numpy(), torch.ones(2) * 1j)


def boxes() -> dict[str, Any]:
    mount = torch.tensor([[[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]]])
    return dict(
        boxes=torch.tensor([[20.0, 0.0, 1.5, 4.0, 2.0, 1.5, 0.0]]),
        category=torch.tensor([0]),
        intrinsics=torch.tensor([[0.75, 1.5, 0.5, 0.5]]),
        extrinsics=mount,
        near=0.1,
    )


TARGETS = [
    Target(
        "scene_conditioning",
        scene_conditioning,
        lambda: dict(scenes=[SCENE], frames_per_latent=8, max_agents=4, present_frame=0),
        {
            "scenes": either(
                instance(), of([], [1], [SCENE, Scene.create("front", num_frames=8)], [SCENE, Scene.create("van")])
            ),
            "frames_per_latent": either(count(1, 16), of(3, 5)),
            "max_agents": count(0, 10_000),
            "present_frame": count(0, 1),
        },
    ),
    Target(
        "project_boxes",
        project_boxes,
        boxes,
        {
            "boxes": either(REAL, tensor(rank=False, free=(0,))),
            "category": REAL,
            "intrinsics": tensor(rank=False, free=(0,)),
            "extrinsics": tensor(rank=False, free=(0,)),
            "near": number(0, open_low=True),
        },
        {"intrinsics": ("extrinsics",)},
    ),
    Target(
        "symlog",
        symlog,
        lambda: dict(y=torch.ones(2), scale=3.6, max_value=75.0),
        {"y": REAL, "scale": number(0, open_low=True), "max_value": number(0, open_low=True)},
    ),
    Target(
        "inverse_symlog",
        inverse_symlog,
        lambda: dict(z=torch.ones(2), scale=3.6, max_value=75.0),
        {"z": REAL, "scale": number(0, open_low=True), "max_value": number(0, open_low=True)},
    ),
]
