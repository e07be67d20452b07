"""The table of a world model's conditions: what everything that deals with all of them loops over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import torch
from torch import nn

from gaia2.conditioning.action import ActionCondition
from gaia2.conditioning.agent_map import AgentMapCondition
from gaia2.conditioning.agents import AgentCondition
from gaia2.conditioning.camera import CameraCondition
from gaia2.conditioning.clip_embedding import ClipCondition
from gaia2.conditioning.condition import Condition, Enters, Key
from gaia2.conditioning.ground_map import GroundMapCondition
from gaia2.conditioning.metadata import MetadataCondition, Vocabulary
from gaia2.conditioning.ray_map import RayMapCondition
from gaia2.conditioning.scenario import ScenarioCondition
from gaia2.conditioning.timestamp import TimestampCondition
from gaia2.scene import AGENT_CATEGORIES, METADATA, Scene
from gaia2.scene.validation import nearest


class ConditionTable:
    """Conditions in the order in which they are encoded, with their keys and names.

    Args:
        conditions: The conditions.

    Attributes:
        conditions: The conditions.
        keys: Their tensors by key, see `Key`.
        owner: The condition of each key.

    Raises:
        ValueError: If a name or key is taken, or axes do not make sense.

    Example:
        >>> table = standard_conditions()
        >>> table.names[:5], table.keys["agents"].axes
        (('speed', 'curvature', 'agents', 'metadata', 'country'), 'b t n m f')
    """

    def __init__(self, conditions: Iterable[Condition]) -> None:
        self.conditions: tuple[Condition, ...] = ()
        self.keys: dict[str, Key] = {}
        self.owner: dict[str, Condition] = {}
        self._parts: dict[str, tuple[str, int | None]] = {}
        for condition in conditions:
            self._add(condition)

    def __iter__(self) -> Iterator[Condition]:
        return iter(self.conditions)

    def plus(self, conditions: Iterable[Condition]) -> ConditionTable:
        """The table with more conditions at its end.

        Raises:
            ValueError: If they do not fit, as for the table.
        """
        return ConditionTable([*self.conditions, *conditions])

    @property
    def names(self) -> tuple[str, ...]:
        """What guidance and dropout call the conditions, and parts of them, that can be left out."""
        return tuple(self._parts)

    def part(self, name: str) -> tuple[str, int | None]:
        """The key that a name of `names` stands for and, if it is a part of it only, its column.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in self._parts:
            raise ValueError(
                f"unknown condition {name!r}; did you mean {nearest(name, self.names)!r}? Expected some of: "
                f"{', '.join(self.names)}"
            )
        return self._parts[name]

    def key(self, key: str) -> Key:
        """The tensor of a key.

        Raises:
            ValueError: If there is none.
        """
        if key not in self.keys:
            raise ValueError(
                f"conditioning: unknown key {key!r}; did you mean {nearest(key, self.keys)!r}? Expected only: "
                f"{', '.join(self.keys)}"
            )
        return self.keys[key]

    def given(self, conditioning: Mapping[str, torch.Tensor]) -> Iterator[tuple[Condition, dict[str, torch.Tensor]]]:
        """Each condition of which something is given, with its tensors."""
        for condition in self.conditions:
            own = {key: conditioning[key] for key in condition.keys if key in conditioning}
            if own:
                yield condition, own

    def said_by(self, scenes: Sequence[Scene]) -> list[str]:
        """Names of the conditions that any of the scenes says something of, such as "speed"."""
        return list(dict.fromkeys(n for condition in self for scene in scenes for n in condition.said_by(scene)))

    def present_in(self, conditioning: Mapping[str, torch.Tensor]) -> list[str]:
        """Names of the conditions of which a conditioning holds anything; reads from the device.

        Example:
            >>> speed, curvature = torch.zeros(1, 3), torch.full((1, 3), torch.nan)
            >>> standard_conditions().present_in({"speed": speed, "curvature": curvature})
            ['speed']
        """
        names = {}
        for key, tensor in conditioning.items():
            spec, absent = self.key(key), self.owner[key].absent_like(key, tensor)
            same = (tensor == absent) | (tensor.isnan() & absent.isnan())
            if not (spec.droppable and bool(same.all())):
                names[spec.name or key] = True
        return list(names)

    def check_scenes(self, scenes: Sequence[Scene]) -> None:
        """Raise a `ValueError` if a scene says what a condition cannot take, or has extra data that none takes."""
        for scene in scenes:
            for condition in self:
                condition.check_scene(scene)
            for name in scene.extra:
                if name not in self.keys:
                    own = [key for key in self.keys if not hasattr(scene, key) and self.keys[key].droppable]
                    raise ValueError(
                        f"extra: expected conditions that the world model has, {', '.join(own) or 'none'}, got "
                        f"{name!r}; leave it out, or load a model that was trained with it"
                    )

    def _add(self, condition: Condition) -> None:
        kind = type(condition).__name__
        if not isinstance(condition, Condition):
            raise ValueError(f"conditions: expected instances of gaia2.conditioning.Condition, got {condition!r}")
        name, enters = getattr(condition, "name", None), getattr(condition, "enters", None)
        taken = [*(other.name for other in self), *dir(nn.Module()), "conditions", "dim"]
        if not isinstance(name, str) or not name.isidentifier() or name in taken:
            raise ValueError(
                f"conditions: {kind}: expected a name that is a word and not taken, got {name!r}; choose another"
            )
        if enters not in get_args(Enters):
            raise ValueError(f"conditions: {kind}.enters: expected one of {get_args(Enters)}, got {enters!r}")
        for key, spec in condition.keys.items():
            if key in self.keys:
                raise ValueError(
                    f"conditions: {kind}: expected keys that are not taken, got {key!r}, which "
                    f"{type(self.owner[key]).__name__} has; choose another"
                )
            _check_key(kind, key, spec)
            self.keys[key], self.owner[key] = spec, condition
            if spec.droppable:
                self._name(kind, key, spec)
        self.conditions = (*self.conditions, condition)

    def _name(self, kind: str, key: str, spec: Key) -> None:
        parts = dict.fromkeys((spec.name or key, *spec.aliases), (key, None))
        for name, part in (parts | {name: (key, column) for column, name in enumerate(spec.columns)}).items():
            if name in self._parts:
                raise ValueError(
                    f"conditions: {kind}: expected names that are not taken, got {name!r}, which is that of "
                    f"{self._parts[name][0]!r}; choose another"
                )
            self._parts[name] = part


def _check_key(kind: str, key: str, spec: Key) -> None:
    """Check that the axes of a key make sense."""
    letters = spec.letters
    wrong = (
        "b first" if letters[:1] != ["b"]
        else "each axis once" if len(set(letters)) != len(letters)
        else "fixed sizes of its own axes only" if not set(spec.sizes) <= set(letters) - {"b", "t", "n"}
        else "columns along its second axis, one for each entry"
        if spec.columns and (len(letters) < 2 or spec.sizes.get(letters[1]) != len(spec.columns))
        else "a dropout from 0 to 1" if spec.dropout is not None and not 0 <= spec.dropout <= 1
        else ""
    )  # fmt: skip
    if wrong:
        raise ValueError(
            f"conditions: {kind}: {key}: expected {wrong}, got the axes {spec.axes!r} with the sizes "
            f"{dict(spec.sizes)}; change its Key"
        )


def standard_conditions(
    *,
    vocabulary: Vocabulary | Sequence[tuple[str, Sequence[Any]]] | None = None,
    agent_categories: Sequence[str] | None = None,
    max_agents: int = 16,
    clip_dim: int | None = None,
    scenario_dim: int | None = None,
    max_seconds: float = 2.4,
    ray_map: bool = False,
    agent_map: bool = False,
    ground_map: bool = False,
) -> ConditionTable:
    """The paper's conditions (§2.2.1 and §2.2.3) and, on demand, three maps that are ours.

    Args:
        vocabulary: Metadata names and their allowed values, or how many there are, as a dict or as pairs; the
            library's by default.
        agent_categories: What agents can be; the library's categories by default.
        max_agents: Boxes that each camera and time keeps.
        clip_dim: Width of CLIP embeddings; None is any.
        scenario_dim: Width of scenario embeddings; None is any.
        max_seconds: Seconds from the present that map to 1.
        ray_map: Whether cells know where they look, see `RayMapEncoder`; not of the paper.
        agent_map: Whether cells know which agents they hold, see `AgentMapEncoder`; not of the paper.
        ground_map: Whether cells know which ground they see, see `GroundMapEncoder`; not of the paper.
    """
    categories = tuple(AGENT_CATEGORIES if agent_categories is None else agent_categories)
    return ConditionTable(
        [
            ActionCondition(),
            CameraCondition(),
            TimestampCondition(max_seconds),
            AgentCondition(max_agents, categories),
            MetadataCondition(dict(METADATA if vocabulary is None else vocabulary)),
            ClipCondition(clip_dim),
            ScenarioCondition(scenario_dim),
            *([RayMapCondition()] if ray_map else []),
            *([AgentMapCondition(len(categories))] if agent_map else []),
            *([GroundMapCondition()] if ground_map else []),
        ]
    )
