"""Obedience: what of a scene's conditions a judge finds in the pictures that were made from it.

Axes: i clips, tv video frames, tm frames with masks, n cameras, hv wv pixels, y x parts of a picture, m boxes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from torch import nn
from torch.nn import functional

from gaia2._files import replacing
from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judges import STRIDE, Judge
from gaia2.scene import METADATA, Scene
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX
from gaia2.training.rendered import MASK_STRIDE, RenderedClips

AGENTS = [index for index, name in enumerate(CLASSES) if name.startswith("agent:")]
PAIR = 4
"""Frames between the two pictures that the judge sees."""

NUMBERS = {
    "horizon": (32.0, 10.0),
    "focal": (80.0, 25.0),
    "height": (1.8, 0.6),
    "travel": (4.0, 3.0),
    "turn": (0.0, 0.03),
}
"""What the judge reads off a picture: row of the horizon and focal length (pixels), height of the camera (metres), way
(metres) and turn (radians) from one picture to the next; with the mean and spread that they are scaled by."""


def asked_numbers(scenes: list[Scene], size: tuple[int, int]) -> dict[str, torch.Tensor]:
    """What scenes say of `NUMBERS`, each `(i, tm, n)`; a horizon outside of the picture is NaN."""
    rows = []
    for scene in scenes:
        rig = scene.rig.fit(image_size=size)
        pose, matrix = rig.extrinsics, rig.intrinsics
        axis = pose[:, :3, :3]
        # the level direction nearest to the optical axis, in the camera's frame
        level = axis[:, :, 2] * np.array([1, 1, 0])
        ray = np.einsum("nij,ni->nj", axis, level)
        horizon = matrix[:, 1, 1] * ray[:, 1] / ray[:, 2] + matrix[:, 1, 2]
        horizon = np.where((horizon > 2) & (horizon < size[0] - 2), horizon, np.nan)
        times = scene.timestamps.mean(axis=1)
        start = np.arange(MASK_STRIDE // 2, scene.num_frames - PAIR, MASK_STRIDE)
        step = times[start + PAIR] - times[start]
        travel = scene.speed[start] * step
        turn = travel * scene.curvature[start]
        n, t = rig.num_cameras, len(start)
        rows.append(
            dict(
                horizon=np.tile(horizon, (t, 1)),
                focal=np.tile(matrix[:, 0, 0], (t, 1)),
                height=np.tile(pose[:, 2, 3], (t, 1)),
                travel=np.tile(travel[:, None], (1, n)),
                turn=np.tile(turn[:, None], (1, n)),
            )
        )
    return {name: torch.from_numpy(np.stack([row[name] for row in rows])).float() for name in NUMBERS}


def asked_labels(scenes: list[Scene]) -> dict[str, torch.Tensor]:
    """Ids `(i,)` of what scenes say of the metadata; -1 where they say nothing."""
    return {
        name: torch.tensor([values.index(s.metadata[name]) if name in s.metadata else -1 for s in scenes])
        for name, values in METADATA.items()
    }


def pairs(frames: torch.Tensor) -> torch.Tensor:
    """Pairs of pictures `(i, tm - 1, n, 2, 3, hv, wv)` in [0, 1] of frames `(i, tv, n, 3, hv, wv)` uint8."""
    first = frames[:, MASK_STRIDE // 2 : -PAIR : MASK_STRIDE]
    second = frames[:, MASK_STRIDE // 2 + PAIR :: MASK_STRIDE][:, : first.shape[1]]
    return torch.stack([first, second], dim=3).float() / 255


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


def train_judge(
    clips: RenderedClips,
    path: Path,
    budget: Callable[[], Iterator[tuple[int, float]]],
    set_rates: Callable[[torch.optim.Optimizer, float], None],
) -> Judge:
    """Train a judge on genuine clips, or read it from the file where an earlier call left it."""
    judge = Judge(num_classes=len(CLASSES), labels={k: len(v) for k, v in METADATA.items()}, numbers=NUMBERS, width=24)
    if path.is_file():
        judge.load_state_dict(torch.load(path, weights_only=True))
        return judge.eval()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    numbers, labels = asked_numbers(clips.scenes, _size(clips.frames)), asked_labels(clips.scenes)
    generator = torch.Generator().manual_seed(0)
    judge.train()
    for _, share in budget():
        set_rates(optimizer, share)
        row = torch.randint(len(clips), (48,), generator=generator)
        time = torch.randint(numbers["travel"].shape[1], (48,), generator=generator)
        camera = torch.randint(clips.frames.shape[2], (48,), generator=generator)
        at = MASK_STRIDE // 2 + MASK_STRIDE * time
        pictures = torch.stack([clips.frames[row, at, camera], clips.frames[row, at + PAIR, camera]], dim=1) / 255.0
        # a little noise and blur, so that it looks at what is there and not at a texture's last bit
        if torch.rand((), generator=generator) < 0.5:
            pictures = functional.avg_pool2d(pictures.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False)
            pictures = pictures.unflatten(0, (48, 2))
        pictures = pictures + 0.03 * torch.randn(pictures.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            verdict = judge(pictures)
        loss = judge.loss(
            verdict._replace(classes=verdict.classes.float()),
            part_classes(clips.classes[row, time, camera]),
            {name: ids[row] for name, ids in labels.items()},
            {name: values[row, time, camera] for name, values in numbers.items()},
        )
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        torch.save(judge.state_dict(), unfinished)
    return judge.eval()


@torch.no_grad()
def obedience(judge: Judge, frames: torch.Tensor, clips: RenderedClips) -> dict[str, float]:
    """What of the clips' scenes the judge finds in frames.

    Args:
        judge: Trained on genuine clips.
        frames: `(i, tv, n, 3, hv, wv)` uint8, of the clips' scenes.
        clips: The genuine clips, whose masks say where agents can be seen.

    Returns:
        Figures by name: `found` (share of the boxes where the judge sees an agent, at a threshold that finds one at 5%
        of the empty places), `auc`, `class` (right category, of all boxes), `large` (found of those over 400 square
        pixels), the share of the clips whose label is right by name, slope and error of the horizon, correlation of
        the other numbers.
    """
    seen = pairs(frames)
    i, t, n = seen.shape[:3]
    flat = rearrange(seen, "i t n p c h w -> (i t n) p c h w")
    verdicts = [judge(part) for part in flat.split(64)]
    probability = torch.cat([v.classes.float().softmax(dim=1) for v in verdicts]).unflatten(0, (i, t, n))
    result: dict[str, float] = {}
    for name, ids in asked_labels(clips.scenes).items():
        logits = torch.cat([v.labels[name].float() for v in verdicts]).unflatten(0, (i, t * n)).log_softmax(dim=-1)
        result[name] = float((logits.mean(dim=1).argmax(dim=-1) == ids).float().mean())
    asked = asked_numbers(clips.scenes, _size(frames))
    for name in NUMBERS:
        told = torch.cat([v.numbers[name].float() for v in verdicts]).unflatten(0, (i, t, n)).mean(dim=1)
        wanted = asked[name].mean(dim=1)
        there = wanted.isfinite()
        x, y = wanted[there].double(), told[there].double()
        result[f"{name} r"] = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
        if name == "horizon":
            result["horizon slope"] = float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum())
            result["horizon error"] = float((x - y).abs().mean())
    return result | _agents(probability, clips, t)


def _agents(probability: torch.Tensor, clips: RenderedClips, t: int) -> dict[str, float]:
    """Figures of the boxes; `probability (i, t, n, k, y, x)`."""
    hits, misses, sizes, right = [], [], [], []
    parts = part_classes(clips.classes[:, :t])
    height, width = clips.frames.shape[-2:]
    any_agent = probability[:, :, :, AGENTS].sum(dim=3)
    boxes = scene_conditioning(clips.scenes, frames_per_latent=MASK_STRIDE)["agents"][:, :t]
    y = (torch.arange(parts.shape[-2]) + 0.5) / parts.shape[-2]
    x = (torch.arange(parts.shape[-1]) + 0.5) / parts.shape[-1]
    for index in (boxes[..., CATEGORY] >= 0).nonzero():
        clip, time, camera, row = index.tolist()
        x1, y1, x2, y2 = boxes[clip, time, camera, row, IMAGE_BOX]
        category = AGENTS[int(boxes[clip, time, camera, row, CATEGORY])]
        inside = ((y > y1) & (y < y2))[:, None] & ((x > x1) & (x < x2))[None]
        region = inside & (parts[clip, time, camera] == category)
        if region.sum() < 1 or region.sum() < 0.4 * inside.sum():
            continue  # hidden by something, or smaller than what the judge can tell
        hits.append(float(any_agent[clip, time, camera][region].mean()))
        sizes.append(float((x2 - x1) * width * (y2 - y1) * height))
        guess = probability[clip, time, camera, AGENTS][:, region].mean(dim=1).argmax()
        right.append(AGENTS[int(guess)] == category)
        other = (clip + 1) % len(clips)
        if not torch.isin(parts[other, time, camera][region], torch.tensor(AGENTS)).any():
            misses.append(float(any_agent[other, time, camera][region].mean()))
    here, empty = np.array(hits), np.sort(misses)
    threshold = max(empty[int(0.95 * len(empty))], 1e-6)
    ranks = np.searchsorted(empty, here)
    found = here > threshold
    large = np.array(sizes) > 400
    return {
        "boxes": float(len(here)),
        "auc": float(ranks.mean() / len(empty)),
        "found": float(found.mean()),
        "large": float(found[large].mean()) if large.any() else float("nan"),
        "class": float(np.mean(right)),
        "agent share at empty places": float(empty.mean()),
    }


def _size(frames: torch.Tensor) -> tuple[int, int]:
    height, width = frames.shape[-2:]
    return height, width
