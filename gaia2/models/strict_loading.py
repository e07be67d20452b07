"""Loading that succeeds or says why not: weights that do not fit are refused, a folder that is not there is named.

diffusers itself warns of tensors that are missing or foreign, and goes on with random ones.
"""

from __future__ import annotations

import difflib
import os
import re
import traceback
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from gaia2._checks import refuse
from gaia2.hub.mixin import HubMixin

SHOWN = 3
REPOSITORY = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
DAMAGES = (OSError, SafetensorError, KeyError, AttributeError, TypeError, RuntimeError, ValueError)
"""What diffusers raises where a folder does not hold what it should."""

LIBRARY = Path(__file__).parents[1]


def check_source(source: Any, name: str = "pretrained_model_name_or_path") -> None:
    """Check that something to load from is a folder, or may be the id of a repository.

    Args:
        source: The something.
        name: The argument's name.

    Raises:
        ValueError: If it is none of them; the message has the nearest folder.

    Example:
        >>> check_source("/models/of nobody")
        Traceback (most recent call last):
        ...
        ValueError: pretrained_model_name_or_path: expected a folder, or the id of a repository, got ...; there is ...
    """
    if not isinstance(source, str | os.PathLike) or not str(source):
        raise refuse(name, "a folder, or the id of a repository", source)
    folder = Path(source)
    if folder.is_dir():
        return
    beside = folder.parent
    near: list[str] = []
    if folder.is_absolute() or str(beside) != ".":
        names = sorted(path.name for path in beside.iterdir() if path.is_dir()) if beside.is_dir() else []
        near = difflib.get_close_matches(folder.name, names, n=1)
    if near or not REPOSITORY.fullmatch(str(source)) or (beside.is_dir() and str(beside) != "."):
        hint = "there is no such folder" + (f", did you mean {str(beside / near[0])!r}?" if near else "")
        raise refuse(name, "a folder, or the id of a repository", str(source), hint)


def loading_error(source: Any, what: str, error: Exception) -> Exception:
    """The error that says what could not be loaded from where, and why; one that this library raised stays."""
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if isinstance(error, ValueError | OSError) and LIBRARY in Path(raised_in).parents:
        return error
    reason = " ".join(str(error).split())[:300] or type(error).__name__
    if Path(source).is_dir():
        return ValueError(f"{source}: expected a complete {what} in this folder, got one that does not load ({reason})")
    return ValueError(
        f"pretrained_model_name_or_path: expected a folder, or the id of a repository, got {str(source)!r}: there is "
        f"no such folder, and the hub gave nothing ({reason})"
    )


class StrictLoading(HubMixin):
    """A diffusers model that loads only weights with all of its tensors and no others, from safetensors."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, **kwargs: Any) -> Any:
        """Load a model from a folder or the hub; see diffusers.

        Args:
            pretrained_model_name_or_path: The folder, or the id of a repository.
            **kwargs: diffusers' own options; with `output_loading_info` missing and foreign tensors are told there.

        Raises:
            ValueError: If there is nothing to load, tensors are missing, foreign or of another shape, a file is
                damaged, or the weights are pickles.
            ConnectionError: If a repository is neither in the cache nor to be reached.
        """
        from gaia2.hub.loading import load_pinned, no_pickles

        source, wants_info = pretrained_model_name_or_path, kwargs.pop("output_loading_info", False)
        check_source(source)
        kwargs = no_pickles(source, kwargs, kwargs.get("subfolder") or "")
        kwargs["output_loading_info"] = True
        load = super().from_pretrained  # type: ignore[misc]
        try:
            model, info = load(source, **kwargs) if Path(source).is_dir() else load_pinned(str(source), load, kwargs)
        except DAMAGES as error:
            raise loading_error(source, cls.__name__, error) from None
        if wants_info:
            return model, info
        for key, fault in (("missing_keys", "lack"), ("unexpected_keys", "have the foreign"), ("error_msgs", "give")):
            names = sorted(map(str, info.get(key) or ()))
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                raise ValueError(
                    f"{source}: expected the weights of a {cls.__name__} of this config, got some that {fault} "
                    f"{', '.join(names[:SHOWN])}{more}; are they of another model or another version?"
                )
        return model
