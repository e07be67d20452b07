"""Checks of a repository before it is loaded from, and of what came: kind, revision, space, sizes, no pickles."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, get_cached_repo_tree, hf_hub_download, resolve_revision
from huggingface_hub.errors import CachedRepoTreeNotFoundError
from huggingface_hub.hf_api import RepoFile

from gaia2.hub.facts import read_json, variant_of
from gaia2.hub.folder import refuse_pickles
from gaia2.hub.problems import SOURCE, cache_folder, is_no_network, no_space, why_not_loaded

_LOG = logging.getLogger(__name__)
_MARGIN = 10_000_000  # bytes that a download needs beside its files


@dataclass(frozen=True)
class Repository:
    """A repository at one commit.

    Attributes:
        repo_id: Its id.
        revision: The commit's hash.
        files: Bytes of each file; None where the hub was not asked, as everything has to be in the cache.
    """

    repo_id: str
    revision: str
    files: dict[str, int] | None


def look(repo_id: str, subfolder: str | None = None, variant: str | None = None, **options: Any) -> Repository:
    """Look at a repository before anything large is loaded.

    Args:
        repo_id: The repository.
        subfolder: Of what is loaded; all of it if None.
        variant: Number format of the weights that is asked for.
        **options: `revision`, `token`, `cache_dir`, `local_files_only` as diffusers takes them; others are ignored.

    Raises:
        ValueError: If there is no such repository or revision, it holds a pickle or has no such variant, or it is
            not in the cache and may not be asked for.
        ConnectionError: If the hub cannot be reached and nothing is in the cache.
        OSError: If the disk of the cache has no room for it.
    """
    revision, token = options.get("revision"), options.get("token")
    cache_dir, local = options.get("cache_dir"), bool(options.get("local_files_only")) or constants.is_offline_mode()
    try:
        found = resolve_revision(
            repo_id, revision=revision, token=token, cache_dir=cache_dir, local_files_only=bool(local)
        )
        files = None if local else _listed(repo_id, found.resolved, token)
    except Exception as error:
        said = why_not_loaded(error, repo_id, revision, token)
        if said is None:
            raise
        raise said from None
    if files is not None:
        inside = f"{subfolder.strip('/')}/" if subfolder else ""
        refuse_pickles(
            [name for name in files if name.startswith(inside)],
            f"{SOURCE} {repo_id!r}",
            "ask its author for safetensors",
        )
        _check_variant(repo_id, [name for name in files if name.startswith(inside)], variant)
        wanted = {n: size for n, size in files.items() if n.startswith(inside) and variant_of(n) in (None, variant)}
        _check_space(repo_id, found.resolved, wanted, cache_folder(cache_dir))
    repository = Repository(repo_id, found.resolved, files)
    remove_cut(repository, cache_dir)
    return repository


def check_pipeline(repository: Repository, given: Mapping[str, Any], **options: Any) -> None:
    """Check that a repository is one of a pipeline of ours, by its index.

    Args:
        repository: As `look` gives it.
        given: Components that are given, and not loaded.
        **options: Of `hf_hub_download`.

    Raises:
        ValueError: If it is another library's.
    """
    repo_id = repository.repo_id
    if repository.files is not None and "model_index.json" not in repository.files:
        raise ValueError(
            f"{SOURCE}: expected a pipeline of gaia2, got {repo_id!r}, a repository without model_index.json; a single "
            "model is loaded with its class, as in gaia2.VideoTokenizer.from_pretrained"
        )
    try:
        path = hf_hub_download(repo_id, "model_index.json", revision=repository.revision, **options)
    except Exception as error:
        said = why_not_loaded(error, repo_id, repository.revision, options.get("token"))
        if said is None:
            raise
        raise said from None
    index = read_json(Path(path))
    foreign = [name for name in ("vae", "transformer") if name not in given and _library(index, name) != "gaia2"]
    if foreign:
        raise ValueError(
            f"{SOURCE}: expected a pipeline of gaia2, got {repo_id!r}, one of {index.get('_class_name')!r} whose "
            f"{foreign[0]} is of {_library(index, foreign[0])!r}; load it with diffusers.DiffusionPipeline"
        )


def remove_cut(repository: Repository, cache_dir: str | os.PathLike[str] | None = None) -> None:
    """Remove files from the cache that are shorter than the hub says, so that they are downloaded again.

    Args:
        repository: As `look` gives it.
        cache_dir: Of the cache.

    Raises:
        ValueError: If there are any and the hub may not be asked.
    """
    for name, size, path in _cut(repository, cache_dir):
        said = f"expected {size:,} bytes of {name} of {repository.repo_id!r}, got {path.stat().st_size:,} in the cache"
        if repository.files is None:
            raise ValueError(f"{SOURCE}: {said}, so it was cut; load it once with a network, which mends it")
        _LOG.warning("%s; downloading it again", said)
        path.resolve().unlink()
        path.unlink(missing_ok=True)


def check_downloaded(repository: Repository, cache_dir: str | os.PathLike[str] | None = None) -> None:
    """Check that files that came are as long as the hub says.

    Args:
        repository: As `look` gives it.
        cache_dir: Of the cache.

    Raises:
        ValueError: If one was cut.
    """
    for name, size, path in _cut(repository, cache_dir):
        raise ValueError(
            f"{SOURCE}: expected whole files from {repository.repo_id!r}, got {path.stat().st_size:,} of {size:,} "
            f"bytes of {name}; call again"
        )


def _cut(repository: Repository, cache_dir: str | os.PathLike[str] | None) -> list[tuple[str, int, Path]]:
    """Name, right size and path of files in the cache that have another size."""
    files, folder = repository.files, _snapshot(repository.repo_id, repository.revision, cache_folder(cache_dir))
    if files is None:
        try:
            tree = get_cached_repo_tree(
                repository.repo_id, revision=repository.revision, cache_dir=cache_folder(cache_dir)
            )
            files = {entry.path: entry.size for entry in tree}
        except (CachedRepoTreeNotFoundError, OSError):  # a single model's download keeps no list
            files = {}
    there = [(name, size, folder / name) for name, size in files.items()]
    return [(name, size, path) for name, size, path in there if path.is_file() and path.stat().st_size != size]


def _snapshot(repo_id: str, revision: str, cache: Path) -> Path:
    return cache / f"models--{repo_id.replace('/', '--')}" / "snapshots" / revision


def _listed(repo_id: str, revision: str, token: str | bool | None) -> dict[str, int] | None:
    """Bytes of each file; None if the hub cannot be reached, so that the cache has to do."""
    try:
        entries = HfApi(token=token).list_repo_tree(repo_id, recursive=True, revision=revision)
        return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    except Exception as error:
        if not is_no_network(error):
            raise
        _LOG.warning("%s: no network to %s; taking what is in the cache", repo_id, constants.ENDPOINT)
        return None


def _check_variant(repo_id: str, names: list[str], variant: str | None) -> None:
    weights = [name for name in names if name.endswith(".safetensors")]
    known = sorted({own for own in map(variant_of, weights) if own is not None})
    if variant is not None and weights and variant not in known:
        has = f"it has {', '.join(known)}" if known else "it has none: leave it out"
        raise ValueError(f"variant: expected one of {repo_id!r}, got {variant!r}; {has}")


def _check_space(repo_id: str, revision: str, files: Mapping[str, int], cache: Path) -> None:
    snapshot = _snapshot(repo_id, revision, cache)
    missing = [size for name, size in files.items() if not (snapshot / name).exists()]
    existing = next(folder for folder in (cache, *cache.absolute().parents) if folder.is_dir())
    free, needed = shutil.disk_usage(existing).free, sum(missing)
    if missing and free < needed + _MARGIN:
        raise no_space(cache, needed + _MARGIN, free)


def _library(index: Mapping[str, Any], name: str) -> str | None:
    said = index.get(name)
    return said[0] if isinstance(said, list) and said else None
