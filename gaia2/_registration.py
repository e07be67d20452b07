"""Makes diffusers know our classes, and a user's subclasses of them.

A checkpoint's `model_index.json` names each component as `["gaia2", "WorldModel"]` and the pipeline as
`"Gaia2Pipeline"`. diffusers finds the first by importing the library `gaia2`, and writes it so, in place of a
module path that would break when a file moves, where `gaia2` is one of its loadable libraries. It finds the second
as an attribute of the `diffusers` module itself.

Both are put in place when a class of ours is defined, that is when its name is first used; the others follow with it.
`import gaia2` alone leaves diffusers alone, unless diffusers was imported before. So
`diffusers.DiffusionPipeline.from_pretrained` finds our pipelines after `from gaia2 import Gaia2Pipeline`, and in
either order of the two imports if `gaia2` comes last.
"""

from __future__ import annotations

import importlib
import sys
from typing import TypeVar

T = TypeVar("T", bound=type)

REGISTERED = (
    "FlowMatchScheduler",
    "Gaia2Blocks",
    "Gaia2EditPipeline",
    "Gaia2InpaintPipeline",
    "Gaia2ModularPipeline",
    "Gaia2Pipeline",
    "VideoDiscriminator",
    "VideoTokenizer",
    "WorldModel",
)
"""Public names of `gaia2` that `register` is put on, where they are defined."""

_SAVE_AND_LOAD = ("save_pretrained", "from_pretrained")
_of_users: dict[str, type] = {}
_completed = False


def register(cls: T) -> T:
    """Class decorator: make a model, scheduler or pipeline loadable by pipelines and by diffusers.

    After it, `save_pretrained` of a pipeline records the class as `["gaia2", name]`, and
    `Gaia2Pipeline.from_pretrained`, `DiffusionPipeline.from_pretrained` and `AutoModel.from_pretrained` find it,
    from a folder or a repo id. A process that loads such a checkpoint imports the module with the class first.

    Args:
        cls: A class of ours, or of a user; its name is the one that checkpoints say.

    Returns:
        The class itself.

    Raises:
        ValueError: If another class has the name, here or in diffusers.

    Example:
        >>> import diffusers, gaia2
        >>> @gaia2.register
        ... class MyScheduler(gaia2.FlowMatchScheduler):
        ...     pass
        >>> gaia2.MyScheduler is diffusers.MyScheduler is MyScheduler
        True
    """
    diffusers, gaia2, name = importlib.import_module("diffusers"), importlib.import_module("gaia2"), cls.__name__
    loading = importlib.import_module("diffusers.pipelines.pipeline_loading_utils")
    for base in ("ModelMixin", "SchedulerMixin", "DiffusionPipeline"):
        loading.LOADABLE_CLASSES.setdefault("gaia2", {})[base] = list(_SAVE_AND_LOAD)
    if not (cls.__module__.startswith("gaia2.") and name in REGISTERED):
        before = _of_users.get(name)
        again = before is not None and (before.__module__, before.__qualname__) == (cls.__module__, cls.__qualname__)
        if not again and (before is not None or name in gaia2.__all__ or hasattr(diffusers, name)):
            raise ValueError(
                f"{name}: expected a name that no other class has, as checkpoints find it by name; rename it"
            )
        _of_users[name] = cls
        setattr(gaia2, name, cls)
    setattr(diffusers, name, cls)
    return cls


def recorded(library: str | None, name: str | None) -> tuple[str | None, str | None]:
    """What checkpoints say of a component that diffusers would call class `name` of the module `library`."""
    cls = _of_users.get(name or "")
    return ("gaia2", name) if cls is not None and cls.__module__ == library else (library, name)


def register_if_loaded() -> None:
    """Register all our classes if diffusers has been imported; do nothing, and import nothing, if not.

    Called when `gaia2` is imported and when one of its public names is used.
    """
    global _completed
    if _completed or "diffusers" not in sys.modules:
        return
    _completed = True  # before the imports: they may use public names of gaia2 themselves
    try:
        gaia2 = importlib.import_module("gaia2")
        for name in REGISTERED:
            register(getattr(gaia2, name))
    except BaseException:
        _completed = False
        raise
