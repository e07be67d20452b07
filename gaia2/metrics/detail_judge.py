"""A judge of small things that say what a whole clip is: boards on posts and lamps of traffic lights.

Axes: i pictures, hv wv pixels, y x parts of a picture (4 by 4 pixels).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gaia2.scene import METADATA

THINGS = ("nothing", "sign", "lamp")
"""What a part of a picture can show."""
DETAILS = {"speed_limit": "sign", "one_way": "sign", "traffic_light": "lamp"}
"""Metadata that this judge reads, and off which things."""
SURE = {"sign": 0.995, "lamp": 0.998}
"""Probability of a thing from which on a part has a vote: cuttings show things far more often than pictures do."""
LEAST_BOARDS = 2
"""Parts of a clip that have a vote about boards even if none is so sure: there is one in every street."""
LAMP = 1.7
"""Votes of lamps in one picture from which on there is a traffic light."""
UNSURE = 255
"""Id of parts that show too little of a thing to learn from, and too much to be nothing."""
MOST = {"sign": 10.0, "lamp": 4.0}
"""Nats that a part may say for or against a value, at most."""


class DetailVerdict(NamedTuple):
    """What the judge sees.

    Attributes:
        things: Logits `(i, things, y, x)` of what parts show, in the order of `THINGS`.
        values: Logits `(i, values, y, x)` by name of `DETAILS`: what the thing says, if there is one.
    """

    things: torch.Tensor
    values: dict[str, torch.Tensor]


class DetailJudge(nn.Module):
    """Finds boards and lamps, and says of each what it means.

    Args:
        width: Channels of the first stage.

    Example:
        >>> seen = DetailJudge(width=4).eval()(torch.zeros(2, 3, 64, 128))
        >>> seen.things.shape, seen.values["speed_limit"].shape
        (torch.Size([2, 3, 16, 32]), torch.Size([2, 8, 16, 32]))
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.sizes = {name: len(METADATA[name]) for name in DETAILS}
        self.look = nn.Sequential(
            _layer(3, width, 5, stride=2),
            _layer(width, width),
            _layer(width, 2 * width, stride=2),
            _layer(2 * width, 2 * width),
            _layer(2 * width, 2 * width, dilation=2),
        )
        self.say = nn.Conv2d(2 * width, len(THINGS) + sum(self.sizes.values()), 1)

    def forward(self, pictures: torch.Tensor) -> DetailVerdict:
        """Judge pictures `(i, 3, hv, wv)` in [0, 1]."""
        things, *values = self.say(self.look(pictures * 2 - 1)).split([len(THINGS), *self.sizes.values()], dim=1)
        return DetailVerdict(things, dict(zip(self.sizes, values, strict=True)))

    def loss(self, verdict: DetailVerdict, things: torch.Tensor, labels: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """How wrong a verdict is.

        Args:
            verdict: Of i pictures.
            things: Ids `(i, y, x)`, or `UNSURE`.
            labels: Ids `(i,)` by name of `DETAILS`: what all things of a picture say; -1 does not count.
        """
        total = F.cross_entropy(verdict.things.float(), things.long(), ignore_index=UNSURE)
        for name, thing in DETAILS.items():
            wanted = torch.where(things == THINGS.index(thing), labels[name][:, None, None], -1)
            if (wanted >= 0).any():
                total = total + F.cross_entropy(verdict.values[name].float(), wanted, ignore_index=-1)
        return total


def clip_details(verdict: DetailVerdict) -> dict[str, torch.Tensor]:
    """Evidence of all pictures of a clip for each value, `(values,)` by name of `DETAILS`.

    Parts vote by how surely they show the thing. Without a lamp that is surely seen there is no traffic light.
    """
    share = verdict.things.softmax(dim=1)
    result = {}
    for name, thing in DETAILS.items():
        seen = share[:, THINGS.index(thing)]
        sure = SURE[thing]
        if thing == "sign":
            sure = min(sure, float(seen.flatten().topk(LEAST_BOARDS + 1).values[-1]))
        there = ((seen - sure) / (1 - sure)).clamp(min=0)
        told = verdict.values[name].log_softmax(dim=1)
        told = (told - told.mean(dim=1, keepdim=True)).clamp(-MOST[thing], MOST[thing])
        votes = (there[:, None] * told).sum(dim=(0, 2, 3))
        if name == "traffic_light":
            lit = there.sum(dim=(1, 2)).amax() - LAMP
            votes = torch.cat([-lit[None], lit + votes[1:] - votes[1:].amax()])
        result[name] = votes
    return result


def _layer(into: int, out: int, size: int = 3, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (size // 2)
    return nn.Sequential(
        nn.Conv2d(into, out, size, stride=stride, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
