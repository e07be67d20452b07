"""Leave conditions out: at random in training, by name for guidance (paper §2.2.3 and §4, World Model).

A condition that is left out becomes absent, which is not zero: NaN for numbers, -1 for categories. Camera geometry and
timestamps are never left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from gaia2.conditioning.condition import Conditioning, uniform
from gaia2.conditioning.scenario import IN_SCENARIO
from gaia2.conditioning.table import ConditionTable, standard_conditions


def drop_all(conditioning: Conditioning, conditions: ConditionTable | None = None) -> Conditioning:
    """Return the conditioning with everything absent that can be: the other branch of classifier-free guidance.

    Args:
        conditioning: Tensors by name; not changed.
        conditions: The conditions there are; those of the paper by default.

    Returns:
        A new dict; tensors that stay are shared.

    Example:
        >>> drop_all({"timestamps": torch.zeros(1, 3, 5), "metadata": torch.tensor([[2, 0]])})["metadata"]
        tensor([[-1, -1]])
    """
    conditions = standard_conditions() if conditions is None else conditions
    return {
        key: conditions.owner[key].absent_like(key, value) if conditions.key(key).droppable else value
        for key, value in conditioning.items()
    }


def drop(conditioning: Conditioning, names: Iterable[str], conditions: ConditionTable | None = None) -> Conditioning:
    """Return the conditioning with some conditions absent.

    Args:
        conditioning: Tensors by name; not changed.
        names: Names of conditions, or of single metadata columns. One that is not there anyway does no harm.
        conditions: The conditions there are; those of the paper by default.

    Returns:
        A new dict; tensors that stay are shared.

    Raises:
        ValueError: If a name is none that can be left out.

    Example:
        >>> table = standard_conditions(vocabulary={"a": 3, "b": 3})
        >>> drop({"metadata": torch.tensor([[2, 0]])}, ["b"], table)["metadata"]
        tensor([[ 2, -1]])
    """
    conditions = standard_conditions() if conditions is None else conditions
    result = dict(conditioning)
    for name in names:
        key, column = conditions.part(name)
        if key in result:
            value = result[key]
            absent = conditions.owner[key].absent_like(key, value)
            if column is not None:
                here = torch.arange(value.shape[1], device=value.device) == column
                absent = torch.where(here.reshape(-1, *(1,) * (value.ndim - 2)), absent, value)
            result[key] = absent
    return result


def keep_scenario_alone(
    conditioning: Conditioning,
    share: float,
    conditions: ConditionTable | None = None,
    generator: torch.Generator | None = None,
) -> Conditioning:
    """Let a scenario embedding stand in for what it was made of in some samples, and be absent in the others.

    A model that always has both learns to read one of them; this one is asked for either. Not of the paper.

    Args:
        conditioning: Tensors by name, batched, with `scenario_embedding`; not changed.
        share: Probability that a sample has its scenario embedding, but none of `IN_SCENARIO`.
        conditions: The conditions there are; those of the paper by default.
        generator: Random numbers, of any device.

    Returns:
        A new dict with the same keys and shapes.

    Example:
        >>> given = {"speed": torch.zeros(1, 3), "scenario_embedding": torch.ones(1, 2)}
        >>> keep_scenario_alone(given, 1.0)["speed"], keep_scenario_alone(given, 0.0)["scenario_embedding"]
        (tensor([[nan, nan, nan]]), tensor([[nan, nan]]))
    """
    conditions = standard_conditions() if conditions is None else conditions
    embedding = conditioning["scenario_embedding"]
    alone = uniform((len(embedding), 1), generator, embedding.device) < share
    without = drop(conditioning, [name for name in IN_SCENARIO if name in conditions.names], conditions)
    without["scenario_embedding"] = embedding
    others = drop(conditioning, ["scenario"], conditions)
    return {
        key: torch.where(alone.reshape(-1, *(1,) * (value.ndim - 1)), without[key], others[key])
        for key, value in conditioning.items()
    }


def blank_cameras(
    conditioning: Conditioning, camera_mask: torch.Tensor, conditions: ConditionTable | None = None
) -> Conditioning:
    """Return the conditioning without a trace of the cameras that do not take part.

    Their geometry becomes that of a plain camera at the ego origin, their agents absent.

    Args:
        conditioning: Tensors by name; not changed. What the masked cameras hold, NaN too, does not matter.
        camera_mask: Boolean `(b, n)`, true for cameras that take part.
        conditions: The conditions there are; those of the paper by default.

    Returns:
        A new dict; tensors that know no cameras are shared.

    Example:
        >>> timestamps = torch.tensor([[[0.4, float("nan")]]])
        >>> blank_cameras({"timestamps": timestamps}, torch.tensor([[True, False]]))["timestamps"].tolist()
        [[[0.4..., 0.0]]]
    """
    conditions = standard_conditions() if conditions is None else conditions
    b, n = camera_mask.shape
    result = dict(conditioning)
    for key, value in conditioning.items():
        letters = conditions.key(key).letters
        if "n" in letters:
            mask = camera_mask.reshape([{"b": b, "n": n}.get(letter, 1) for letter in letters])
            result[key] = torch.where(mask, value, conditions.owner[key].masked_like(key, value))
    return result


class ConditioningDropout(nn.Module):
    """Leave conditions out at random, sample by sample (paper §2.2.3 and §4, World Model).

    Speed, curvature, agents, each metadata name, CLIP and scenario embedding are each dropped with probability
    `individual`, and all together with probability `all`. Of the agents that remain, single features are dropped, and
    for each camera the number of agents is cut to one that is the same at all times. In `eval` mode nothing is dropped,
    as with torch's own dropout.

    Args:
        individual: Probability that a condition is dropped, each on its own.
        all: Probability that all conditions of a sample are dropped at once.
        camera: Probability that a camera view is dropped; see `drop_cameras`.
        alone: Probability that all views but one are dropped, so that a single camera is learnt too; not of the paper.
        agent_feature: Probability that one of the 13 agent features is dropped, for all agents of a sample.
        agent_instances: Whether the number of agents is cut.
        conditions: The conditions there are, `model.conditions`; those of the paper by default.

    Raises:
        ValueError: If a probability is not in [0, 1].

    Example:
        >>> dropout = ConditioningDropout(individual=0.5, all=0.0)
        >>> speed = torch.full((4, 3), 12.0)
        >>> kept = dropout({"speed": speed}, generator=torch.Generator().manual_seed(0))["speed"].isfinite()
        >>> kept.shape, torch.equal(kept.any(dim=1), kept.all(dim=1))
        (torch.Size([4, 3]), True)
    """

    def __init__(
        self,
        *,
        individual: float = 0.8,
        all: float = 0.1,
        camera: float = 0.1,
        alone: float = 0.0,
        agent_feature: float = 0.3,
        agent_instances: bool = True,
        conditions: ConditionTable | None = None,
    ) -> None:
        for name, value in (
            ("individual", individual),
            ("all", all),
            ("camera", camera),
            ("alone", alone),
            ("agent_feature", agent_feature),
        ):
            if not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a probability from 0 to 1, got {value}")
        super().__init__()
        self.individual = individual
        self.all = all
        self.camera = camera
        self.alone = alone
        self.agent_feature = agent_feature
        self.agent_instances = agent_instances
        self.conditions = standard_conditions() if conditions is None else conditions

    def forward(self, conditioning: Conditioning, generator: torch.Generator | None = None) -> Conditioning:
        """Drop conditions.

        Args:
            conditioning: Tensors by name, batched; not changed.
            generator: Random numbers, of any device; the same state gives the same result.

        Returns:
            A new dict with the same keys and shapes.
        """
        result = dict(conditioning)
        if not self.training:
            return result
        specs = {key: self.conditions.key(key) for key in conditioning}
        keys = [key for key in self.conditions.keys if key in conditioning and specs[key].droppable]
        if not keys:
            return result
        first = conditioning[keys[0]]
        widths = [conditioning[key].shape[1] if specs[key].columns else 1 for key in keys]
        rates = [self.individual if (own := specs[key].dropout) is None else own for key in keys]
        draws = uniform((first.shape[0], 1 + sum(widths)), generator, first.device)
        for condition, given in self.conditions.given({key: conditioning[key] for key in keys}):
            result |= condition.thin(
                given, feature=self.agent_feature, instances=self.agent_instances, generator=generator
            )
        everything = draws[:, :1] < self.all
        for key, own, rate in zip(keys, draws[:, 1:].split(widths, dim=1), rates, strict=True):
            value, dropped = result[key], everything | (own < rate)
            dropped = dropped.reshape(*dropped.shape, *(1,) * (value.ndim - 2))
            result[key] = torch.where(dropped, self.conditions.owner[key].absent_like(key, value), value)
        return result

    def drop_cameras(
        self,
        b: int,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """Choose the camera views that take part.

        Args:
            b: Samples.
            n: Cameras.
            generator: Random numbers.
            device: Where the result lies; None is the generator's device or, without one, the CPU.

        Returns:
            `(b, n)` bool, true where a camera is kept; at least one of each sample.

        Example:
            >>> ConditioningDropout(camera=1.0).drop_cameras(2, 5).sum(dim=1).tolist()
            [1, 1]
        """
        if device is None:
            device = "cpu" if generator is None else generator.device
        if not self.training:
            return torch.ones(b, n, dtype=torch.bool, device=device)
        alone, draws = uniform((b, 1 + n), generator, torch.device(device)).split([1, n], dim=1)
        dropped = (draws < self.camera) | (alone < self.alone)
        return ~dropped | (draws == draws.amax(dim=1, keepdim=True))
