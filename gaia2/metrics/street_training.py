"""Train the judges of small things and of the ground."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import reduce

from gaia2.metrics.detail_judge import DETAILS, THINGS, UNSURE, DetailJudge
from gaia2.metrics.ground_judge import GroundJudge, ground_loss
from gaia2.metrics.ground_view import PATCH, mirrored
from gaia2.metrics.judges import STRIDE
from gaia2.metrics.picture_training import spoiled, training_steps
from gaia2.metrics.street_moments import StreetMoments
from gaia2.scene import METADATA

CUT, CUTS = 8, 128
"""Parts along either side of a cutting that the judge of small things learns from, and cuttings of a step."""
MAPS = 32
"""Maps of a step."""
_NOISE = 0.03


def train_details(moments: StreetMoments, *, minutes: float, seed: int = 0) -> DetailJudge:
    """Train the judge of small things for so many minutes of processor time of one core.

    It sees cuttings of pictures: two fifths around boards, as many around lamps, all values equally often, and a fifth
    anywhere.

    Args:
        moments: Of the procedural world.
        minutes: Processor time.
        seed: Of the weights and of the order of the cuttings.
    """
    torch.manual_seed(seed)
    judge = DetailJudge().train()
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # faster on processors
    generator = torch.Generator().manual_seed(seed)
    cameras = moments.pictures.shape[1]
    pictures, things = moments.pictures.flatten(0, 1), moments.things.flatten(0, 1)
    labels = {name: moments.labels[name].repeat_interleave(cameras) for name in DETAILS}
    places = [*_by_value(things, labels, "speed_limit"), *_by_value(things, labels, "traffic_light")]
    limits = len(METADATA["speed_limit"])
    share = torch.cat([torch.full((limits,), 0.4 / limits), torch.full((len(places) - limits,), 0.4 / 4)])
    share = torch.cat([share * torch.tensor([float(len(p) > 0) for p in places]), torch.tensor([0.2])])
    for _ in training_steps(1, list(judge.parameters()), minutes, generator, "judge: small things"):
        rows = torch.stack([torch.randint(side, (CUTS,), generator=generator) for side in things.shape], dim=1)
        which = torch.multinomial(share, CUTS, replacement=True, generator=generator).tolist()
        for cut_index, source in enumerate(which):
            if source < len(places):
                chosen = int(torch.randint(len(places[source]), (), generator=generator))
                rows[cut_index] = places[source][chosen]
        cut, shown = _cuttings(pictures, things, rows, generator)
        with torch.autocast("cpu", torch.bfloat16):
            verdict = judge(spoiled(cut, generator).to(memory_format=torch.channels_last))
        judge.loss(verdict, shown, {name: ids[rows[:, 0]] for name, ids in labels.items()}).backward()
    return judge.eval()


def _by_value(things: torch.Tensor, labels: dict[str, torch.Tensor], name: str) -> list[torch.Tensor]:
    """Picture, row and column `(places, 3)` of the things that say each value."""
    there = (things == THINGS.index(DETAILS[name])).nonzero()
    said = labels[name][there[:, 0]]
    first = 1 if name == "traffic_light" else 0
    return [there[said == value] for value in range(first, len(METADATA[name]))]


def _cuttings(
    pictures: torch.Tensor, things: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuttings around places, and what their parts show; those at the edge, which lack a side, are not learned from."""
    height, width = things.shape[1:]
    shift = torch.randint(-2, 3, (len(rows), 2), generator=generator) - CUT // 2
    corner = rows[:, 1:] + shift
    corner = torch.stack([corner[:, 0].clamp(0, height - CUT), corner[:, 1].clamp(0, width - CUT)], dim=1)
    cut, shown = [], []
    for picture, (y, x) in zip(rows[:, 0].tolist(), corner.tolist()):
        part = pictures[picture, :, y * STRIDE : (y + CUT) * STRIDE, x * STRIDE : (x + CUT) * STRIDE]
        cut.append(part)
        shown.append(things[picture, y : y + CUT, x : x + CUT])
    inner = F.pad(torch.stack(shown)[:, 1:-1, 1:-1], (1, 1, 1, 1), value=UNSURE)
    return torch.stack(cut), inner


def train_ground(moments: StreetMoments, *, minutes: float, seed: int = 0) -> GroundJudge:
    """Train the judge of the ground for so many minutes of processor time of one core.

    Half of the steps see mirrored maps: no street that it knows is a matter of left and right. A third of the maps is
    blurred across, as reconstructions are.

    Args:
        moments: Of the procedural world.
        minutes: Processor time.
        seed: Of the weights and of the order of the maps.
    """
    torch.manual_seed(seed)
    judge = GroundJudge().train()
    judge.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(seed)
    for rows in training_steps(len(moments), list(judge.parameters()), minutes, generator, "judge: ground", batch=MAPS):
        maps, kinds, open_ = moments.maps[rows].float() / 255, moments.kinds[rows], moments.open[rows]
        if float(torch.rand((), generator=generator)) < 0.5:
            (maps, kinds), open_ = mirrored(maps, kinds), open_.flip(-1)
        colours, seen = maps[:, :3], maps[:, 3:]
        third = len(maps) // 3
        colours[:third] = F.avg_pool2d(colours[:third], (1, 5), stride=1, padding=(0, 2), count_include_pad=False)
        colours = (colours + _NOISE * torch.randn(colours.shape, generator=generator)) * seen
        with torch.autocast("cpu", torch.bfloat16):
            logits = judge(torch.cat([colours, seen], dim=1).to(memory_format=torch.channels_last))
        covered = reduce(seen[:, 0], "t (u p) (v q) -> t u v", "mean", p=PATCH, q=PATCH) > 0.5
        ground_loss(logits, kinds, open_, covered).backward()
    return judge.eval()
