"""Draw the boxes of one nuScenes and one Waymo sample where our projection puts them.

    python docs/draw_sample_overlays.py --data ../shared/data --out /tmp/overlays

The folder of `--out` gets pictures with the footage, which its licences keep out of this repository; `docs/images` gets
the boxes alone. White boxes are Waymo's own 2D labels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from gaia2.conditioning.projection import project_into
from gaia2.scene import AGENT_CATEGORIES, CameraRig
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX
from gaia2.viz.mosaic import mosaic
from gaia2.viz.overlay import draw_boxes

IMAGES = Path(__file__).parent / "images"
TILE_WIDTH = 640
NUSCENES = dict(
    car="car",
    truck="truck",
    trailer="truck",
    bus="bus",
    construction_vehicle="other",
    bicycle="bicycle",
    motorcycle="motorcycle",
    pedestrian="pedestrian",
    traffic_cone="other",
    barrier="other",
    unknown="other",
)
WAYMO = dict(vehicle="car", pedestrian="pedestrian", cyclist="bicycle")
OPENCV_IN_WAYMO_CAMERA = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Waymo's camera frame is x forward, y left, z up; ours x right, y down, z forward."""


@dataclass(frozen=True)
class Sample:
    """One moment.

    Attributes:
        rig: The cameras.
        images: The picture of each.
        boxes: `(m, 7)` in the ego frame.
        category: `(m,)`.
        labels: For each camera the dataset's own 2D boxes `(k, 4)`, x1 y1 x2 y2 as fractions of the image, and their
            categories `(k,)`.
    """

    rig: CameraRig
    images: list[Path]
    boxes: np.ndarray
    category: np.ndarray
    labels: list[tuple[np.ndarray, np.ndarray]]


def read_nuscenes(folder: Path) -> Sample:
    """Read a nuScenes sample; its boxes are in the lidar's frame."""
    data = json.loads((folder / "sample.json").read_text())
    cameras, names = data["images"], {index: name for name, index in data["categories"].items()}
    paths = [folder / camera["file"] for camera in cameras.values()]
    rig = CameraRig(
        names=tuple(cameras),
        image_size=[Image.open(path).size[::-1] for path in paths],
        intrinsics=[camera["cam2img"] for camera in cameras.values()],
        extrinsics=[camera["cam2ego"] for camera in cameras.values()],
    )
    lidar = np.array(data["lidar2ego"])
    boxes = [
        [*(lidar @ [*box["center_lidar"], 1.0])[:3], *box["size_lwh"], turned(lidar, box["yaw_lidar"])]
        for box in data["instances"]
    ]
    kinds = [AGENT_CATEGORIES.index(NUSCENES[names.get(box["category"], "unknown")]) for box in data["instances"]]
    return Sample(rig, paths, np.array(boxes), np.array(kinds), [])


def turned(pose: np.ndarray, yaw: float) -> float:
    """The yaw, in the frame that `pose` leads to, of a heading in the frame it comes from."""
    x, y, _ = pose[:3, :3] @ [np.cos(yaw), np.sin(yaw), 0.0]
    return float(np.arctan2(y, x))


def read_waymo(folder: Path) -> Sample:
    """Read a Waymo sample; signs are left out."""
    data = json.loads((folder / "sample.json").read_text())
    cameras, names = data["cameras"], {int(index): name for index, name in data["types"].items()}

    def kind(box: dict[str, Any]) -> int:
        return AGENT_CATEGORIES.index(WAYMO[names[box["type"]]]) if names[box["type"]] in WAYMO else -1

    lenses = np.array([camera["intrinsic"] for camera in cameras.values()])
    fx, fy, cx, cy, k1, k2, p1, p2, k3 = lenses.T
    zero, one = np.zeros_like(fx), np.ones_like(fx)
    rig = CameraRig(
        names=tuple(cameras),
        image_size=[(camera["height"], camera["width"]) for camera in cameras.values()],
        intrinsics=np.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], axis=1).reshape(-1, 3, 3),
        extrinsics=[np.reshape(camera["extrinsic"], (4, 4)) @ OPENCV_IN_WAYMO_CAMERA for camera in cameras.values()],
        distortion=np.stack([k1, k2, p1, p2, k3, zero, zero, zero], axis=1),
    )
    known = [box for box in data["boxes"] if kind(box) >= 0]
    boxes = [[*box["center"], *box["length_width_height"], box["heading"]] for box in known]
    labels = []
    for name, camera in cameras.items():
        own = [
            [
                box["cx"] - box["length"] / 2,
                box["cy"] - box["width"] / 2,
                box["cx"] + box["length"] / 2,
                box["cy"] + box["width"] / 2,
            ]
            for box in data["boxes_2d"][name]
        ]
        size = np.array([camera["width"], camera["height"]] * 2)
        labels.append((np.reshape(own, (-1, 4)) / size, np.array([kind(box) for box in data["boxes_2d"][name]])))
    return Sample(
        rig, [folder / c["file"] for c in cameras.values()], np.array(boxes), np.array([kind(b) for b in known]), labels
    )


def project(sample: Sample) -> np.ndarray:
    """The sample's boxes as each camera sees them, `(n, m, 13)`."""
    return project_into(sample.rig, torch.tensor(sample.boxes), torch.tensor(sample.category)).numpy()


def intersection(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Area `(k, m)` that boxes `(k, 4)` share with boxes `(m, 4)`."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    return (high - low).clip(min=0).prod(-1)


def area(boxes: np.ndarray) -> np.ndarray:
    """Area of boxes `(..., 4)`."""
    return np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1)


def label_fit(sample: Sample, features: np.ndarray, min_height: float = 64) -> tuple[np.ndarray, np.ndarray]:
    """How well the projected boxes fit the dataset's own 2D labels.

    Labels and boxes of one category are matched one to one in each camera, the best pair first. A label is tight around
    what is visible of an object, a projected box around all corners of its 3D box: the label lies inside the box, and
    their IoU is well below 1 even for perfect geometry.

    Args:
        sample: With labels.
        features: What `project` gives.
        min_height: Pixels of a label from which it counts; most smaller ones are too far away for 3D boxes.

    Returns:
        For each label the IoU with its box, and the share of the label inside the box; 0 without one.
    """
    ious, covered = [], []
    for (boxes, kinds), seen, height in zip(sample.labels, features, sample.rig.image_size[:, 0], strict=True):
        tall = (boxes[:, 3] - boxes[:, 1]) * height >= min_height
        boxes, kinds, seen = boxes[tall], kinds[tall], seen[seen[:, CATEGORY] >= 0]
        shared = intersection(boxes, seen[:, IMAGE_BOX]) * (kinds[:, None] == seen[None, :, CATEGORY])
        table = shared / (area(boxes)[:, None] + area(seen[:, IMAGE_BOX])[None] - shared)
        fit = np.zeros((2, len(boxes)))
        for flat in np.argsort(-table, axis=None):
            row, column = np.unravel_index(flat, table.shape)
            if table[row, column] > 0:
                fit[:, row] = table[row, column], shared[row, column] / area(boxes[row])
                table[row], table[:, column] = 0, 0
        ious.append(fit[0])
        covered.append(fit[1])
    return np.concatenate(ious), np.concatenate(covered)


def picture(sample: Sample, features: np.ndarray, *, footage: bool) -> Image.Image:
    """All cameras with their boxes, over the footage or over nothing."""
    height = round(TILE_WIDTH * (sample.rig.image_size[:, 0] / sample.rig.image_size[:, 1]).max())
    tiles = np.full((1, len(sample.images), height, TILE_WIDTH, 3), 32, dtype=np.uint8)
    for index, path in enumerate(sample.images):
        hv, wv = sample.rig.image_size[index]
        tile = tiles[0, index, : round(TILE_WIDTH * hv / wv)]
        tile[...] = 64
        if footage:
            tile[...] = np.asarray(Image.open(path).convert("RGB").resize(tile.shape[1::-1], Image.Resampling.BOX))
        if sample.labels:
            labelled = Image.fromarray(tile)
            for box in sample.labels[index][0] * (tile.shape[1::-1] * 2):
                ImageDraw.Draw(labelled).rectangle(tuple(box), outline="white")
            tile[...] = np.asarray(labelled)
        seen = features[index]
        tile[...] = draw_boxes(tile, seen[:, IMAGE_BOX], seen[:, CATEGORY].astype(int), thickness=2)
    return Image.fromarray(mosaic(tiles, sample.rig.names)[0])


def main(data: Path = Path("../shared/data"), out: Path | None = None) -> None:
    """Draw the samples that are there.

    Args:
        data: Folder with `nuscenes_sample` and `waymo_sample`.
        out: Where the pictures with footage go; none are made without it.
    """
    IMAGES.mkdir(parents=True, exist_ok=True)
    for name, read in (("nuscenes", read_nuscenes), ("waymo", read_waymo)):
        sample = read(data / f"{name}_sample")
        features = project(sample)
        print(f"{name}: {len(sample.boxes)} boxes, seen {int((features[..., CATEGORY] >= 0).sum())} times")
        if sample.labels:
            ious, covered = label_fit(sample, features)
            print(
                f"{name}: {len(ious)} own 2D labels from 64 pixels in height, median IoU {np.median(ious):.2f}, "
                f"median share of a label inside its box {np.median(covered):.3f}"
            )
        picture(sample, features, footage=False).save(IMAGES / f"overlay_{name}.png")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            picture(sample, features, footage=True).save(out / f"overlay_{name}.png")


if __name__ == "__main__":
    tyro.cli(main)
