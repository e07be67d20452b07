"""Draw one moment of an Argoverse 2 log from above: the cameras' fields of view and the cuboids.

    python docs/draw_top_view.py --log ../shared/data/argoverse2/<log_id>

Nothing of the footage is in the picture, which its licence keeps out of this repository.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from PIL import Image, ImageDraw

from gaia2.data import load_argoverse2
from gaia2.scene import Scene
from gaia2.viz.overlay import CATEGORY_COLOURS

IMAGES = Path(__file__).parent / "images"
CAMERA_COLOURS = ((120, 170, 255), (120, 255, 190), (255, 190, 120), (255, 130, 160), (200, 150, 255))
EGO_SIZE = (4.9, 2.0)
"""Length and width in metres of the recording car; its rear axle is the ego origin."""


def frustum(scene: Scene, camera: int, reach: float) -> np.ndarray:
    """Corners `(3, 2)`, ego x and y, of what a camera sees at the height of its axis, up to `reach` metres."""
    rig = scene.rig
    width, (fx, _, cx) = rig.image_size[camera, 1], rig.intrinsics[camera, 0]
    edges = np.array([[(0 - cx) / fx, 0, 1], [(width - cx) / fx, 0, 1]])
    rays = edges / np.linalg.norm(edges, axis=1, keepdims=True) @ rig.extrinsics[camera, :3, :3].T
    mount = rig.extrinsics[camera, :2, 3]
    return np.stack([mount, mount + reach * rays[0, :2], mount + reach * rays[1, :2]])


def cuboid(box: np.ndarray) -> np.ndarray:
    """Corners `(4, 2)` of a box `(7,)` seen from above, the front left one first."""
    x, y, _, length, width, _, yaw = box
    local = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2 * (length, width)
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    return local @ turn + (x, y)


def top_view(scene: Scene, frame: int, *, reach: float = 45.0, scale: int = 9) -> Image.Image:
    """The picture, the ego in the middle, its front up; `scale` pixels a metre."""
    side = round(2 * reach * scale)
    picture = Image.new("RGB", (side, side), (24, 26, 30))
    shade = ImageDraw.Draw(picture, "RGBA")

    def place(points: np.ndarray) -> list[tuple[float, float]]:
        return [(side / 2 - y * scale, side / 2 - x * scale) for x, y in points]

    for radius in range(10, int(reach) + 1, 10):
        corners = place(np.array([[radius, radius], [-radius, -radius]]))
        shade.ellipse((*corners[0], *corners[1]), outline=(70, 74, 82))
        shade.text(place(np.array([[radius, 0.0]]))[0], f"{radius} m", fill=(130, 135, 145))
    for camera, name in enumerate(scene.rig.names):
        corners = frustum(scene, camera, 0.8 * reach)
        colour = CAMERA_COLOURS[camera % len(CAMERA_COLOURS)]
        shade.polygon(place(corners), fill=(*colour, 28), outline=(*colour, 120))
        shade.text(place(0.55 * corners[1:].mean(0, keepdims=True))[0], name, fill=colour, anchor="mm")
    ego = cuboid(np.array([1.4, 0, 0, *EGO_SIZE, 1, 0.0]))
    shade.polygon(place(ego), fill=(235, 235, 235))
    for box, kind in zip(scene.agents.boxes[frame], scene.agents.category[frame], strict=True):
        if kind >= 0:
            corners = cuboid(box)
            colour = tuple(int(value) for value in CATEGORY_COLOURS[kind])
            shade.polygon(place(corners), fill=(*colour, 90), outline=(*colour, 255))
            front = (corners[0] + corners[3]) / 2
            shade.line(place(np.stack([box[:2], front])), fill=(*colour, 255))
    return picture


def main(log: Path, frame: int = 60, out: Path = IMAGES / "top_view_argoverse2.png") -> None:
    """Draw.

    Args:
        log: folder of an Argoverse 2 sensor log.
        frame: annotated sweep.
        out: picture to write.
    """
    scene = load_argoverse2(log)
    out.parent.mkdir(parents=True, exist_ok=True)
    top_view(scene, frame).save(out)
    print(f"{out}: {int((scene.agents.category[frame] >= 0).sum())} cuboids, {scene.rig.num_cameras} cameras")


if __name__ == "__main__":
    tyro.cli(main)
