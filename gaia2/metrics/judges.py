"""A judge of driving pictures: a small network, trained on genuine pictures, that says what it sees in generated ones.

Axes: i pictures, hv wv pixels, y x parts of a picture (4 by 4 pixels), k classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

STRIDE = 4


class Verdict(NamedTuple):
    """What the judge sees.

    Attributes:
        classes: Logits `(i, k, y, x)` of what each part of the picture shows most of.
        labels: Logits `(i, values)` by name, of the picture as a whole.
        numbers: `(i,)` by name.
    """

    classes: torch.Tensor
    labels: dict[str, torch.Tensor]
    numbers: dict[str, torch.Tensor]

    def float(self) -> Verdict:
        """The same in float32."""
        return Verdict(
            self.classes.float(),
            {name: logits.float() for name, logits in self.labels.items()},
            {name: values.float() for name, values in self.numbers.items()},
        )


class Judge(nn.Module):
    """Says what each part of a picture shows, and what the whole.

    Args:
        num_classes: Classes of parts.
        labels: Names of whole-picture labels and their number of values.
        numbers: Names of whole-picture numbers; each with the mean and the standard deviation that it is scaled by.
        width: Channels of the first stage.

    Example:
        >>> judge = Judge(num_classes=5, labels={"weather": 3}, numbers={"horizon": (32.0, 8.0)}, width=8)
        >>> seen = judge(torch.zeros(2, 3, 64, 128))
        >>> seen.classes.shape, seen.labels["weather"].shape, seen.numbers["horizon"].shape
        (torch.Size([2, 5, 16, 32]), torch.Size([2, 3]), torch.Size([2]))
    """

    def __init__(
        self,
        *,
        num_classes: int,
        labels: Mapping[str, int],
        numbers: Mapping[str, tuple[float, float]],
        width: int = 32,
    ) -> None:
        super().__init__()
        self.label_sizes, self.number_scales = dict(labels), dict(numbers)
        widths = (width, 2 * width, 3 * width, 4 * width, 4 * width)
        self.stem = _stage(3, widths[0], stride=2)
        self.down = nn.ModuleList(_stage(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_stage(a + b, b) for a, b in zip(widths[:1:-1], widths[-2:0:-1], strict=False))
        self.classes = nn.Conv2d(widths[1], num_classes, 1)
        whole = sum(labels.values()) + len(numbers)
        self.whole = nn.Sequential(
            nn.Linear(2 * widths[-1] + widths[-1] * 8, 4 * width),
            nn.GELU(),
            nn.Dropout(0.1),
            nn.Linear(4 * width, whole),
        )

    def forward(self, pictures: torch.Tensor) -> Verdict:
        """Judge.

        Args:
            pictures: `(i, 3, hv, wv)` in [0, 1].
        """
        x = self.stem(pictures * 2 - 1)
        pyramid = []
        for stage in self.down:
            x = stage(x)
            pyramid.append(x)
        coarse = F.adaptive_avg_pool2d(x, (2, 4)).flatten(1)
        whole = self.whole(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3)), coarse], dim=1))
        for stage, finer in zip(self.up, pyramid[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1))
        *labels, numbers = whole.split([*self.label_sizes.values(), len(self.number_scales)], dim=1)
        scaled = {
            name: numbers[:, index] * std + mean for index, (name, (mean, std)) in enumerate(self.number_scales.items())
        }
        return Verdict(self.classes(x), dict(zip(self.label_sizes, labels, strict=True)), scaled)

    def loss(
        self,
        verdict: Verdict,
        classes: torch.Tensor,
        labels: Mapping[str, torch.Tensor],
        numbers: Mapping[str, torch.Tensor],
    ) -> torch.Tensor:
        """How wrong a verdict is.

        Args:
            verdict: Of i pictures.
            classes: Ids `(i, y, x)`.
            labels: Ids `(i,)` by name; -1 does not count.
            numbers: `(i,)` by name; NaN does not count.
        """
        terms = [F.cross_entropy(verdict.classes, classes)]
        terms += [
            0.2 * F.cross_entropy(verdict.labels[name], ids, ignore_index=-1)
            for name, ids in labels.items()
            if (ids >= 0).any()
        ]
        for name, values in numbers.items():
            there = values.isfinite()
            if there.any():
                error = (verdict.numbers[name] - values)[there] / self.number_scales[name][1]
                terms.append(0.2 * F.smooth_l1_loss(error, torch.zeros_like(error)))
        return torch.stack(terms).sum()


def _stage(into: int, out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
