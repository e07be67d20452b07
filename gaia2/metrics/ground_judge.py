"""A judge of the street: reads lanes, crossings and junctions off maps of the ground that all cameras show together.

A rig puts the same street at other places of its pictures; on the map it is at the same place for all rigs.

Axes: t maps, x y cells, u v patches of 4 by 4 cells, see `gaia2/metrics/ground_view.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gaia2.metrics.ground_view import CELLS, KINDS, PATCH
from gaia2.metrics.judges import conv_stage
from gaia2.scene import METADATA

GROUND_LABELS = ("number_of_lanes", "pedestrian_crossing", "intersection")
"""Metadata that this judge reads."""
_RARE = 3.0


class GroundVerdict(NamedTuple):
    """What the judge sees.

    Attributes:
        kinds: Logits `(t, kinds, u, v)` of what patches are, in the order of `KINDS`.
        labels: Logits `(t, values)` by name of `GROUND_LABELS`.
    """

    kinds: torch.Tensor
    labels: dict[str, torch.Tensor]


class GroundJudge(nn.Module):
    """Says what the patches of a map are, and from how much of each there is ahead, what street it is.

    Args:
        width: Channels of the first stage.

    Example:
        >>> seen = GroundJudge(width=4).eval()(torch.zeros(2, 4, 128, 256))
        >>> seen.kinds.shape, seen.labels["number_of_lanes"].shape
        (torch.Size([2, 8, 32, 64]), torch.Size([2, 6]))
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.sizes = {name: len(METADATA[name]) for name in GROUND_LABELS}
        self.stem = nn.Sequential(
            nn.Conv2d(4, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.down = nn.ModuleList(conv_stage(widths[i], widths[i + 1], stride=2) for i in range(3))
        self.up = nn.ModuleList((conv_stage(7 * width, 3 * width), conv_stage(5 * width, 2 * width)))
        self.kinds = nn.Conv2d(2 * width, len(KINDS), 1)
        rows = len(KINDS) * (CELLS[0] // PATCH)
        self.street = nn.Sequential(
            nn.Linear(rows + 8 * width, 6 * width),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(6 * width, sum(self.sizes.values())),
        )

    def forward(self, maps: torch.Tensor) -> GroundVerdict:
        """Judge maps `(t, 4, x, y)` in [0, 1], from `GroundCameras.see`."""
        x = self.stem(maps * 2 - 1)
        pyramid = []
        for stage in self.down:
            x = stage(x)
            pyramid.append(x)
        whole = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        for stage, finer in zip(self.up, pyramid[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1))
        kinds = self.kinds(x)
        across = kinds.softmax(dim=1).sum(dim=3) / 8  # patches of each kind in each row: how wide it is there
        labels = self.street(torch.cat([across.flatten(1), whole], dim=1))
        return GroundVerdict(kinds, dict(zip(self.sizes, labels.split([*self.sizes.values()], dim=1), strict=True)))

    def loss(
        self, verdict: GroundVerdict, kinds: torch.Tensor, seen: torch.Tensor, labels: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """How wrong a verdict is.

        Args:
            verdict: Of t maps.
            kinds: Ids `(t, u, v)`.
            seen: `(t, u, v)` bool; other patches do not count.
            labels: Ids `(t,)` by name; -1 does not count.
        """
        weight = torch.full((len(KINDS),), _RARE)
        weight[:3] = 1.0
        wanted = torch.where(seen, kinds.long(), -100)
        total = F.cross_entropy(verdict.kinds.float(), wanted, weight=weight)
        for name, logits in verdict.labels.items():
            if (labels[name] >= 0).any():
                total = total + 0.5 * F.cross_entropy(logits.float(), labels[name], ignore_index=-1)
        return total


def street_evidence(verdict: GroundVerdict) -> dict[str, torch.Tensor]:
    """Evidence of the maps of a clip for each value, `(values,)` by name of `GROUND_LABELS`.

    All maps tell how many lanes there are. A crossing or a junction is what the two maps say that show it best.
    """
    result = {}
    for name, logits in verdict.labels.items():
        told = logits.log_softmax(dim=-1)
        if name == "number_of_lanes":
            result[name] = told.sum(dim=0)
            continue
        told = told - told[:, :1]  # against there being none
        clearest = told[:, 1:].amax(dim=1).topk(min(2, len(told))).indices
        result[name] = told[clearest].mean(dim=0)
    return result
