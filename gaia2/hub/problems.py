"""What a hub's refusals mean, in one sentence with the remedy."""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)

SOURCE = "pretrained_model_name_or_path"
LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def is_no_network(error: BaseException) -> bool:
    """Whether a hub was not reached at all, whatever library of requests says so."""
    names = {cls.__name__ for one in chain(error) for cls in type(one).__mro__}
    return bool(names & {"TransportError", "ConnectError", "TimeoutException", "ConnectionError"})


def why_not_loaded(
    error: BaseException, repo_id: str, revision: str | None = None, token: str | bool | None = None
) -> Exception | None:
    """The error that says why nothing was loaded from a repository; None if the hub is not why.

    Args:
        error: What was raised.
        repo_id: The repository.
        revision: The branch, tag or commit that was asked for.
        token: That was given.
    """
    causes = list(chain(error))
    for one in causes:
        if isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT):
            return no_space(cache_folder())
        if isinstance(one, RevisionNotFoundError):
            return _no_revision(repo_id, revision, token)
        if isinstance(one, GatedRepoError):
            return ValueError(
                f"{SOURCE}: expected a repository that you may read, got {repo_id!r}, which is gated; ask for access "
                f"on its page, then {LOG_IN}"
            )
        if isinstance(one, RepositoryNotFoundError):
            return ValueError(
                f"{SOURCE}: expected a folder, or the id of a repository, got {repo_id!r}: there is no such folder, "
                f"and the hub has no such public repository; check the name, or {LOG_IN} if it is private"
            )
        if isinstance(one, RemoteEntryNotFoundError):
            return ValueError(f"{SOURCE}: expected a complete model in {repo_id!r}, got one without {_file(one)}")
        if isinstance(one, HfHubHTTPError) and one.response.status_code == 401:
            return ValueError(f"token: expected one that the hub knows, got one that it refuses; {LOG_IN}")
        if "Consistency check failed" in str(one):
            return ValueError(
                f"{SOURCE}: expected whole files from {repo_id!r}, got one that was cut on its way ({_short(one)}); "
                "call again with force_download=True"
            )
    offline = (OfflineModeIsEnabled, LocalEntryNotFoundError, RevisionResolutionError)
    if constants.is_offline_mode() and any(isinstance(one, offline) for one in causes):
        return ValueError(
            f"{SOURCE}: expected {repo_id!r} in the cache, as HF_HUB_OFFLINE is set, got nothing in {cache_folder()}; "
            "unset it, and load the model once with a network"
        )
    if is_no_network(error):
        return ConnectionError(
            f"{SOURCE}: expected {repo_id!r} in the cache, or a network to {constants.ENDPOINT}, got neither "
            f"({_short(causes[-1])}); connect, check HF_ENDPOINT and proxies, or name a folder"
        )
    if any(isinstance(one, offline) for one in causes):
        return ValueError(
            f"{SOURCE}: expected a folder, or {repo_id!r} in the cache, got neither; leave out local_files_only, and "
            "load it once with a network"
        )
    return None


def why_not_published(error: BaseException, repo_id: str, user: str = "", owners: Iterable[str] = ()) -> Exception:
    """The error that says why nothing was published, and what to do.

    Args:
        error: What was raised.
        repo_id: The repository.
        user: Whose token it is, as far as it is known.
        owners: Namespaces that the user may write to.
    """
    for one in chain(error):
        if isinstance(one, LocalTokenNotFoundError):
            return ValueError(f"token: expected one that may write to {repo_id!r}, got none; {LOG_IN}")
        status = one.response.status_code if isinstance(one, HfHubHTTPError) else None
        if status == 401:
            return ValueError(
                f"token: expected one that may write to {repo_id!r}, got one that the hub refuses, or none; {LOG_IN}"
            )
        if status == 403:
            may = ", ".join(dict.fromkeys(owners)) or "nothing"
            return ValueError(
                f"repo_id: expected a namespace that your token may write to, got {repo_id!r}; {user or 'you'} may "
                f"write to {may}, if the token has the role 'write'"
            )
        if status == 413:
            return ValueError(f"folder: expected files that the hub takes, got some that are too large; {_short(one)}")
        if status is not None and status >= 500:
            return ConnectionError(
                f"{repo_id}: expected the hub to answer, got status {status}; what was sent is kept, call it again "
                "to go on"
            )
    if constants.is_offline_mode():
        return ConnectionError(f"{repo_id}: expected a hub that may be asked, got HF_HUB_OFFLINE; unset it to publish")
    if is_no_network(error):
        return ConnectionError(
            f"{repo_id}: expected a network to {constants.ENDPOINT}, got none ({_short(error)}); what was sent is "
            "kept, call it again to go on"
        )
    return ValueError(f"{repo_id}: expected the hub to take the files, got a refusal: {_short(error)}")


def no_space(folder: Path, needed: int | None = None, free: int | None = None) -> OSError:
    """The error that says that a disk is full."""
    space = f"{needed:,} free bytes" if needed is not None else "more free space"
    got = f"{free:,}" if free is not None else "none left"
    return OSError(
        errno.ENOSPC,
        f"cache_dir: expected {space} in {folder}, got {got}; remove what is not needed (`hf cache prune`), or name "
        "another disk with cache_dir or HF_HOME",
    )


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Where downloads are kept."""
    return Path(cache_dir or constants.HF_HUB_CACHE).expanduser()


def _no_revision(repo_id: str, revision: str | None, token: str | bool | None) -> Exception:
    try:
        refs = HfApi(token=token).list_repo_refs(repo_id)
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
    except Exception:  # the message is about something else
        names = []
    near = difflib.get_close_matches(revision or "", names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(names[:8])}" if names else ""
    return ValueError(f"revision: expected a branch, tag or commit of {repo_id!r}, got {revision!r}{hint}")


def _file(error: BaseException) -> str:
    """The file that a hub has not got."""
    response = getattr(error, "response", None)
    return str(response.url).rpartition("/resolve/")[2].partition("/")[2] if response is not None else "a file"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
