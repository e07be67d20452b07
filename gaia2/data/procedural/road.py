"""The street of each clip: lanes, kerbs, markings, crossing and junction, from metadata and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gaia2.data.procedural.hashing import choose, uniform
from gaia2.scene import METADATA, value_id

__all__ = [
    "PERIOD",
    "PAVEMENT",
    "CROSSING_LENGTH",
    "JUNCTION_HALF_WIDTH",
    "LANE_WIDTH",
    "MERGE_WIDTH",
    "ROUNDABOUT",
    "SHARED_LANE_WIDTH",
    "RoadPlan",
    "metadata_ids",
    "plan_roads",
]

PERIOD = 216.0
"""Metres after which the street (dashes, buildings, crossings) repeats."""
PAVEMENT = 3.0
"""Width of the pavement in metres."""
JUNCTION_HALF_WIDTH = 4.5
"""Half the width of a crossing road in metres."""
LANE_WIDTH, SHARED_LANE_WIDTH = 3.5, 4.6
"""Width of a lane in metres, and of one that both directions share."""
MERGE_WIDTH = 3.5
"""Width of a joining lane in metres."""
CROSSING_LENGTH = 4.0
"""Metres along the road that a pedestrian crossing takes."""
ROUNDABOUT = (4.0, 15.0)
"""Inner and outer radius of a roundabout in metres."""

_WEIGHTS: dict[str, tuple[float, ...]] = {
    "country": (1, 1, 1),
    "weather": (1, 1, 1, 1, 1),
    "time_of_day": (1, 1.3, 1, 1),
    "speed_limit": (1, 1, 1, 1, 1, 1, 1, 1),
    "number_of_lanes": (0.12, 0.26, 0.16, 0.22, 0.10, 0.14),
    "bus_lane": (0.6, 0.4),
    "cycle_lane": (0.6, 0.4),
    "pedestrian_crossing": (0.6, 0.4),
    "traffic_light": (0.36, 0.20, 0.12, 0.12, 0.20),
    "one_way": (0.7, 0.3),
    "intersection": (0.40, 0.15, 0.20, 0.12, 0.13),
}


@dataclass(frozen=True)
class RoadPlan:
    """Cross-section and features of the streets of a batch; every field is `(b,)`.

    `e` is the distance from the line between the two directions of travel, positive on the ego's side of it; the
    distance to the left along the road's normal is `d = side * e`. Lengths in metres.
    """

    ids: dict[str, Tensor]  # metadata name -> index into its values, nothing absent
    side: Tensor  # +1 where one drives on the left, -1 on the right
    lane: Tensor  # lane width
    forward: Tensor  # lanes in the ego's direction (0.5: one lane for both directions)
    backward: Tensor  # oncoming lanes
    bus: Tensor  # width of the bus lane beside the forward lanes, or 0
    cycle: Tensor  # width of the cycle lane beside that, or 0
    parking: Tensor  # width of the parking strips on both sides, or 0
    ego: Tensor  # e of the middle of the ego's lane
    crossing: Tensor  # s of the pedestrian crossing, relative to the ego's start
    junction: Tensor  # s of the middle of the junction
    arm: Tensor  # e-side of a t-junction's arm, +1 or -1
    shift: Tensor  # s of the first building, tree and street lamp
    urban: Tensor  # 0 country road .. 1 dense city

    @property
    def near_kerb(self) -> Tensor:
        """e of the kerb on the ego's side, positive."""
        return self.forward * self.lane + self.bus + self.cycle + self.parking

    @property
    def merging(self) -> Tensor:
        """Width of the lane that joins on the ego's side where the junction is a merge, or 0."""
        return MERGE_WIDTH * (self.ids["intersection"] == METADATA["intersection"].index("merge")).float()

    @property
    def far_kerb(self) -> Tensor:
        """e of the kerb on the other side, negative or (one way) zero."""
        return -(self.backward * self.lane + self.parking)


def metadata_ids(metadata: Sequence[Mapping[str, str | int | bool]], seeds: Tensor) -> dict[str, Tensor]:
    """Indices into the values of `METADATA`, absent entries chosen by the seed.

    Args:
        metadata: One mapping for each seed.
        seeds: `(b,)` int64.

    Returns:
        For every name of `METADATA` `(b,)` int64.
    """
    ids = {}
    for name, values in METADATA.items():
        given = [value_id(name, entry[name], values) if name in entry else -1 for entry in metadata]
        own = torch.tensor(given, dtype=torch.int64, device=seeds.device)
        ids[name] = torch.where(own >= 0, own, choose(uniform(seeds, f"metadata {name}")[:, 0], _WEIGHTS[name]))
    return ids


def plan_roads(ids: dict[str, Tensor], seeds: Tensor) -> RoadPlan:
    """Lays out the street of each clip.

    Args:
        ids: As `metadata_ids` gives them.
        seeds: `(b,)` int64, deciding what metadata leaves open.
    """
    u = uniform(seeds, "road", 8)
    lanes = ids["number_of_lanes"] + 1
    one_way = ids["one_way"] == 1
    shared = (lanes == 1) & ~one_way
    forward = torch.where(one_way, lanes, (lanes + 1) // 2).float()
    backward = torch.where(one_way, 0, lanes // 2).float()
    forward, backward = torch.where(shared, 0.5, forward), torch.where(shared, 0.5, backward)
    lane = torch.where(shared, SHARED_LANE_WIDTH, LANE_WIDTH)
    in_lane = (u[:, 0] * forward).floor().clamp(min=0) + 0.5
    has_light = ids["traffic_light"] > 0
    crossing = 9 + 14 * u[:, 1].square()
    junction = torch.where(has_light | (ids["pedestrian_crossing"] == 1), crossing + 11, 14 + 18 * u[:, 2])
    roundabout = ids["intersection"] == METADATA["intersection"].index("roundabout")
    junction = torch.where(roundabout, junction + 18, junction)
    return RoadPlan(
        ids=ids,
        side=torch.where(ids["country"] == METADATA["country"].index("uk"), 1.0, -1.0),
        lane=lane,
        forward=forward,
        backward=backward,
        bus=3.5 * (ids["bus_lane"] == 1).float(),
        cycle=2.2 * (ids["cycle_lane"] == 1).float(),
        parking=2.3 * (u[:, 3] < 0.55).float(),
        ego=torch.where(shared, 0.0, in_lane * lane),
        crossing=crossing,
        junction=junction,
        arm=torch.where(u[:, 4] < 0.5, -1.0, 1.0),
        shift=PERIOD * u[:, 6],
        urban=u[:, 5],
    )
