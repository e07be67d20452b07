"""diffusers' decorators with the types that they leave out: without them a class that they touch is `Any`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:

    def register_to_config(init: F) -> F:
        """Keep the arguments of a constructor in the config."""
        ...
else:
    from diffusers.configuration_utils import register_to_config

__all__ = ["register_to_config"]
