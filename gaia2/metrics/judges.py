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
        self.stem = conv_stage(3, widths[0], stride=2)
        self.down = nn.ModuleList(conv_stage(a, b, stride=2) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(conv_stage(a + b, b) for a, b in zip(widths[:1:-1], widths[-2:0:-1], strict=False))
        self.classes = nn.Conv2d(widths[1], num_classes, 1)
        self.head = _Head(3 * 3 + 2 * widths[1] + 2, sum(labels.values()), len(numbers))

    def forward(self, pictures: torch.Tensor) -> Verdict:
        """Judge.

        Args:
            pictures: `(i, 3, hv, wv)` in [0, 1].
        """
        classes, features = self.look(pictures)
        return self.conclude(classes, features)

    def look(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits `(i, k, y, x)` of what each part shows, and features `(i, c, y, x)` of the parts."""
        x = self.stem(pictures * 2 - 1)
        pyramid = []
        for stage in self.down:
            x = stage(x)
            pyramid.append(x)
        for stage, finer in zip(self.up, pyramid[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1))
        colours = [F.avg_pool2d(pictures, STRIDE), F.max_pool2d(pictures, STRIDE), -F.max_pool2d(-pictures, STRIDE)]
        row = torch.linspace(-1, 1, x.shape[2], device=x.device)[:, None].expand(x.shape[2:])
        column = torch.linspace(-1, 1, x.shape[3], device=x.device).expand(x.shape[2:])
        place = torch.stack([row, column]).expand(len(x), -1, -1, -1)
        return self.classes(x), torch.cat([*colours, x, pyramid[0], place.to(x.dtype)], dim=1)

    def conclude(self, classes: torch.Tensor, features: torch.Tensor) -> Verdict:
        """The verdict on pictures, of what `look` gave."""
        labels, numbers = self.head(features)
        scaled = {
            name: numbers[:, index] * std + mean for index, (name, (mean, std)) in enumerate(self.number_scales.items())
        }
        of_each = labels.split([*self.label_sizes.values()], dim=1)
        return Verdict(classes, dict(zip(self.label_sizes, of_each, strict=True)), scaled)

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
        return F.cross_entropy(verdict.classes, classes) + self.whole_loss(verdict, labels, numbers)

    def whole_loss(
        self, verdict: Verdict, labels: Mapping[str, torch.Tensor], numbers: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """How wrong a verdict is on the pictures as a whole; see `loss`."""
        terms = [verdict.classes.new_zeros(())]
        terms += [
            F.cross_entropy(verdict.labels[name], ids, ignore_index=-1)
            for name, ids in labels.items()
            if (ids >= 0).any()
        ]
        for name, values in numbers.items():
            there = values.isfinite()
            if there.any():
                error = (verdict.numbers[name] - values)[there] / self.number_scales[name][1]
                terms.append(F.smooth_l1_loss(error, torch.zeros_like(error)))
        return torch.stack(terms).sum()


class _Head(nn.Module):
    """Labels from what is seen anywhere in a picture, numbers from where it is seen."""

    def __init__(self, into: int, num_labels: int, num_numbers: int, width: int = 96) -> None:
        super().__init__()
        self.normalize = nn.BatchNorm2d(into)
        self.evidence = nn.Sequential(
            nn.Conv2d(into, width, 1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.labels = nn.Sequential(
            nn.Dropout(0.2),
            nn.Linear(2 * width, 2 * width),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(2 * width, num_labels),
        )
        self.numbers = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(32 * width, 2 * width), nn.ReLU(), nn.Linear(2 * width, num_numbers)
        )

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen = self.evidence(self.normalize(features))
        anywhere = torch.cat([seen.amax(dim=(2, 3)), seen.mean(dim=(2, 3))], dim=1)
        return self.labels(anywhere), self.numbers(F.adaptive_avg_pool2d(seen, (8, 4)).flatten(1))


def conv_stage(into: int, out: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions of 3 x 3, each normalised and rectified; the first takes the stride."""
    return nn.Sequential(
        nn.Conv2d(into, out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
        nn.Conv2d(out, out, 3, padding=1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
