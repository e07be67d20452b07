"""Control: whether what scenes asked for can be read off the clips that were made of them.

Every figure is a `Measure` over clips. A reading comes of a clip's pictures, its facts of the scene; pairing readings
with the facts of other scenes gives the lower bound, and the mirror test for judges.

Axes: tm judged frames, n cameras, m boxes, y x parts of a picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch

from gaia2.conditioning.collate import scene_conditioning
from gaia2.data.rendered import MASK_STRIDE
from gaia2.metrics.judge_pictures import AGENTS, NUMBERS, asked_labels, asked_numbers
from gaia2.metrics.measure import (
    Measure,
    correlation,
    mean,
    mean_error,
    median_relative_error,
    same_sign,
    slope,
)
from gaia2.metrics.readings import Reading
from gaia2.scene import METADATA, Scene
from gaia2.scene.box_features import CATEGORY, IMAGE_BOX

FALSE_SHARE = 0.05
"""Share of the empty places at which an agent may be found."""
LARGE = 400.0
"""Square pixels of a box from which on it counts as large."""
SMALL = 100.0
SEEN = {
    "pedestrian_crossing": "crossing",
    "bus_lane": "bus_lane",
    "cycle_lane": "cycle_lane",
    "traffic_light": "lamp",
}
"""Metadata that say whether there is a thing, and its name."""
_STANDS, _MOVES, _BENDS = 0.2, 1.0, 0.003
_VISIBLE = 0.4


@dataclass(frozen=True)
class Facts:
    """What a scene asked for, and where its agents can be seen.

    Attributes:
        scene: The scene, its rig at the size of the frames.
        parts: `(tm, n, y, x)` class of each part of the genuine frames, from the renderer's masks.
        visible: Whether the genuine frames show it, by name of the metadata, see `visible_labels`; what is not named
            counts as visible. What cannot be seen is not asked for.
    """

    scene: Scene
    parts: torch.Tensor
    visible: Mapping[str, bool] = field(default_factory=dict)


def asked_ids(facts: Sequence[Facts]) -> dict[str, torch.Tensor]:
    """Ids `(clips,)` of what scenes say of the metadata; -1 where they say nothing, or frames do not show it."""
    asked = asked_labels([f.scene for f in facts])
    return {
        name: torch.where(torch.tensor([f.visible.get(name, True) for f in facts]), ids, -1)
        for name, ids in asked.items()
    }


def control_measures(readings: Sequence[Reading], facts: Sequence[Facts]) -> dict[str, Measure]:
    """All figures by name, of readings and the facts of the same or of other clips.

    Args:
        readings: One a clip.
        facts: Likewise; reading i is judged by facts i.
    """
    return {
        **agent_measures(readings, facts),
        **number_measures(readings, facts),
        **motion_measures(readings, facts),
        **label_measures(readings, facts),
        **sight_measures(readings, facts),
    }


def sight_measures(readings: Sequence[Reading], facts: Sequence[Facts]) -> dict[str, Measure]:
    """Whether things are seen more clearly in clips that were asked for them than in others: AUC over the clips."""
    asked = asked_ids(facts)
    result = {}
    for label, name in SEEN.items():
        rows = []
        for reading, value in zip(readings, asked[label].tolist(), strict=True):
            told = reading[f"label {label}"]
            clearer = float(told[1:].max() - told[0])  # than that there is none
            rows.append(np.array([[clearer, math.nan, math.nan, float(value > 0)]]) if value >= 0 else np.empty((0, 4)))
        result[f"{name} seen (AUC)"] = Measure(rows, _auc)
    return result


def label_measures(readings: Sequence[Reading], facts: Sequence[Facts]) -> dict[str, Measure]:
    """Share of the clips whose metadata is read back, by name; of those in which it can be seen."""
    result = {}
    for name, ids in asked_ids(facts).items():
        rows = [
            np.array([[float(int(r[f"label {name}"].argmax()) == int(i))]]) if i >= 0 else np.empty((0, 1))
            for r, i in zip(readings, ids, strict=True)
        ]
        result[f"{name} right"] = Measure(rows, mean)
    return result


def number_measures(readings: Sequence[Reading], facts: Sequence[Facts]) -> dict[str, Measure]:
    """Whether the cameras' geometry is that of the scene's rig; a row a camera."""
    result = {}
    for name in NUMBERS:
        rows = []
        for reading, fact in zip(readings, facts, strict=True):
            size = (int(fact.scene.rig.image_size[0][0]), int(fact.scene.rig.image_size[0][1]))
            asked = asked_numbers(fact.scene.rig, size)[name]
            rows.append(torch.stack([asked, reading[f"number {name}"].float()], dim=-1).numpy())
        result[f"{name} r"] = Measure(rows, correlation)
        if name == "horizon":
            result["horizon slope"] = Measure(rows, slope)
            result["horizon error (pixels)"] = Measure(rows, mean_error)
    return result


def motion_measures(readings: Sequence[Reading], facts: Sequence[Facts]) -> dict[str, Measure]:
    """Whether the ego moves as the scene says."""
    speed, curvature = [], []
    for reading, fact in zip(readings, facts, strict=True):
        asked = fact.scene.speed.mean()
        bend = float((fact.scene.curvature * fact.scene.speed).sum() / max(fact.scene.speed.sum(), 1e-6))
        speed.append(np.array([[asked, float(reading["speed"])]]))
        moves = asked > _MOVES
        curvature.append(np.array([[bend, float(reading["curvature"])]]) if moves else np.empty((0, 2)))
    moving = [rows[rows[:, 0] > _MOVES] for rows in speed]
    bent = [rows[np.abs(rows[:, 0]) > _BENDS] for rows in curvature]
    still = [
        np.array([[float(r["change"])]]) if f.scene.speed.max() < _STANDS else np.empty((0, 1))
        for r, f in zip(readings, facts, strict=True)
    ]
    return {
        "change while standing (levels)": Measure(still, mean),
        "speed r": Measure(speed, correlation),
        "speed error (median, share)": Measure(moving, median_relative_error),
        "curvature r": Measure(curvature, correlation),
        "curvature sign": Measure(bent, same_sign),
        "curvature gain": Measure(curvature, slope),
        "curvature error (median, share)": Measure(bent, median_relative_error),
    }


def agent_measures(
    readings: Sequence[Reading], facts: Sequence[Facts], places: Sequence[Reading] | None = None
) -> dict[str, Measure]:
    """Whether agents are where the scene has them, and nowhere else.

    The evidence for a box is the judge's mean probability of agents over the parts that the genuine frames show it in.
    Empty places are the same parts of the clips of other scenes that have no agent there.

    Args:
        readings: One a clip.
        facts: Likewise.
        places: Readings in which the empty places lie, those of the facts' own clips; by default `readings`.
    """
    places = readings if places is None else places
    rows = []
    for index, (reading, fact) in enumerate(zip(readings, facts, strict=True)):
        others = [(index + step) % len(facts) for step in (1, 2) if len(facts) > step]
        rows.append(_boxes(reading, fact, [(places[other], facts[other]) for other in others]))
    big = partial(_found, smallest=LARGE)
    middle = partial(_found, smallest=SMALL, largest=LARGE)
    return {
        "agents AUC": Measure(rows, _auc),
        "agents found": Measure(rows, _found),
        "agents found > 400 px²": Measure(rows, big),
        "agents found 100-400 px²": Measure(rows, middle),
        "agents found < 100 px²": Measure(rows, partial(_found, largest=SMALL)),
        "agents false at empty places": Measure(rows, _false),
        "agents IoU": Measure([_overlap(r, f) for r, f in zip(readings, facts, strict=True)], _mean_iou),
        "agents class right": Measure([r[r[:, 3] > 0][:, 2:3] for r in rows], mean),
        "agents class right > 400 px²": Measure([r[(r[:, 3] > 0) & (r[:, 1] > LARGE)][:, 2:3] for r in rows], mean),
    }


def visible_boxes(fact: Facts) -> list[tuple[int, int, torch.Tensor, int, float]]:
    """Boxes that can be seen: frame, camera, parts `(y, x)` bool, category and square pixels of each.

    A box counts if its own class fills at least one part and 40% of the parts that the box covers: not if it is hidden.
    """
    boxes = scene_conditioning([fact.scene], frames_per_latent=MASK_STRIDE)["agents"][0]  # (t, n, m, 13)
    height, width = (int(v) for v in fact.scene.rig.image_size[0])
    y = (torch.arange(fact.parts.shape[-2]) + 0.5) / fact.parts.shape[-2]
    x = (torch.arange(fact.parts.shape[-1]) + 0.5) / fact.parts.shape[-1]
    found = []
    for time, camera, row in (boxes[: len(fact.parts), ..., CATEGORY] >= 0).nonzero().tolist():
        x1, y1, x2, y2 = boxes[time, camera, row, IMAGE_BOX]
        category = int(boxes[time, camera, row, CATEGORY])
        inside = ((y > y1) & (y < y2))[:, None] & ((x > x1) & (x < x2))[None]
        region = inside & (fact.parts[time, camera] == AGENTS[category])
        if region.sum() >= max(1, _VISIBLE * float(inside.sum())):
            found.append((time, camera, region, category, float((x2 - x1) * width * (y2 - y1) * height)))
    return found


def _boxes(reading: Reading, fact: Facts, others: Sequence[tuple[Reading, Facts]]) -> np.ndarray:
    """Rows of evidence, square pixels, class right, and 1 for a box or 0 for an empty place."""
    rows = []
    agents = torch.tensor(AGENTS)
    seen = reading["agents"].float()
    for time, camera, region, category, area in visible_boxes(fact):
        here = seen[time, camera][:, region]
        right = float(int(here.mean(dim=1).argmax()) == category)
        rows.append([float(here.sum(dim=0).mean()), area, right, 1.0])
        for other, facts in others:
            if not torch.isin(facts.parts[time, camera][region].long(), agents).any():
                there = other["agents"][time, camera].float()[:, region]
                rows.append([float(there.sum(dim=0).mean()), area, math.nan, 0.0])
    return np.array(rows).reshape(-1, 4)


def _overlap(reading: Reading, fact: Facts) -> np.ndarray:
    """Parts that both show, and that either shows, of each category: `(categories, 3)` with the category in front."""
    seen = reading["agents"].float()
    said = torch.where(seen.sum(dim=2) > 0.5, seen.argmax(dim=2), -1)
    rows = []
    for category, index in enumerate(AGENTS):
        here, there = fact.parts == index, said == category
        rows.append([category, float((here & there).sum()), float((here | there).sum())])
    return np.array(rows)


def _mean_iou(rows: np.ndarray) -> float:
    """Mean over the categories that are asked for or seen."""
    sums = [rows[rows[:, 0] == category, 1:].sum(axis=0) for category in np.unique(rows[:, 0])]
    ratios = [both / either for both, either in sums if either]
    return float(np.mean(ratios)) if ratios else math.nan


def _split(rows: np.ndarray, smallest: float = 0.0, largest: float = math.inf) -> tuple[np.ndarray, np.ndarray]:
    box = (rows[:, 3] > 0) & ~(rows[:, 1] < smallest) & ~(rows[:, 1] >= largest)
    return rows[box, 0], np.sort(rows[rows[:, 3] == 0, 0])


def _auc(rows: np.ndarray) -> float:
    here, empty = _split(rows)
    if not len(here) or not len(empty):
        return math.nan
    ranks = (np.searchsorted(empty, here) + np.searchsorted(empty, here, side="right")) / 2
    return float(ranks.mean() / len(empty))


def _found(rows: np.ndarray, smallest: float = 0.0, largest: float = math.inf) -> float:
    here, empty = _split(rows, smallest, largest)
    if not len(here) or not len(empty):
        return math.nan
    return float((here > np.quantile(empty, 1 - FALSE_SHARE)).mean())


def _false(rows: np.ndarray) -> float:
    _, empty = _split(rows)
    return float((empty > 0.5).mean()) if len(empty) else math.nan


MIRRORED = (
    "agents AUC",
    *(f"{name} seen (AUC)" for name in SEEN.values()),
    "horizon r",
    "focal r",
    "height r",
    "speed r",
    "curvature r",
)
"""Figures besides the labels' that the mirror test looks at."""


def mirror_test(readings: Sequence[Reading], facts: Sequence[Facts], groups: Sequence[str]) -> dict[str, str]:
    """Refuse judges that find what was asked for in clips that never were asked for it, or not even in genuine ones.

    Genuine clips are paired with the scenes of other clips. A judge that still agrees with the scene, by more than four
    standard errors above chance, reads it from somewhere else than the pictures, or says what is most frequent in a way
    that the figure takes for knowledge. A label is refused, too, if it is read off genuine clips no better than by
    always saying the most frequent value.

    Args:
        readings: Of genuine clips.
        facts: Of the same clips.
        groups: Kind of rig of each clip; only clips of one kind are exchanged.

    Returns:
        What was found, by name of each figure that is refused.
    """
    order = shuffled(groups)
    mirrored = [readings[i] for i in order]
    refused = {}
    for name, ids in asked_ids(facts).items():
        known = ids.numpy() >= 0
        asked = ids.numpy()[known]
        if not len(asked):
            refused[f"{name} right"] = "in no genuine clip it can be seen"
            continue
        said, own = (np.array([int(r[f"label {name}"].argmax()) for r in of])[known] for of in (mirrored, readings))
        chance = sum(float((asked == k).mean() * (said == k).mean()) for k in range(len(METADATA[name])))
        limit = chance + 4 * math.sqrt(max(chance * (1 - chance), 1e-4) / len(asked))
        if (got := float((asked == said).mean())) > limit:
            refused[f"{name} right"] = f"{got:.2f} in shuffled clips, chance {chance:.2f}"
            continue
        most = float(np.bincount(asked).max() / len(asked))
        error = math.sqrt(max(most * (1 - most), 1e-4) / len(asked))
        if (got := float((asked == own).mean())) < min(most + 2 * error, (1 + most) / 2):
            refused[f"{name} right"] = f"{got:.2f} on genuine clips, the most frequent value alone {most:.2f}"
    measures = {
        **agent_measures(mirrored, facts, places=[readings[(i + 1) % len(readings)] for i in order]),
        **number_measures(mirrored, facts),
        **motion_measures(mirrored, facts),
        **sight_measures(mirrored, facts),
    }
    for name in MIRRORED:
        value, clips = measures[name].value(), sum(len(rows) > 0 for rows in measures[name].rows)
        chance, error = (0.5, 0.29) if "AUC" in name else (0.0, 1.0)
        if np.isfinite(value) and value > chance + 4 * error / math.sqrt(max(clips, 1)):
            refused[name] = f"{value:.2f} in shuffled clips, chance {chance:.2f}"
    return refused


def shuffled(groups: Sequence[str]) -> list[int]:
    """For each clip another one of its group: the next, so that all are used once."""
    order = list(range(len(groups)))
    for group in set(groups):
        members = [i for i, other in enumerate(groups) if other == group]
        for place, index in enumerate(members):
            order[index] = members[(place + 1) % len(members)]
    return order
