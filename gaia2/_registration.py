"""Makes diffusers know our classes.

A checkpoint's ``model_index.json`` names each component as ``["gaia2", "WorldModel"]`` and the pipeline as
``"Gaia2Pipeline"``. diffusers finds the first by importing the library ``gaia2``, and writes it so, in place of a
module path that would break when a file moves, where ``gaia2`` is one of its loadable libraries. It finds the second
as an attribute of the ``diffusers`` module itself.

Nothing here imports diffusers until a class is registered, so that ``import gaia2`` stays light.
"""

from __future__ import annotations

import importlib
import sys
from typing import TypeVar

T = TypeVar("T", bound=type)

#: public names of ``gaia2`` that :func:`register` is put on, where they are defined
REGISTERED = ("FlowMatchScheduler", "Gaia2Pipeline", "VideoTokenizer", "WorldModel")

_SAVE_AND_LOAD = ("save_pretrained", "from_pretrained")
_completed = False


def register(cls: T) -> T:
    """Class decorator: make a model, scheduler or pipeline of ours loadable by diffusers.

    After it, ``save_pretrained`` of a pipeline records the class as ``["gaia2", name]``, and
    ``DiffusionPipeline.from_pretrained`` and ``AutoModel.from_pretrained`` find it, from a folder or a repo id.

    Args:
        cls: a class whose name is also a public name of ``gaia2``.

    Returns:
        The class itself.

    Example:
        >>> import diffusers
        >>> from gaia2 import FlowMatchScheduler  # defined with @register
        >>> diffusers.FlowMatchScheduler is FlowMatchScheduler
        True
    """
    loading = importlib.import_module("diffusers.pipelines.pipeline_loading_utils")
    for base in ("ModelMixin", "SchedulerMixin", "DiffusionPipeline"):
        loading.LOADABLE_CLASSES.setdefault("gaia2", {})[base] = list(_SAVE_AND_LOAD)
    setattr(importlib.import_module("diffusers"), cls.__name__, cls)
    return cls


def register_if_loaded() -> None:
    """Register all our classes if diffusers has been imported; do nothing, and import nothing, if not.

    Called when ``gaia2`` is imported and when one of its public names is used, so that
    ``diffusers.DiffusionPipeline.from_pretrained`` works whichever of the two packages came first.
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
