"""Which condition classes a checkpoint may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gaia2.conditioning.condition import Condition

_REGISTERED: dict[str, type[Condition]] = {}


def register_condition(cls: type[Condition]) -> type[Condition]:
    """Class decorator: let world models that were saved with this condition be loaded.

    Raises:
        ValueError: If it is no `Condition`, or another class of that name is registered.

    Example:
        >>> @register_condition
        ... class Weight(Condition):
        ...     name, enters = "weight", "modulation"
        >>> condition_from_config({"_class_name": "Weight"})
        Weight()
    """
    if not (isinstance(cls, type) and issubclass(cls, Condition)):
        raise ValueError(f"register_condition: expected a subclass of gaia2.conditioning.Condition, got {cls!r}")
    other = _REGISTERED.get(cls.__name__, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(
            f"register_condition: expected a name that is not taken, got {cls.__name__}, which {other.__module__} has "
            "registered; choose another"
        )
    _REGISTERED[cls.__name__] = cls
    return cls


def condition_from_config(config: Condition | Mapping[str, Any]) -> Condition:
    """The condition that `Condition.to_config` recorded; one that is a condition already is given back.

    Raises:
        ValueError: If its class is not registered, or does not take the recorded fields.

    Example:
        >>> condition_from_config({"_class_name": "Radar"})
        Traceback (most recent call last):
        ...
        ValueError: conditions: this world model needs the condition class Radar, which is not registered; ...
    """
    if isinstance(config, Condition):
        return config
    if not isinstance(config, Mapping) or "_class_name" not in config:
        raise ValueError(f"conditions: expected instances of gaia2.conditioning.Condition, got {config!r}")
    values = dict(config)
    name = values.pop("_class_name")
    if name not in _REGISTERED:
        raise ValueError(
            f"conditions: this world model needs the condition class {name}, which is not registered; import the "
            "module that defines it, with @gaia2.conditioning.register_condition above the class, before loading"
        )
    try:
        return _REGISTERED[name](**values)
    except TypeError as error:
        raise ValueError(
            f"conditions: expected {name} to take the fields {sorted(values)} that the checkpoint has, got one that "
            f"does not ({error}); use the version of the class that it was trained with"
        ) from error
