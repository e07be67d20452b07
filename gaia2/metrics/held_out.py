"""A fixed list of procedural scenes that no training has seen, to evaluate models on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gaia2.data.procedural import ProceduralWorld
from gaia2.scene import METADATA, Agents, CameraRig, Scene, value_id

FIRST_SEED = 500_000_000
"""Seeds of held-out scenes begin here: training takes those from 1,000,000 to below 100,000,000."""
CONTROLS = (
    *("weather", "time_of_day", "country", "number_of_lanes", "pedestrian_crossing", "bus_lane", "traffic_light"),
    *("agents", "speed", "curvature", "camera pitch"),
)
"""What differs between the two scenes of a pair."""


@dataclass(frozen=True)
class HeldOutScene:
    """A scene to evaluate on.

    Attributes:
        name: Its name, for files.
        group: "random", a rig that was never trained on; "surround", the named rig; "pair", one of a pair.
        seed: Decides what the scene does not say, and the noise that a model begins with.
        scene: The scene, at the size of the frames.
        base: Name of the scene that it differs from in one control; empty if there is none.
        control: That control.
    """

    name: str
    group: str
    seed: int
    scene: Scene
    base: str = ""
    control: str = ""


def held_out_scenes(
    num_random: int, num_surround: int, num_pairs: int, *, image_size: tuple[int, int] = (64, 128), num_frames: int = 24
) -> list[HeldOutScene]:
    """The first so many scenes of each group; more of them begin with the same.

    Args:
        num_random: Scenes with random rigs of five cameras.
        num_surround: Scenes with the named rig "surround", its cameras slightly moved.
        num_pairs: Scenes of the named rig that come once more for each of `CONTROLS`, with that one changed.
        image_size: (height, width) of the frames.
        num_frames: Frames of a scene.

    Example:
        >>> scenes = held_out_scenes(2, 1, 1, num_frames=8)
        >>> [scene.name for scene in scenes[:5]]
        ['random-0000', 'random-0001', 'surround-0000', 'pair-0000', 'pair-0000-weather']
    """
    result = []
    for offset, (group, rig, count) in enumerate(
        (("random", "random", num_random), ("surround", "surround", num_surround), ("pair", "surround", num_pairs))
    ):
        if not count:
            continue
        world = ProceduralWorld(rig, image_size, num_frames=num_frames, num_cameras=5)
        seeds = [FIRST_SEED + 10_000_000 * offset + i for i in range(count)]
        for index, (seed, scene) in enumerate(zip(seeds, world.sample_scenes(seeds), strict=True)):
            name = f"{group}-{index:04d}"
            if group != "pair":
                result.append(HeldOutScene(name, group, seed, scene))
                continue
            if scene.speed.mean() < 4.0:  # a curve, or another speed, can be seen of those that move only
                scene = scene.replace(speed=8.0)
            result.append(HeldOutScene(name, group, seed, scene))
            result += [
                HeldOutScene(f"{name}-{control.replace(' ', '_')}", group, seed, changed(scene, control), name, control)
                for control in CONTROLS
            ]
    return result


def changed(scene: Scene, control: str) -> Scene:
    """The scene with one control changed: another value, no agents, half the speed, a curve, cameras looking down.

    Raises:
        ValueError: If the control is none of `CONTROLS`.
    """
    if control in METADATA:
        values = METADATA[control]
        place = value_id(control, scene.metadata[control], values) if control in scene.metadata else 0
        return scene.replace(**{control: values[(place + max(1, len(values) // 2)) % len(values)]})
    if control == "agents":
        return scene.replace(agents=Agents.empty(scene.num_frames))
    if control == "speed":
        return scene.replace(speed=0.25 * scene.speed)
    if control == "curvature":
        bend = -0.012 if scene.curvature.mean() > 0 else 0.012
        return scene.replace(curvature=np.full(scene.num_frames, bend))
    if control == "camera pitch":
        return scene.replace(rig=_pitched(scene.rig, np.deg2rad(6.0)))
    raise ValueError(f"control: expected one of {', '.join(CONTROLS)}, got {control!r}")


def _pitched(rig: CameraRig, down: float) -> CameraRig:
    """The rig with every camera turned down about its own x axis (rad)."""
    cos, sin = np.cos(down), np.sin(down)
    turn = np.array([[1.0, 0.0, 0.0], [0.0, cos, sin], [0.0, -sin, cos]])
    extrinsics = np.array(rig.extrinsics)
    extrinsics[:, :3, :3] = extrinsics[:, :3, :3] @ turn
    return rig.replace(extrinsics=extrinsics)


def fingerprint(scenes: Sequence[HeldOutScene]) -> str:
    """SHA-256 of the list: names, seeds and all that the scenes say, numbers to six digits."""
    digest = hashlib.sha256()
    for item in scenes:
        said = json.dumps(_rounded(item.scene.to_dict()), sort_keys=True)
        digest.update(f"{item.name} {item.seed} {item.base} {item.control} {said}\n".encode())
    return digest.hexdigest()


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value


def weights_fingerprint(*modules: torch.nn.Module) -> str:
    """SHA-256 of the parameters of models, in the order of their names."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(module.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
