"""A judge of the street: reads lanes, crossings and junctions off maps of the ground that all cameras show together.

A rig puts the same street at other places of its pictures; on the map it is at the same place for all rigs. A network
says what each patch of the map is. What street that makes is not learnt but measured: there are as many lanes as fit
between the outer lines, and a crossing or a junction where enough patches say so side by side.

Axes: t maps, x y cells, u v patches of 4 by 4 cells, see `gaia2/metrics/ground_view.py`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from gaia2.data.procedural.road import LANE_WIDTH, SHARED_LANE_WIDTH
from gaia2.metrics.ground_view import KINDS, MIRRORED, PATCH, PATCH_METRES
from gaia2.metrics.judges import conv_stage
from gaia2.scene import METADATA

SIZES = {"crossing": (2, 3), "arm left": (4, 6), "arm right": (4, 6), "roundabout": (4, 12), "merge": (4, 2)}
"""Patches, along and across, that have to speak for a thing together."""
ENOUGH = {"crossing": 3.9, "arm left": 41.0, "arm right": 41.0, "roundabout": 20.0, "merge": 8.0}
"""Sum of their log odds from which on the thing is there; chosen on clips of other seeds."""
_RARE = 2.0
_SURE, _LANE_SURE = 6.0, 2.0


class GroundJudge(nn.Module):
    """Says what the patches of a map are, and which of them something stands before.

    Args:
        width: Channels of the first stage.

    Example:
        >>> GroundJudge(width=4).eval()(torch.zeros(2, 4, 128, 256)).shape
        torch.Size([2, 9, 32, 64])
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(4, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        widths = (width, 2 * width, 3 * width, 4 * width)
        self.down = nn.ModuleList(conv_stage(widths[i], widths[i + 1], stride=2) for i in range(3))
        self.up = nn.ModuleList((conv_stage(7 * width, 3 * width), conv_stage(5 * width, 2 * width)))
        self.say = nn.Conv2d(2 * width, len(KINDS) + 1, 1)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Judge maps `(t, 4, x, y)` in [0, 1], from `GroundCameras.see`.

        Returns:
            Logits `(t, kinds + 1, u, v)` in the order of `KINDS`, and that something stands before the patch.
        """
        x = self.stem(maps * 2 - 1)
        pyramid = []
        for stage in self.down:
            x = stage(x)
            pyramid.append(x)
        for stage, finer in zip(self.up, pyramid[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, size=finer.shape[2:]), finer], dim=1))
        return self.say(x)

    def both_ways(self, maps: torch.Tensor) -> torch.Tensor:
        """Mean logits of maps and of what they are in a looking glass: of no street is a side known before."""
        in_glass = self(maps.flip(-1)).flip(-1)[:, [*MIRRORED, len(KINDS)]]
        return (self(maps) + in_glass) / 2


def ground_loss(
    logits: torch.Tensor, kinds: torch.Tensor, open_patches: torch.Tensor, seen: torch.Tensor
) -> torch.Tensor:
    """How wrong a judge is.

    Args:
        logits: `(t, kinds + 1, u, v)`.
        kinds: Ids `(t, u, v)`.
        open_patches: `(t, u, v)` bool; something stands before the others.
        seen: `(t, u, v)` bool; what no camera sees does not count.
    """
    weight = torch.full((len(KINDS) + 1,), _RARE)
    weight[:3] = weight[-1] = 1.0
    wanted = torch.where(open_patches, kinds.long(), len(KINDS))
    return F.cross_entropy(logits.float(), torch.where(seen, wanted, -100), weight=weight)


def street_evidence(logits: torch.Tensor, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
    """Evidence of the maps of a clip for each value of the metadata that they tell, `(values,)` by name.

    Args:
        logits: `(t, kinds + 1, u, v)` of the judge.
        pixels: `(u, v)` square pixels of the patches, from `GroundCameras`; what is smaller than one has less to say.
    """
    logits = logits.float()
    open_share = 1 - logits.softmax(dim=1)[:, -1]
    odds = {name: _log_odds(logits[:, :-1], index) * open_share for index, name in enumerate(KINDS)}
    seen = pixels.clamp(max=1.0)
    there = {name: _amount(odds[name] * seen, SIZES[name]) / ENOUGH[name] - 1 for name in SIZES}
    arms = torch.stack([there["arm left"], there["arm right"]])
    one_arm = torch.minimum(arms.amax(), -arms.amin())
    return {
        "number_of_lanes": lane_evidence(odds["lane"], pixels),
        "pedestrian_crossing": torch.stack([torch.zeros(()), there["crossing"]]),
        "intersection": torch.stack([torch.zeros(()), one_arm, arms.amin(), there["roundabout"], there["merge"]]),
    }


def lane_evidence(odds: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Evidence for each number of lanes, `(6,)`, in the log odds `(t, u, v)` that patches are lanes.

    Each row of the map is asked how well one strip of the road as wide as so many lanes fits, wherever it lies; a
    single lane is wider where both directions share it. Patches of less than a square pixel have less to say.
    """
    up_to = F.pad((odds.clamp(-_LANE_SURE, _LANE_SURE) * pixels.clamp(max=1.0)).cumsum(dim=-1), (1, 0))
    begin = torch.arange(0, odds.shape[-1], 1 / PATCH)

    def fit(metres: float) -> torch.Tensor:
        end = begin + metres / PATCH_METRES[1]
        inside = end <= odds.shape[-1]
        return (_between(up_to, end[inside]) - _between(up_to, begin[inside])).amax(dim=-1).sum()

    fits = [fit(LANE_WIDTH * (1 + index)) for index in range(len(METADATA["number_of_lanes"]))]
    return torch.stack([torch.maximum(fits[0], fit(SHARED_LANE_WIDTH)), *fits[1:]])


def _log_odds(logits: torch.Tensor, index: int) -> torch.Tensor:
    others = torch.cat([logits[:, :index], logits[:, index + 1 :]], dim=1)
    return logits[:, index] - others.logsumexp(dim=1)


def _amount(odds: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Sum over the place that speaks most for a thing of that size, mean of the two clearest maps."""
    window = torch.ones(1, 1, *size)
    clearest = F.conv2d(odds.clamp(-_SURE, _SURE)[:, None], window).flatten(1).amax(dim=1)
    return clearest.topk(min(2, len(clearest))).values.mean()


def _between(values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Values `(..., v)` at fractional places."""
    first = at.floor().long().clamp(max=values.shape[-1] - 2)
    return torch.lerp(values[..., first], values[..., first + 1], at - first)
