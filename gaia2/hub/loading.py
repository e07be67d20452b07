"""Loading from a repository: looked at before, pinned to one commit, checked after."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gaia2.hub.folder import PICKLES, refuse_pickles
from gaia2.hub.problems import SOURCE, why_not_loaded
from gaia2.hub.repository import Repository, check_downloaded, check_pipeline, look

_OF_DOWNLOADS = ("token", "cache_dir", "force_download", "local_files_only")


def no_pickles(source: str | os.PathLike[str], options: dict[str, Any], subfolder: str | None = None) -> dict[str, Any]:
    """Options of diffusers that let it read safetensors alone.

    Raises:
        ValueError: If pickles are asked for, or the folder has nothing else.
    """
    if options.get("use_safetensors") is False:
        raise ValueError("use_safetensors: expected True, got False, which reads pickles; they may run code")
    folder = Path(source) / (subfolder or "")
    if folder.is_dir() and subfolder is not None and not any(folder.glob("*.safetensors")):
        names = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        refuse_pickles(names, f"{SOURCE} {str(source)!r}", "convert them where you trust them")
    return {**options, "use_safetensors": True}


def pin(repo_id: str, options: dict[str, Any]) -> tuple[Repository, dict[str, Any]]:
    """Look at a repository, and give diffusers' options for the one commit that was looked at.

    Raises:
        ValueError: See `look`.
        ConnectionError: See `look`.
    """
    found = look(repo_id, **options)
    pinned = {**options, "revision": found.revision}
    return found, pinned if found.files is not None else {**pinned, "local_files_only": True}


def load_pinned(repo_id: str, load: Callable[..., Any], options: dict[str, Any]) -> Any:
    """What `load` gives for a repository, at one commit.

    Args:
        repo_id: The repository.
        load: Takes it and diffusers' options.
        options: Of diffusers.

    Raises:
        ValueError: If there is no such repository or revision, it holds a pickle, or a file was cut.
        ConnectionError: If the hub cannot be reached and nothing is in the cache.
    """
    revision = options.get("revision")
    _, pinned = pin(repo_id, options)
    try:
        return load(repo_id, **pinned)
    except Exception as error:
        raise (why_not_loaded(error, repo_id, revision, options.get("token")) or error) from None


def download_pipeline(repo_id: str, download: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Folder of a pipeline in the cache, downloaded where it is not there, and checked.

    Args:
        repo_id: The repository.
        download: diffusers' own.
        options: Of diffusers, and components that are given.

    Raises:
        ValueError: If it is no pipeline of this library, holds a pickle, has no such revision or variant, or a file
            was cut.
        ConnectionError: If the hub cannot be reached and nothing is in the cache.
    """
    found, pinned = pin(repo_id, no_pickles(repo_id, options))
    check_pipeline(found, options, **{name: pinned[name] for name in _OF_DOWNLOADS if pinned.get(name) is not None})
    try:
        folder = download(repo_id, **pinned)
    except Exception as error:
        raise (why_not_loaded(error, repo_id, options.get("revision"), options.get("token")) or error) from None
    check_downloaded(found, options.get("cache_dir"))
    return folder
