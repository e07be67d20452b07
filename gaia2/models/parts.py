"""Models made of parts that are class attributes: a subclass replaces one by naming another (docs/swap_a_part.md)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from gaia2.models.strict_loading import StrictLoading


def _says_something(record: logging.LogRecord) -> bool:
    return "kept in float32: []" not in record.getMessage()


logging.getLogger("diffusers.models.modeling_utils").addFilter(_says_something)  # `to(dtype)` warns of an empty list


class SwappableParts(StrictLoading):
    """A diffusers model whose blocks' classes a subclass may replace.

    diffusers compiles, offloads and shards blocks by the names of their classes; a subclass tells it the new ones. A
    checkpoint says the class that made it, and another one that does not inherit from it refuses to read it.
    """

    _repeated_blocks: list[str]
    _no_split_modules: list[str]

    @classmethod
    def block_classes(cls) -> list[type[nn.Module]]:
        """The classes of the model's repeated blocks."""
        raise NotImplementedError

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        names = list(dict.fromkeys(block.__name__ for block in cls.block_classes()))
        cls._repeated_blocks, cls._no_split_modules = names, names

    @classmethod
    def from_config(cls, config: Any = None, **kwargs: Any) -> Any:
        """Make a model of a config; see diffusers.

        Raises:
            ValueError: If the config is of a class that this one does not inherit from.
        """
        made_by = config.get("_class_name") if isinstance(config, Mapping) else None
        if made_by is not None and made_by not in [ancestor.__name__ for ancestor in cls.__mro__]:
            raise ValueError(
                f"{cls.__name__}: expected a checkpoint of this class or one that it inherits from, got one of "
                f"{made_by}; load it with {made_by}.from_pretrained"
            )
        return super().from_config(config, **kwargs)  # type: ignore[misc]


def attentions(attention_class: Callable[..., nn.Module] | None, *slots: str) -> dict[str, Callable[..., nn.Module]]:
    """What to tell a block about its attentions: nothing for None, as it has its own.

    Example:
        >>> attentions(None, "spatial_attention")
        {}
        >>> attentions(nn.Identity, "spatial_attention")
        {'spatial_attention': <class 'torch.nn.modules.linear.Identity'>}
    """
    return {} if attention_class is None else dict.fromkeys(slots, attention_class)


def run_block(model: Any, block: Callable[..., torch.Tensor], *inputs: Any) -> torch.Tensor:
    """Run a block of a model, or have diffusers' gradient checkpointing run it where that is enabled."""
    if model.gradient_checkpointing and torch.is_grad_enabled():
        return model._gradient_checkpointing_func(block, *inputs)
    return block(*inputs)
