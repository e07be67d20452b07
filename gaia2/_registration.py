"""Makes diffusers know our classes.

A checkpoint's ``model_index.json`` names each component as ``["gaia2", "WorldModel"]`` and the pipeline as
``"Gaia2Pipeline"``. diffusers finds the first by importing the library ``gaia2``, and writes it so, in place of a
module path that would break when a file moves, where ``gaia2`` is one of its loadable libraries. It finds the second
as an attribute of the ``diffusers`` module itself.

Nothing here imports diffusers until a class is registered, so that ``import gaia2`` stays light.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TypeVar

T = TypeVar("T", bound=type)

#: public names of ``gaia2`` that :func:`register` is put on, where they are defined
REGISTERED = (
    "FlowMatchScheduler",
    "Gaia2EditPipeline",
    "Gaia2InpaintPipeline",
    "Gaia2Pipeline",
    "VideoDiscriminator",
    "VideoTokenizer",
    "WorldModel",
)

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


def _being_imported() -> bool:
    """Whether it is one of our own modules that imports diffusers."""
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "gaia2"]
    return any(getattr(module.__spec__, "_initializing", False) for module in ours)


class _AfterDiffusers(MetaPathFinder):
    """Calls :func:`register_if_loaded` at the end of the first ``import diffusers``, then takes itself away."""

    _looking = False

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "diffusers" or self._looking:
            return None
        self._looking = True
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            self._looking = False
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            if not _being_imported():  # else our classes register themselves, and the rest when a name is next used
                register_if_loaded()

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_when_loaded() -> None:
    """Register all our classes now if diffusers has been imported, else as soon as it is."""
    if "diffusers" in sys.modules:
        register_if_loaded()
    else:
        sys.meta_path.insert(0, _AfterDiffusers())
