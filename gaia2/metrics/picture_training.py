"""Train the judge of pictures: what their parts show, light, country, agents and geometry."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

from gaia2.data.procedural.boxes import CLASSES
from gaia2.metrics.judge_pictures import NUMBERS, JudgePictures
from gaia2.metrics.judges import Judge
from gaia2.scene import METADATA

BATCH = 48
RATE = 3e-3
SHARES = (0.5, 0.2, 0.3)
"""Of the time of a training: to see what parts show, to conclude what the whole shows, and for both at once."""
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
    generator = torch.Generator().manual_seed(seed)
    sight = [p for name, p in judge.named_parameters() if not name.startswith("head.")]
    for rows in training_steps(len(pictures), sight, SHARES[0] * minutes, generator, "judge: parts"):
        with torch.autocast("cpu", torch.bfloat16):
            classes, _ = judge.look(spoiled(pictures.pictures[rows], generator))
        F.cross_entropy(classes.float(), pictures.classes[rows].long()).backward()
    train_head(judge, pictures, minutes=SHARES[1] * minutes, generator=generator)
    return train_together(judge, pictures, minutes=SHARES[2] * minutes, generator=generator)


def train_head(judge: Judge, pictures: JudgePictures, *, minutes: float, generator: torch.Generator) -> Judge:
    """Train what a judge concludes about pictures as a whole, from what it sees in their parts, which stays."""
    judge.eval()
    looks = []
    for part in tqdm(pictures.pictures.split(BATCH), desc="judge: looks", mininterval=10):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            looks.append(judge.look(spoiled(part, generator))[1].bfloat16())
    features = torch.cat(looks)
    judge.head.train()
    for rows in training_steps(len(pictures), list(judge.head.parameters()), minutes, generator, "judge: whole"):
        with torch.autocast("cpu", torch.bfloat16):
            verdict = judge.conclude(features[rows], features[rows])
        labels = {name: ids[rows] for name, ids in pictures.labels.items()}
        numbers = {name: values[rows] for name, values in pictures.numbers.items()}
        judge.whole_loss(verdict.float(), labels, numbers).backward()
    return judge.eval()


def train_together(judge: Judge, pictures: JudgePictures, *, minutes: float, generator: torch.Generator) -> Judge:
    """Train all of a judge that both stages before have trained apart."""
    judge.train()
    for rows in training_steps(len(pictures), list(judge.parameters()), minutes, generator, "judge: together"):
        with torch.autocast("cpu", torch.bfloat16):
            verdict = judge(spoiled(pictures.pictures[rows], generator))
        labels = {name: ids[rows] for name, ids in pictures.labels.items()}
        numbers = {name: values[rows] for name, values in pictures.numbers.items()}
        judge.loss(verdict.float(), pictures.classes[rows].long(), labels, numbers).backward()
    return judge.eval()


def training_steps(
    count: int,
    parameters: list[nn.Parameter],
    minutes: float,
    generator: torch.Generator,
    desc: str,
    batch: int = BATCH,
) -> Iterator[torch.Tensor]:
    """Rows `(batch,)` of so many for so many minutes; takes a step with the gradients that each has left."""
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.05)
    begin = time.process_time()
    with tqdm(total=100, desc=desc, unit="%", mininterval=10) as progress:
        while (share := (time.process_time() - begin) / (60 * minutes)) < 1:
            progress.update(int(100 * share) - progress.n)
            for group in optimizer.param_groups:
                group["lr"] = (
                    RATE * min(1.0, share / 0.05 + 0.02) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))
                )
            yield torch.randint(count, (batch,), generator=generator)
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def spoiled(pictures: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Pictures `(i, 3, hv, wv)` uint8 in [0, 1], a third of them blurred, a third blurred twice, all a little noisy."""
    x = pictures.float() / 255
    for part in (slice(len(x) // 3, None), slice(2 * len(x) // 3, None)):
        x[part] = F.avg_pool2d(x[part], 3, stride=1, padding=1, count_include_pad=False)
    return x + _NOISE * torch.randn(x.shape, generator=generator)
