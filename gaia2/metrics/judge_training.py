"""Train judges on pictures of the procedural world."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from gaia2._checkpoint import load_checkpoint, save_checkpoint
from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judge_pictures import NUMBERS, JudgePictures
from gaia2.metrics.judges import Judge
from gaia2.scene import METADATA

BATCH = 48
_NOISE = 0.03


def new_judge(width: int = 24) -> Judge:
    """A judge of all that `JudgePictures` know."""
    return Judge(
        num_classes=len(CLASSES), labels={k: len(v) for k, v in METADATA.items()}, numbers=NUMBERS, width=width
    )


def train_judge(pictures: JudgePictures, *, minutes: float, width: int = 24, seed: int = 0) -> Judge:
    """Train a judge for so many minutes of processor time of one core.

    Pictures are blurred and made noisy at random, so that the judge looks at what is there and not at a texture's last
    bit, which a reconstruction does not have.

    Args:
        pictures: Of the procedural world.
        minutes: Processor time; company on the machine changes nothing but the wait.
        width: Channels of the judge's first stage.
        seed: Of the weights and of the order of the pictures.
    """
    torch.manual_seed(seed)
    judge = new_judge(width).train()
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on processors
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.05)
    generator = torch.Generator().manual_seed(seed)
    budget, begin = 60 * minutes, time.process_time()
    with tqdm(total=100, desc="judge", unit="%", mininterval=10) as progress:
        while (share := (time.process_time() - begin) / budget) < 1:
            progress.update(int(100 * share) - progress.n)
            for group in optimizer.param_groups:
                group["lr"] = (
                    3e-3 * min(1.0, share / 0.05 + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
                )
            rows = torch.randint(len(pictures), (BATCH,), generator=generator)
            with torch.autocast("cpu", torch.bfloat16):
                verdict = judge(spoiled(pictures.pictures[rows], generator))
            loss = judge.loss(
                verdict.float(),
                pictures.classes[rows].long(),
                {name: ids[rows] for name, ids in pictures.labels.items()},
                {name: values[rows] for name, values in pictures.numbers.items()},
            )
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    return judge.eval()


def spoiled(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures `(i, 3, hv, wv)` uint8 in [0, 1], a third of them blurred, a third blurred twice, all a little noisy."""
    x = pictures.float() / 255
    for part in (slice(len(x) // 3, None), slice(2 * len(x) // 3, None)):
        x[part] = F.avg_pool2d(x[part], 3, stride=1, padding=1, count_include_pad=False)
    return x + _NOISE * torch.randn(x.shape, generator=generator)


class TrainedJudge(NamedTuple):
    """A judge, and how often each value of a label was in its training: log shares `(values,)` by name."""

    judge: Judge
    priors: dict[str, torch.Tensor]


def load_or_train_judge(
    folder: Path, image_size: tuple[int, int], *, scenes: int = 1408, minutes: float = 4.0
) -> TrainedJudge:
    """Read the judge that an earlier call left in a folder, or render pictures, train one and leave it there."""
    path = folder / "judge.pt"
    if not path.is_file():
        pictures = JudgePictures.load_or_render(folder / "judge_pictures.pt", scenes, image_size)
        priors = {
            name: (torch.bincount(ids, minlength=len(METADATA[name])) + 1.0).div(len(ids)).log()
            for name, ids in pictures.labels.items()
        }
        trained = train_judge(pictures, minutes=minutes)
        save_checkpoint(path, {"judge": trained.state_dict(), "priors": priors, "scenes": scenes, "minutes": minutes})
    state = load_checkpoint(path)
    judge = new_judge()
    judge.load_state_dict(state["judge"])
    return TrainedJudge(judge.eval(), state["priors"])
