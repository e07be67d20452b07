"""Bad arguments for writing, reading, resizing and arranging video."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gaia2.video import fit_frames, read_video, write_video
from gaia2.viz.contact_sheet import contact_sheet
from gaia2.viz.mosaic import mosaic
from tests.edges.bad_values import count, either, image_size, number, of
from tests.edges.calls import Target

FOLDER = Path(tempfile.mkdtemp())
FRAMES = np.full((4, 16, 32, 3), 128, np.uint8)
NO_VIDEO = FOLDER / "text.mp4"
NO_VIDEO.write_text("no video")
GOOD = FOLDER / "good.mp4"
write_video(GOOD, FRAMES, 10.0)

frames = of(None, "x", 5, [1], {}, FRAMES[0], FRAMES.astype(float), FRAMES[..., :2], FRAMES[:0],
            torch.zeros(4, 16, 32, 3), FRAMES[None], FRAMES.astype(bool), np.zeros((4, 0, 32, 3), "u1"))  # fmt: skip
cameras = of(
    None, "x", 5, [1], {}, FRAMES, FRAMES[:, None].astype(float), FRAMES[:0, None], torch.zeros(4, 1, 16, 32, 3)
)
names = of(None, "front", [], ["a", "b"], [5], 5, {}, [None])
path = of(None, "", 5, [], {}, FOLDER, b"x", 1.5)


def written(**more: Any) -> dict[str, Any]:
    return dict(path=FOLDER / "new.mp4", frames=FRAMES, frame_rate=10.0, quality=18, **more)


TARGETS = [
    Target(
        "write_video",
        write_video,
        written,
        {"path": path, "frames": frames, "frame_rate": number(0, open_low=True), "quality": count(0, 51)},
        {"path": (FOLDER.name,)},
    ),
    Target(
        "read_video",
        read_video,
        lambda: dict(path=GOOD, num_frames=2, start=1),
        {
            "path": either(path, of(FOLDER / "nothing.mp4", NO_VIDEO, "/dev/null")),
            "num_frames": count(1, 3, optional=True),
            "start": count(0, 2),
        },
        {"path": (FOLDER.name, NO_VIDEO.name), "num_frames": ("frames",), "start": ("frames",)},
    ),
    Target(
        "mosaic",
        mosaic,
        lambda: dict(frames=FRAMES[:, None], names=["front"], columns=1, scale=1),
        {"frames": cameras, "names": names, "columns": count(1, 10_000, optional=True), "scale": count(1, 64)},
        {"frames": ("names",)},
    ),
    Target(
        "contact_sheet",
        contact_sheet,
        lambda: dict(
            path=FOLDER / "sheet.png", frames=FRAMES[:, None], names=["front"], rows=2, frame_rate=10.0, scale=1
        ),
        {
            "frames": cameras,
            "names": names,
            "rows": count(1, 10_000),
            "frame_rate": number(0, optional=True, open_low=True),
            "scale": count(1, 64),
        },
        {"frames": ("names",)},
    ),
    Target(
        "fit_frames",
        fit_frames,
        lambda: dict(frames=FRAMES, image_size=(8, 16)),
        {"frames": frames, "image_size": image_size()},
    ),
]
