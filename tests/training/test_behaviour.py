from __future__ import annotations

import math

import torch
from torch.nn import functional

from gaia2.conditioning.scenario import ROAD
from gaia2.data.procedural import ProceduralWorld
from gaia2.models.behaviour_encoder import MOMENTS, Behaviour, behaviour_of
from gaia2.scene import AGENT_CATEGORIES, METADATA
from gaia2.training.behaviour import (
    CELLS_X,
    CELLS_Y,
    REACH_X,
    REACH_Y,
    BehaviourHeads,
    behaviour_losses,
    ground_cells,
)


def read() -> Behaviour:
    world = ProceduralWorld(rig="front", num_frames=8)
    return behaviour_of(world.sample_scenes(range(6)))


def test_ground_cells_hold_what_stands_in_them() -> None:
    behaviour = read()
    wanted = torch.zeros(6, MOMENTS, CELLS_X, CELLS_Y, len(AGENT_CATEGORIES))
    for b, k, m in (behaviour.category >= 0).nonzero().tolist():
        x, y = behaviour.boxes[b, k, m, 1].item(), behaviour.boxes[b, k, m, 2].item()
        if abs(x) < REACH_X and abs(y) < REACH_Y:
            cell = int((x + REACH_X) / (2 * REACH_X / CELLS_X)), int((y + REACH_Y) / (2 * REACH_Y / CELLS_Y))
            wanted[b, k, cell[0], cell[1], behaviour.category[b, k, m]] = 1
    assert wanted.sum() > 50
    assert torch.equal(ground_cells(behaviour), wanted)


def test_losses_are_those_of_their_formulas_and_unknown_facts_do_not_count() -> None:
    behaviour = read()
    behaviour.road[:3, 0] = -1
    behaviour.road[:, 1] = -1
    said = BehaviourHeads(embedding_dim=8, dim=16)(torch.randn(6, 8, generator=torch.Generator().manual_seed(0)))
    losses = behaviour_losses(said, behaviour)
    p, cells = said["ground"].sigmoid(), ground_cells(behaviour)
    nats = -(cells * p.log() + (1 - cells) * (1 - p).log()).sum(dim=(2, 3, 4)).mean()
    torch.testing.assert_close(losses["ground"], nats / 100, rtol=1e-4, atol=0)
    torch.testing.assert_close(losses["ego"], 10 * (said["ego"] - behaviour.ego).square().mean())
    names = []
    for index, name in enumerate(ROAD):
        rows = [b for b in range(6) if behaviour.road[b, index] >= 0]
        own = [-said[name][b].log_softmax(0)[behaviour.road[b, index]] for b in rows]
        names.append(torch.stack(own).mean() if own else torch.zeros(()))
    torch.testing.assert_close(losses["road"], torch.stack(names).mean())


def test_knowing_everything_costs_nothing() -> None:
    behaviour = read()
    said = {
        "ego": behaviour.ego,
        "ground": 60 * (ground_cells(behaviour) - 0.5),
        **{
            name: 40.0 * functional.one_hot(ids, len(METADATA[name]))
            for name, ids in zip(ROAD, behaviour.road.unbind(1), strict=True)
        },
    }
    assert all(math.isclose(float(loss), 0, abs_tol=1e-6) for loss in behaviour_losses(said, behaviour).values())
