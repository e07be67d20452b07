"""Moments of streets that judges learn from, with what can be seen of what the scene says.

A scene may have a crossing that a lorry hides, or a junction too far away to be a pixel: nothing can be learned from
that, and nothing be judged. Visible is what the renderer's masks show enough of.

Axes: m moments, t frames, n cameras, hv wv pixels, y x parts of a picture, x y cells and u v patches of a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from einops import rearrange, reduce, repeat
from tqdm import tqdm

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.data.procedural.road import metadata_ids, plan_roads
from gaia2.data.procedural.trajectory import drive, scene_motion
from gaia2.metrics.detail_judge import DETAILS, THINGS, UNSURE
from gaia2.metrics.ground_judge import lane_evidence
from gaia2.metrics.ground_view import KINDS, PATCH, GroundCameras, ground_kinds
from gaia2.metrics.judge_pictures import RATES, asked_labels, part_classes
from gaia2.metrics.judges import STRIDE
from gaia2.scene import METADATA, Scene

FIRST_SEED = 710_000_000
"""Seeds of these moments begin here; nothing else uses them."""
CAMERAS = 5
LEAST_PIXELS = 24.0
"""Square pixels of a crossing or a junction, in one frame, from which on it counts as visible."""
LEAST_PARTS = 2
"""Parts that lamps or boards fill, in all frames, from which on they count as visible."""
_GROUND = [CLASSES.index(name) for name in ("ground", "road", "lane_mark", "crossing", "bus_lane", "cycle_lane")]
_SHARES = (0.06, 0.3)
_LIGHT_AFTER_CROSSING = 3.2


def visible_labels(scene: Scene, seed: int, parts: torch.Tensor, frames: slice) -> dict[str, bool]:
    """Whether frames show what the scene says, by name of the metadata that small things or the ground tell.

    What a scene does not have (no light, no crossing, no junction) counts as visible. Lanes are visible if their number
    can be measured where nothing stands before the road.

    Args:
        scene: The scene, its rig at the size of the frames.
        seed: Its seed.
        parts: `(t, n, y, x)` classes of the parts of these frames, from the renderer's masks.
        frames: Which of the scene's frames they are.
    """
    kinds = ground_kinds([scene], [seed])[0, frames]
    size = (int(scene.rig.image_size[0][0]), int(scene.rig.image_size[0][1]))
    cameras = GroundCameras(scene.rig, size)
    open_ = open_patches(cameras, parts)
    pixels = cameras.pixels * open_
    amounts = torch.stack([(pixels * (kinds == index)).sum(dim=(1, 2)).amax() for index in range(len(KINDS))])
    lanes = lane_evidence(torch.where(kinds == KINDS.index("lane"), 1.0, -1.0) * open_, cameras.pixels)
    said = scene.metadata
    arms = amounts[KINDS.index("arm left")], amounts[KINDS.index("arm right")]
    # of crossroads the arm that shows less, or they are a t-junction
    crossroads = said.get("intersection") == "crossroads"
    junction = min(arms) if crossroads else amounts[KINDS.index("arm left") :].sum()
    facing = _faces_light([scene], [seed])[0, frames]
    lamps = ((parts == CLASSES.index("lamp")).sum(dim=(1, 2, 3)) * facing).sum()
    boards = (parts == CLASSES.index("sign")).sum() >= LEAST_PARTS
    return {
        "number_of_lanes": METADATA["number_of_lanes"][int(lanes.argmax())] == said.get("number_of_lanes"),
        "pedestrian_crossing": not said.get("pedestrian_crossing")
        or float(amounts[KINDS.index("crossing")]) >= LEAST_PIXELS,
        "intersection": said.get("intersection", "none") == "none" or float(junction) >= LEAST_PIXELS,
        "traffic_light": said.get("traffic_light", "none") == "none" or int(lamps) >= LEAST_PARTS,
        "speed_limit": bool(boards),
        "one_way": bool(boards),
    }


def open_patches(cameras: GroundCameras, parts: torch.Tensor) -> torch.Tensor:
    """Whether most of each patch is seen and nothing stands before it, `(t, u, v)`; parts as in `visible_labels`."""
    ground = torch.isin(parts.long(), torch.tensor(_GROUND)).float()[:, :, None]
    seen = cameras.see(ground)[:, 0]
    return reduce(seen, "t (u p) (v q) -> t u v", "mean", p=PATCH, q=PATCH) > 0.5


def _faces_light(scenes: Sequence[Scene], seeds: Sequence[int]) -> torch.Tensor:
    """Whether the ego has the traffic light before it, `(b, t)`."""
    keys = torch.as_tensor(list(seeds))
    plan = plan_roads(metadata_ids([scene.metadata for scene in scenes], keys), keys)
    way = drive(*scene_motion(scenes, keys.device), plan, keys)
    return way.s.mean(dim=-1) + 1.0 < plan.crossing[:, None] + _LIGHT_AFTER_CROSSING


def part_things(classes: torch.Tensor) -> torch.Tensor:
    """What parts `(..., y, x)` of classes `(..., hv, wv)` show, ids of `THINGS` or `UNSURE`."""
    things = torch.zeros(*classes.shape[:-2], classes.shape[-2] // STRIDE, classes.shape[-1] // STRIDE)
    for index, name in enumerate(THINGS):
        if index:
            share = reduce(
                (classes == CLASSES.index(name)).float(), "... (y p) (x q) -> ... y x", "mean", p=STRIDE, q=STRIDE
            )
            things = torch.where((share > _SHARES[0]) & (share <= _SHARES[1]), float(UNSURE), things)
            things = torch.where(share > _SHARES[1], float(index), things)
    return things.to(torch.uint8)


@dataclass(frozen=True)
class StreetMoments:
    """Moments and what they show.

    Attributes:
        pictures: `(m, n, 3, hv, wv)` uint8.
        things: `(m, n, y, x)` uint8, see `part_things`.
        maps: `(m, 4, x, y)` uint8, from `GroundCameras`.
        kinds: `(m, u, v)` uint8, ids of `KINDS`.
        open: `(m, u, v)` bool, see `open_patches`.
        labels: Metadata ids `(m,)` by name of `DETAILS`; -1 where it cannot be seen.
    """

    pictures: torch.Tensor
    things: torch.Tensor
    maps: torch.Tensor
    kinds: torch.Tensor
    open: torch.Tensor
    labels: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def render(
        cls, num_scenes: int, image_size: tuple[int, int], first_seed: int = FIRST_SEED, *, compile: bool = False
    ) -> StreetMoments:
        """Render two moments of each of so many scenes with random rigs of five cameras."""
        parts = []
        world = ProceduralWorld(
            "random", image_size, num_frames=2, frame_rates=RATES, num_cameras=CAMERAS, compile=compile
        )
        for start in tqdm(range(0, num_scenes, 16), desc="moments for judges", unit="batch", mininterval=10):
            seeds = list(range(first_seed + start, first_seed + min(start + 16, num_scenes)))
            parts.append(cls.of(world, world.sample_scenes(seeds), seeds))
        return cls.joined(parts)

    @classmethod
    def of(cls, world: ProceduralWorld, scenes: Sequence[Scene], seeds: Sequence[int]) -> StreetMoments:
        """All frames of some scenes."""
        frames, masks = world.render_with_masks(scenes, seeds)
        kinds = ground_kinds(scenes, seeds)
        classes = part_classes(masks.classes)
        maps, opens = [], []
        for index, scene in enumerate(scenes):
            cameras = GroundCameras(scene.rig.fit(image_size=world.image_size), world.image_size)
            maps.append((cameras.see(frames[index] / 255) * 255).round().to(torch.uint8))
            opens.append(open_patches(cameras, classes[index]))
        asked = asked_labels(scenes)
        labels = {name: repeat(asked[name], "b -> (b t)", t=frames.shape[1]) for name in DETAILS}
        behind = ~_faces_light(scenes, seeds).flatten() & (labels["traffic_light"] > 0)
        labels["traffic_light"] = torch.where(behind, -1, labels["traffic_light"])
        return cls(
            rearrange(frames, "b t n c h w -> (b t) n c h w"),
            rearrange(part_things(masks.classes), "b t n y x -> (b t) n y x"),
            torch.cat(maps),
            rearrange(kinds, "b t u v -> (b t) u v"),
            torch.cat(opens),
            labels,
        )

    @classmethod
    def joined(cls, parts: Sequence[StreetMoments]) -> StreetMoments:
        """Several as one."""
        tensors = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls) if f.name != "labels"}
        return cls(**tensors, labels={k: torch.cat([p.labels[k] for p in parts]) for k in parts[0].labels})

    @classmethod
    def load_or_render(
        cls, path: Path, num_scenes: int, image_size: tuple[int, int], *, compile: bool = False
    ) -> StreetMoments:
        """Read what an earlier call left, or render and leave it."""
        if not path.is_file():
            drawn = cls.render(num_scenes, image_size, compile=compile)
            save_checkpoint(path, {f.name: getattr(drawn, f.name) for f in fields(cls)})
            return drawn
        return cls(**load_checkpoint(path))
