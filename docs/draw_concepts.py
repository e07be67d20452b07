"""Draw the pictures of docs/concepts.md and docs/own_rig.md from the code: `python docs/draw_concepts.py`.

Sizes, shapes and shares of parameters are those of the models, which are built without memory; the conditions are the
table that the models use, and the rigs are drawn from their calibration.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from drawing import AMBER, BLUE, GREEN, GREY, PALE, ROSE, VIOLET, Sheet, save
from torch import nn

from gaia2 import CameraRig, VideoTokenizer, WorldModel
from gaia2.conditioning import standard_conditions
from gaia2.models import presets
from gaia2.scene import METADATA, RIG_NAMES, named_rig

IMAGES = Path(__file__).parent / "images"
ENTERS = {
    "modulation": ("adaptive layer norm", AMBER),
    "position": ("added to the tokens", GREEN),
    "tokens": ("cross-attention, by camera and time", VIOLET),
    "global": ("cross-attention, for all", ROSE),
}
"""Where a condition enters: in words, and its colour."""
SAYS = {
    "action": "ego speed and curvature",
    "camera": "intrinsics, mount and lens of each camera",
    "timestamp": "when each frame was taken",
    "agents": "3D boxes, as each camera sees them",
    "metadata": "country, weather, lanes, lights, ...",
    "clip": "a CLIP embedding of words or an image",
    "scenario": "an embedding of a driving model",
}
CAMERA_COLOURS = ("#4a7fb5", "#4d9a63", "#c29329", "#bf5b67", "#7a68b3")


def count(module: nn.Module) -> float:
    """Parameters in millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def millions(number: float) -> str:
    """A number of millions in three digits."""
    return f"{number / 1000:.2f}B" if number >= 1000 else f"{number:.0f}M" if number >= 100 else f"{number:.1f}M"


def built(preset: presets.Preset) -> tuple[VideoTokenizer, WorldModel]:
    """The models of a preset, without their memory."""
    with torch.device("meta"):
        return VideoTokenizer(**preset.tokenizer), WorldModel(**preset.world_model)


def latent_shape(preset: presets.Preset, tokenizer: VideoTokenizer, cameras: int) -> tuple[int, ...]:
    """`(t, n, h, w, c)` of a window, as the tokenizer makes it."""
    frames = torch.empty(1, 3, preset.num_frames, *preset.image_size, device="meta")
    _, c, t, h, w = tokenizer.encode(frames).latent_dist.mean.shape
    return t, cameras, h, w, c


def times(*sizes: int) -> str:
    """Sizes with crosses between."""
    return " × ".join(str(size) for size in sizes)


def data_line(cameras: int = 5) -> str:
    """From a scene to video, with the shapes of both presets."""
    rows = []
    for preset in (presets.paper(), presets.mini()):
        tokenizer, model = built(preset)
        rows.append((preset, latent_shape(preset, tokenizer, cameras), tokenizer, model))
    latents = [times(*shape) for _, shape, _, _ in rows]
    frames = [times(preset.num_frames, cameras, *preset.image_size, 3) for preset, _, _, _ in rows]
    models = [f"{millions(count(model))} parameters" for *_, model in rows]
    decoders = [f"{millions(count(tokenizer.decoder))} parameters" for *_, tokenizer, _ in rows]
    encoders = [f"{millions(count(tokenizer.encoder))} parameters" for *_, tokenizer, _ in rows]

    sheet = Sheet(1120, 372, "The way from a scene to the video of all cameras")
    sheet.box(20, 60, 190, 92, "Scene", ["rig, times, speed, curvature,", "agents, metadata, prompt"], fill=PALE)
    sheet.box(
        250, 60, 200, 92, "ConditioningEncoder", ["modulation, positions, tokens;", "once for a window"], fill=AMBER
    )
    sheet.box(490, 60, 230, 92, "WorldModel", ["velocity from noise to data", *models])
    sheet.box(490, 206, 230, 66, "FlowMatchScheduler", ["one step along the velocity, 50 times"], fill=GREEN)
    sheet.box(750, 60, 190, 92, "VideoTokenizer.decode", ["each camera, in windows of 3", *decoders])
    sheet.box(970, 60, 132, 92, "Frames", frames, fill=PALE, small=10)
    sheet.box(20, 206, 190, 66, "Frames that are given", ["context, a video to change"], fill=PALE)
    sheet.box(250, 206, 200, 66, "VideoTokenizer.encode", ["each camera alone", *encoders])
    for left, right in ((210, 250), (450, 490), (720, 750), (940, 970)):
        sheet.arrow((left, 106), (right, 106))
    sheet.arrow((210, 239), (250, 239), dashed=True)
    sheet.arrow((450, 239), (490, 239), dashed=True)
    sheet.arrow((560, 152), (560, 206))
    sheet.arrow((650, 206), (650, 152))
    sheet.words(605, 184, "latents", size=12)
    sheet.words(20, 30, "time × cameras × rows × columns × channels", size=12, colour=GREY, anchor="start")
    sheet.words(20, 318, "latents, paper:", size=12, anchor="start", bold=True)
    sheet.words(125, 318, latents[0], size=12, anchor="start")
    sheet.words(20, 342, "latents, mini:", size=12, anchor="start", bold=True)
    sheet.words(125, 342, latents[1], size=12, anchor="start")
    sheet.words(
        300,
        318,
        "In boxes with two lines of figures the first is the paper's size,",
        size=12,
        colour=GREY,
        anchor="start",
    )
    sheet.words(300, 342, "the second that of the default model.", size=12, colour=GREY, anchor="start")
    return sheet.svg()


def block() -> str:
    """One block of the world model, its parts in the order of the code with their shares, and the whole stack."""
    _, model = built(presets.paper())
    first = model.transformer_blocks[0]
    share = 100 / count(first)
    config = model.config
    parts = [
        ("positions", "row and column, time, camera", "added in every block", GREEN, ()),
        (
            "spatial attention",
            "over all cells of all cameras",
            "of one time",
            BLUE,
            ("norm_spatial", "spatial_attention"),
        ),
        ("temporal attention", "over all times", "of one cell", BLUE, ("norm_temporal", "temporal_attention")),
        ("cross-attention", "to the conditions' tokens", "of its camera", VIOLET, ("norm_cross", "cross_attention")),
        ("adaptive layer norm", "shift and scale by flow time,", "speed and curvature", AMBER, ("norm_mlp",)),
        ("MLP", f"{config.dim} to {config.dim * 4} and back,", "each token alone", BLUE, ("mlp",)),
    ]
    sheet = Sheet(1120, 330, "One block of the world model and the stack of blocks")
    sheet.words(20, 34, f"One of {config.num_blocks} blocks", size=15, bold=True, anchor="start")
    sheet.words(
        20, 56, f"{config.dim} channels, {config.num_heads} heads, {millions(count(first))} parameters", size=12,
        colour=GREY, anchor="start",
    )  # fmt: skip
    width, gap, y = 160, 22, 96
    sheet.arrow((20, 250), (1100, 250))
    sheet.words(20, 272, "tokens (b, t, n, h, w, c)", size=12, anchor="start")
    sheet.words(1100, 272, "to the next block", size=12, anchor="end")
    for index, (name, what, more, fill, names) in enumerate(parts):
        x = 20 + index * (width + gap)
        percent = (
            f"{sum(count(getattr(first, part)) for part in names) * share:.0f}% of the parameters" if names else ""
        )
        sheet.box(x, y, width, 96, name, [what, more, *([percent] if percent else [])], fill=fill)
        centre = x + width / 2
        if name == "adaptive layer norm":
            sheet.arrow((centre - 20, 250), (centre - 20, y + 96))
            sheet.arrow((x + width, y + 48), (x + width + gap, y + 48))
        elif name in ("positions", "MLP"):
            sheet.arrow((centre, y + 96), (centre, 242))
            sheet.circle(centre, 250, 8, edge="#24303c", fill="white")
            sheet.words(centre, 255, "+", size=15)
        else:
            sheet.arrow((centre - 46, 250), (centre - 46, y + 96))
            sheet.arrow((centre + 30, y + 96), (centre + 30, 242))
            sheet.circle(centre + 30, 250, 8, edge="#24303c", fill="white")
            sheet.words(centre + 30, 255, "+", size=15)
    sheet.words(
        20, 310, "Each attention stands behind a norm of its own; queries and keys are normalised, too. "
        "A mask leaves out cameras and boxes that are not there.", size=12, colour=GREY, anchor="start",
    )  # fmt: skip
    return sheet.svg()


def controls() -> str:
    """The conditions, as the table has them: what each says, its tensors, and where it enters."""
    table = standard_conditions()
    rows = list(table)
    sheet = Sheet(1120, 84 + 62 * len(rows), "The conditions of the world model and where they enter")
    for x, title in (
        (20, "condition"),
        (190, "what a scene says"),
        (520, "tensors and their axes"),
        (850, "enters by"),
    ):
        sheet.words(x, 36, title, size=13, bold=True, anchor="start")
    for row, condition in enumerate(rows):
        y = 52 + 62 * row
        words, fill = ENTERS[condition.enters]
        sheet.box(20, y, 150, 48, condition.name, fill=fill)
        sheet.words(190, y + 29, SAYS[condition.name], size=13, anchor="start")
        keys = [f"{key} ({key_spec.axes})" for key, key_spec in condition.keys.items()]
        if condition.name == "metadata":
            keys = [f"{keys[0]}: {len(METADATA)} names"]
        if len(keys) > 2:
            names = list(condition.keys)
            keys = [", ".join(names[:2]) + ",", ", ".join(names[2:])]
        for line, key in enumerate(keys):
            top = y + (29 if len(keys) == 1 else 21 + 18 * line)
            sheet.words(520, top, key, size=11.5, anchor="start", mono=True)
        sheet.box(850, y + 6, 250, 36, words, fill=fill, size=12.5)
    y = 52 + 62 * len(rows) + 16
    sheet.words(
        20, y, "b batch, t latent time, n cameras, m agents, f box features, k metadata names. "
        "What a scene leaves out is absent, which is not zero.", size=12, colour=GREY, anchor="start",
    )  # fmt: skip
    return sheet.svg()


def view(rig: CameraRig, camera: int, reach: float) -> np.ndarray:
    """Corners `(3, 2)` of what a camera sees from above, in the ego frame."""
    width, (fx, _, cx) = rig.image_size[camera, 1], rig.intrinsics[camera, 0]
    rays = np.array([[(0 - cx) / fx, 0, 1], [(width - cx) / fx, 0, 1]]) @ rig.extrinsics[camera, :3, :3].T
    rays = rays[:, :2] / np.linalg.norm(rays[:, :2], axis=1, keepdims=True)
    mount = rig.extrinsics[camera, :2, 3]
    return np.stack([mount, mount + reach * rays[0], mount + reach * rays[1]])


def rigs(scale: float = 11.0) -> str:
    """The named rigs from above: mounts and fields of view."""
    sheet = Sheet(1120, 340, "The named camera rigs from above")
    for index, name in enumerate(RIG_NAMES):
        rig, x0, y0 = named_rig(name), 140 + 280 * index, 190

        def place(points: np.ndarray, x0: float = x0, y0: float = y0) -> list[tuple[float, float]]:
            return [(x0 - y * scale, y0 - (x - 1.4) * scale) for x, y in points]

        for camera in range(rig.num_cameras):
            colour = CAMERA_COLOURS[camera]
            corners = view(rig, camera, 10.0)
            sheet.shape(place(corners), fill=colour, edge=colour, opacity=0.18)
            middle = corners[0] + 0.72 * (corners[1:].mean(axis=0) - corners[0])
            (x, y), *_ = place(middle[None])
            sheet.words(x, y, rig.names[camera], size=10.5, colour=colour)
        sheet.shape(
            place(np.array([[3.9, 1.0], [3.9, -1.0], [-1.0, -1.0], [-1.0, 1.0]])),
            fill="#ffffff",
            edge="#6b7785",
            opacity=0.9,
        )
        heights = rig.extrinsics[:, 2, 3]
        low, high = heights.min(), heights.max()
        mounted = f"{low:.1f} m" if high - low < 0.05 else f"{low:.1f} to {high:.1f} m"
        sheet.words(x0, 30, name, size=15, bold=True)
        cameras = f"{rig.num_cameras} cameras" if rig.num_cameras > 1 else "1 camera"
        sheet.words(x0, 50, f"{cameras}, {mounted} above the road", size=12, colour=GREY)
    return sheet.svg()


PICTURES = {"data_line.svg": data_line, "block.svg": block, "controls.svg": controls, "rigs.svg": rigs}


if __name__ == "__main__":
    for file, draw in PICTURES.items():
        save(IMAGES / file, draw())
