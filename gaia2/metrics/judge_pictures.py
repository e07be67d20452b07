"""Pictures that judges learn from: rendered scenes with what each part of a picture shows and what the scene says.

Axes: i pictures, hv wv pixels, y x parts of a picture (4 by 4 pixels).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange, reduce, repeat
from tqdm import tqdm

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2.conditioning.lens import project_points
from gaia2.data.procedural import ProceduralWorld
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judges import STRIDE
from gaia2.scene import DISTORTION_MODELS, METADATA, CameraRig, Scene, value_id

AGENTS = [index for index, name in enumerate(CLASSES) if name.startswith("agent:")]
"""Classes that are agents, in the order of `AGENT_CATEGORIES`."""
FIRST_SEED = 700_000_000
"""Seeds of the judges' scenes begin here; nothing else uses them."""
NUMBERS = {"horizon": (32.0, 10.0), "focal": (80.0, 25.0), "height": (1.8, 0.6)}
"""What judges read off a picture: row of the horizon and focal length (pixels), height of the camera (metres); each
with the mean and spread that it is scaled by."""
RATES = (0.5, 0.7, 1.0, 2.0)
"""Moments of a scene are up to two seconds apart, 1/s."""
_KINDS = ((1, 5), (5, 3))
"""Cameras of a scene, and how many of eight scenes have so many."""


def asked_numbers(rig: CameraRig, size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What a rig says of `NUMBERS`, each `(n,)`; a horizon outside of the picture is NaN."""
    rig = rig.fit(image_size=size)
    pose = torch.tensor(rig.extrinsics)
    level = pose[:, :3, 2] * torch.tensor([1.0, 1.0, 0.0])  # nearest to the optical axis
    model = torch.tensor([DISTORTION_MODELS.index(name) for name in rig.distortion_model])
    ray = torch.einsum("nij,ni->nj", pose[:, :3, :3], level)
    matrix = torch.tensor(rig.intrinsics)
    row = project_points(ray, matrix, torch.tensor(rig.distortion), model)[:, 1]
    row = torch.where((row > 2) & (row < size[0] - 2), row, torch.nan)
    return {"horizon": row.float(), "focal": matrix[:, 0, 0].float(), "height": pose[:, 2, 3].float()}


def asked_labels(scenes: Sequence[Scene]) -> dict[str, torch.Tensor]:
    """Ids `(i,)` of what scenes say of the metadata; -1 where they say nothing."""
    return {
        name: torch.tensor([value_id(name, s.metadata[name], values) if name in s.metadata else -1 for s in scenes])
        for name, values in METADATA.items()
    }


def part_classes(classes: torch.Tensor) -> torch.Tensor:
    """The class that fills most of each 4 by 4 pixels, `(..., y, x)`, of classes `(..., hv, wv)`; agents come first."""
    shares = torch.stack(
        [
            reduce((classes == index).float(), "... (y p) (x q) -> ... y x", "mean", p=STRIDE, q=STRIDE)
            for index in range(len(CLASSES))
        ],
        dim=-1,
    )
    shares[..., AGENTS] *= 2
    return shares.argmax(dim=-1)


@dataclass(frozen=True)
class JudgePictures:
    """Pictures and what they show.

    Attributes:
        pictures: `(i, 3, hv, wv)` uint8.
        classes: `(i, y, x)` uint8, class of each part.
        labels: Metadata ids `(i,)` by name.
        numbers: `(i,)` by name of `NUMBERS`.
    """

    pictures: torch.Tensor
    classes: torch.Tensor
    labels: dict[str, torch.Tensor]
    numbers: dict[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.pictures)

    @classmethod
    def render(
        cls, num_scenes: int, image_size: tuple[int, int], first_seed: int = FIRST_SEED, *, compile: bool = False
    ) -> JudgePictures:
        """Render two moments of each of so many scenes with random rigs, of one and of five cameras."""
        parts = []
        batches = [
            (cameras, first_seed + start, min(16, num_scenes - start))
            for index, start in enumerate(range(0, num_scenes, 16))
            for cameras in [_KINDS[0][0] if index % 8 < _KINDS[0][1] else _KINDS[1][0]]
        ]
        worlds = {
            cameras: ProceduralWorld(
                "random", image_size, num_frames=2, frame_rates=RATES, num_cameras=cameras, compile=compile
            )
            for cameras, _ in _KINDS
        }
        for cameras, seed, count in tqdm(batches, desc="pictures for judges", unit="batch", mininterval=10):
            seeds = list(range(seed, seed + count))
            scenes = worlds[cameras].sample_scenes(seeds)
            frames, masks = worlds[cameras].render_with_masks(scenes, seeds)
            labels = {k: repeat(ids, "b -> (b t n)", t=2, n=cameras) for k, ids in asked_labels(scenes).items()}
            told = [asked_numbers(scene.rig, image_size) for scene in scenes]
            numbers = {k: repeat(torch.stack([x[k] for x in told]), "b n -> (b t n)", t=2) for k in NUMBERS}
            parts.append(
                cls(
                    rearrange(frames, "b t n c h w -> (b t n) c h w"),
                    rearrange(part_classes(masks.classes), "b t n y x -> (b t n) y x").to(torch.uint8),
                    labels,
                    numbers,
                )
            )
        return cls(
            torch.cat([p.pictures for p in parts]),
            torch.cat([p.classes for p in parts]),
            {k: torch.cat([p.labels[k] for p in parts]) for k in METADATA},
            {k: torch.cat([p.numbers[k] for p in parts]) for k in NUMBERS},
        )

    @classmethod
    def load_or_render(
        cls, path: Path, num_scenes: int, image_size: tuple[int, int], *, compile: bool = False
    ) -> JudgePictures:
        """Read what an earlier call left, or render and leave it."""
        if path.is_file():
            state = load_checkpoint(path)
            return cls(state["pictures"], state["classes"], state["labels"], state["numbers"])
        drawn = cls.render(num_scenes, image_size, compile=compile)
        save_checkpoint(
            path,
            dict(pictures=drawn.pictures, classes=drawn.classes, labels=drawn.labels, numbers=drawn.numbers),
        )
        return drawn
