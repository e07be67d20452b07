"""Names that are imported when they are first used, for the package `__init__` files."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any


def attach(
    package: str,
    names: Mapping[str, str],
    *,
    on_use: Callable[[], None] | None = None,
    unlisted: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The module functions that make `names` attributes of `package` without importing them (PEP 562).

    Args:
        package: The package's `__name__`.
        names: Public name → the module that defines it.
        on_use: Called after each look-up of one of the names.
        unlisted: Names that are there for other libraries, and that `dir` and `import *` leave out.

    Returns:
        `__getattr__`, `__dir__` and `__all__` for the package. The `__getattr__` gives the package's
        submodules too (`import gaia2; gaia2.models`), and raises `AttributeError`, with the nearest public name
        where there is one, for anything else.

    Example:
        >>> getter, listing, public = attach("gaia2", {"sqrt": "math", "OrderedDict": "collections"})
        >>> getter("sqrt")(9.0)
        3.0
        >>> public
        ['OrderedDict', 'sqrt']
        >>> getter("sqr")
        Traceback (most recent call last):
        AttributeError: module 'gaia2' has no attribute 'sqr'; did you mean 'sqrt'?
    """
    public, known = sorted(names), {**names, **(unlisted or {})}

    def __getattr__(name: str) -> Any:  # noqa: N807
        if name in known:
            module = importlib.import_module(known[name])
            value = module if known[name] == f"{package}.{name}" else getattr(module, name)
            if on_use is not None:
                on_use()
            return value
        if not name.startswith("_") and importlib.util.find_spec(f"{package}.{name}"):
            return importlib.import_module(f"{package}.{name}")
        near = difflib.get_close_matches(name, public, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        if on_use is not None and name[:1].isupper():
            hint += "; a class of your own is there once the module that puts @gaia2.register on it is imported"
        raise AttributeError(f"module {package!r} has no attribute {name!r}{hint}")

    def __dir__() -> list[str]:  # noqa: N807
        here = vars(importlib.import_module(package))
        return sorted({*public, *(name for name in here if name.startswith("__") and name != "__getattr__")})

    return __getattr__, __dir__, public
