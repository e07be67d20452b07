"""Bad scenes, rigs, agents and scene files."""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from gaia2.scene import (
    Agents,
    CameraRig,
    Scene,
    camera_extrinsics,
    check_metadata,
    ego_poses,
    named_rig,
    pinhole_intrinsics,
)
from tests.edges.bad_values import array, choice, count, either, image_size, instance, number, of
from tests.edges.calls import Target
from tests.edges.clear import Case

BOX = [12.0, -3.5, 0.8, 4.5, 1.9, 1.6, 0.1]
SCENE = Scene.create(
    "surround3",
    num_frames=4,
    weather="fog",
    speed_limit=50,
    prompt="a street",
    agents=Agents([[BOX, BOX]] * 4, [[0, 5]] * 4, [[3, 4]] * 4),
).replace(clip_embedding=[0.5, 0.25], scenario_embedding=[1.0])
FRONT = Scene.create("front", num_frames=8)

speed = either(array(nan=True, optional=True), of(500.0, -1e38, [1e38] * 4, "fast"))
curvature = either(array(nan=True, optional=True), of(3.0, -2.0, 1e38))
prompt = of(5, b"x", ["a", "b"], 1.5, object())
metadata = of(
    0,
    1,
    "rain",
    ["rain"],
    {"wether": "rain"},
    {"weather": "rainy"},
    {5: "rain"},
    {"speed_limit": "50"},
    {"bus_lane": 1},
    {"x_": [1]},
    {"weather": ["rain"]},
    {"one_way": np.zeros(2)},
)
embedding = either(array(free=(0,), optional=True), of([], 1e38, [1e38, 0.0]))
extra = of(0, 5, "lanes", [1], {"lanes": 5}, {"lanes": [1.0]}, {5: ("k", [1.0])}, {"a b": ("k", [1.0])},
           {"lanes": ("k", "x")}, {"lanes": ("k", [np.inf])}, {"lanes": (5, [1.0])},
           {"lanes": ("k c", [1.0])})  # fmt: skip
timestamps = either(
    array(free=(0,)), of([], [0, 0, 1, 2], [3, 2, 1, 0], 1e18 * np.arange(4.0), np.zeros((4, 3)), math.nan)
)
names = of(None, (), [], "", ["a", "a", "b"], ["a", 5, "b"], ["a/b", "c", "d"], [".", "a", "b"], 5, ["a\x00", "b", "c"])
intrinsics = either(
    array(),
    of(
        np.tile([[0.73, 0, 0.5], [0, 1.5, 0.5], [0, 0, 1]], (3, 1, 1)),
        np.zeros((3, 3, 3)),
        np.ones((3, 3, 3)),
        np.tile(np.diag([-5.0, 5, 1]), (3, 1, 1)),
        np.tile(np.diag([1e30, 5, 1]), (3, 1, 1)),
    ),
)
extrinsics = either(
    array(),
    of(
        np.tile(np.eye(4) * 2, (3, 1, 1)),
        np.tile(np.diag([1.0, 1, -1, 1]), (3, 1, 1)),
        np.zeros((3, 4, 4)),
        np.tile(np.eye(4) + np.eye(4, k=3) * 1e6, (3, 1, 1)),
    ),
)
distortion = either(array(optional=True, free=(1,)), of(np.ones((3, 9)), np.full((3, 4), 1e30)))
lens = of(None, "pinhol", 5, [None] * 3, ["pinhole"], ["pinhole", "fisheye", "lens"], {}, [["pinhole"]] * 3)
boxes = either(
    array(nan=True, free=(0, 1)),
    of(np.full((4, 2, 7), -1.0), np.full((4, 2, 7), 1e30), np.full((4, 2, 6), 1.0), np.full((4, 7), 1.0)),
)
category = either(array(whole=True), of(np.full((4, 2), 7), np.full((4, 2), -2), np.full((4, 2), 10**6)))
track_id = either(array(whole=True, optional=True), of(np.zeros((4, 2), int), np.full((4, 2), -5)))


def scene_fields() -> dict[str, Any]:
    return SCENE._values()


def rig_fields() -> dict[str, Any]:
    return SCENE.rig._values()


def agent_fields() -> dict[str, Any]:
    return SCENE.agents._values()


SCENE_KINDS = {
    "rig": instance(),
    "timestamps": timestamps,
    "speed": speed,
    "curvature": curvature,
    "agents": either(instance(optional=True), of(Agents.empty(5))),
    "metadata": metadata,
    "prompt": prompt,
    "clip_embedding": embedding,
    "scenario_embedding": embedding,
    "extra": extra,
}
RIG_KINDS = {
    "names": names,
    "image_size": either(image_size(), array(whole=True)),
    "intrinsics": intrinsics,
    "extrinsics": extrinsics,
    "distortion": distortion,
    "distortion_model": lens,
}
CREATE = {"rig": "front", "num_frames": 4, "frame_rate": 10.0, "speed": 5.0, "curvature": 0.0, "weather": "fog"}
MOTION = {"times": [0.0, 0.1, 0.2], "speed": [1.0, 2.0, 3.0], "curvature": [0.0, 0.0, 0.1]}

TARGETS = [
    Target("Scene", Scene, scene_fields, SCENE_KINDS),
    Target("scene.replace", SCENE.replace, scene_fields, SCENE_KINDS),
    Target(
        "scene.replace",
        SCENE.replace,
        dict,
        {"weather": choice(optional=True), "wether": of("rain"), "speeds": of(5), "one_way": of("yes", 1, [])},
    ),
    Target(
        "Scene.create",
        Scene.create,
        lambda: dict(CREATE),
        {
            "rig": choice(),
            "num_frames": count(),
            "frame_rate": number(0, open_low=True),
            "speed": of("fast", 500.0, [1.0], math.inf, {}, True),
            "curvature": of("left", 3.0, [0.0], -math.inf, {}, False),
            "agents": instance(optional=True),
            "prompt": prompt,
            "num_frame": of(24),
            "weather": choice(optional=True),
            "speed_limit": of(45, "50", True, [], math.nan),
        },
    ),
    Target("scene.window", SCENE.window, lambda: dict(start=1, stop=3), {"start": count(0, 2), "stop": count(2, 4)}),
    Target(
        "scene.resample",
        SCENE.resample,
        lambda: dict(frame_rate=10.0, num_frames=2, start=0.1),
        {"frame_rate": number(0, open_low=True), "num_frames": count(1, optional=True), "start": number(0)},
        {"num_frames": ("resample",), "start": ("resample",)},
    ),
    Target("Agents", Agents, agent_fields, {"boxes": boxes, "category": category, "track_id": track_id}),
    Target("Agents.empty", Agents.empty, lambda: dict(num_frames=3), {"num_frames": count(0)}),
    Target("agents.take", SCENE.agents.take, lambda: dict(frames=[0, 1]), {"frames": array(whole=True, free=(0,))}),
    Target("agents.take", SCENE.agents.take, lambda: dict(frames=[0, 1]), {"frames": of([4], [-1], 3, [[0]])}),
    Target("CameraRig", CameraRig, rig_fields, RIG_KINDS),
    Target("rig.replace", SCENE.rig.replace, rig_fields, RIG_KINDS),
    Target(
        "rig.select",
        SCENE.rig.select,
        lambda: dict(names=["front"]),
        {"names": of(None, "rear", ["front", "x"], 5, [])},
    ),
    Target("rig.fit", SCENE.rig.fit, lambda: dict(image_size=(64, 128)), {"image_size": image_size()}),
    Target("rig.crop_box", SCENE.rig.crop_box, lambda: dict(image_size=(64, 128)), {"image_size": image_size()}),
    Target(
        "named_rig",
        named_rig,
        lambda: dict(name="van", image_size=(64, 128)),
        {"name": choice(), "image_size": image_size(optional=True)},
        {"name": ("rig",)},
    ),
    Target(
        "pinhole_intrinsics",
        pinhole_intrinsics,
        lambda: dict(hfov=90.0, image_size=(64, 128)),
        {"hfov": number(0, 180, open_low=True), "image_size": image_size()},
    ),
    Target(
        "camera_extrinsics",
        camera_extrinsics,
        lambda: dict(position=[1.0, 0.0, 1.5], yaw=90.0, pitch_down=0.0),
        {"position": array(), "yaw": number(), "pitch_down": number()},
    ),
    Target("ego_poses", ego_poses, lambda: dict(MOTION), dict.fromkeys(MOTION, array())),
    Target(
        "check_metadata", check_metadata, lambda: dict(entries={}), {"entries": metadata}, {"entries": ("metadata",)}
    ),
]


def broken_file(rng: random.Random) -> Case:
    """A scene file in which one thing is wrong."""
    data = json.loads(SCENE.to_json())
    place: Any = data
    path = []
    while isinstance(place, dict) and (not path or rng.random() < 0.7):
        key = rng.choice(sorted(place))
        path.append(key)
        holder, place = place, place[key]
    words: tuple[str, ...] = tuple(path)
    how = rng.choice(["value", "value", "missing", "unknown", "twice", "text", "bytes"])
    if how == "missing" and (key not in REQUIRED or holder is data["metadata"]):
        how = "value"
    text = None
    if how == "missing":
        del holder[key]
    elif how == "unknown":
        holder[key + "s"] = holder.pop(key) if key not in REQUIRED else holder[key]
        words = (key + "s",)
    elif how == "value":
        holder[key] = rng.choice([value for value in JSON_VALUES if not _may_be(key, value)])
    elif how == "twice":
        text = json.dumps(data).replace(f'"{key}":', f'"{key}": null, "{key}":', 1)
    elif how == "text":
        whole = json.dumps(data)
        text = rng.choice(
            ["", "[]", "5", "null", whole[: rng.randrange(1, len(whole))], whole + "x", '{"version": NaN}']
        )
        words = ("scene",)
    raw = (json.dumps(data) if text is None else text).encode()
    if how == "bytes":
        raw = rng.choice([b"\xff\xfe", b"\x80" * 5, json.dumps(data).encode("utf-16")])
        words = ("scene",)

    def load() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "input.json"
            path.write_bytes(raw)
            Scene.load(path)

    return Case(f"Scene.load(file with {how} of {'.'.join(path)}: {raw[-60:]!r})", load, words)


REQUIRED = ("version", "rig", "timestamps", "names", "image_size", "intrinsics", "extrinsics", "boxes", "category")
JSON_VALUES: list[Any] = [None, "x!", True, [True], [[["a"]]], {"a": 1}, -7.5, 10**400, [[1, 2], [3]], [{}], [[]]]


def _may_be(key: str, value: Any) -> bool:
    """Whether one of `JSON_VALUES` is good for a key, or wrong only beside the other keys."""
    fine: dict[str, list[Any]] = {"prompt": ["x!"], "names": ["x!"], "speed": [-7.5], "boxes": [[[]]]}
    return (value is None and key not in REQUIRED) or any(value is v or value == v for v in fine.get(key, []))


MAKERS = {"scene_file": broken_file}
