"""Send a folder to a repository: one commit with everything, that can be interrupted and called again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from gaia2._checks import refuse
from gaia2.hub.card import LIBRARY
from gaia2.hub.facts import CARD, variant_of
from gaia2.hub.folder import Contents, contents
from gaia2.hub.problems import why_not_published

_NAME = r"[\w-]([\w.-]*[\w-])?"
_OF_THE_HUB = frozenset({".gitattributes", ".gitignore", "README.md", "LICENSE"})
"""Files that a repository may have from its making."""


@dataclass(frozen=True)
class Destination:
    """Where to publish.

    Attributes:
        repo_id: "namespace/name", or a name under the namespace of the token.
        token: Of the hub; by default the one that is logged in, or HF_TOKEN.
        private: Whether a new repository is private; the namespace's default if None.
        revision: Branch, which is made if it is not there.
        tag: Name for the version that is published.
        create_pr: Propose the change, in place of making it.
        subfolder: Folder in the repository.
        message: Of the commit.
        update: Whether a repository that has a model of this library already gets a new version.
    """

    repo_id: str
    token: str | bool | None = None
    private: bool | None = None
    revision: str | None = None
    tag: str | None = None
    create_pr: bool = False
    subfolder: str | None = None
    message: str | None = None
    update: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.repo_id, str) or not re.fullmatch(rf"({_NAME}/)?{_NAME}", self.repo_id):
            raise refuse("repo_id", "'namespace/name' of letters, digits, '-', '_' and '.'", self.repo_id)
        if self.create_pr and (self.revision or self.tag):
            raise ValueError("create_pr: expected no revision or tag with it, got one; a proposal is made to main")


@dataclass(frozen=True)
class Published:
    """What was published.

    Attributes:
        repo_id: The repository.
        commit: Its commit, which `revision=` takes.
        url: Of the commit.
        contents: The files.
    """

    repo_id: str
    commit: str
    url: str
    contents: Contents = field(repr=False)


def publish(folder: str | Path, to: Destination) -> Published:
    """Send a folder to a repository, which is made if it is not there.

    All files arrive in one commit, so that nobody loads half a version. An upload that was interrupted goes on where
    it was when the function is called again: files that have arrived are not sent twice. Weights of an earlier version
    that have no successor are removed.

    Args:
        folder: As `save_pretrained` writes it, or `gaia2.hub.staging.stage`.
        to: Where to.

    Raises:
        ValueError: If there is nothing to publish, a file is a pickle or holds something private, the token is
            missing or may not write there, or the name is taken.
        ConnectionError: If the hub cannot be reached.
    """
    files, api, owner = contents(folder), HfApi(token=to.token), _Owner()
    if CARD not in files.files and to.subfolder is None:
        raise ValueError(f"folder: expected a card, {CARD}, got none in {str(folder)!r}; gaia2.hub.stage writes one")
    try:
        owner = _who(api)
        repo_id = to.repo_id if "/" in to.repo_id else f"{owner.name}/{to.repo_id}"
        there = _make(api, repo_id, to)
        branch = to.revision or "main"
        if branch != "main":
            api.create_branch(repo_id, branch=branch, exist_ok=True)
            there = list(api.list_repo_files(repo_id, revision=branch))
        commit = api.create_commit(  # not upload_folder, which may divide what is large into several commits
            repo_id,
            _operations(Path(folder), files.files, _outdated(there, files.files, to.subfolder), to.subfolder),
            commit_message=to.message or f"Publish with {LIBRARY}",
            revision=None if branch == "main" else branch,
            create_pr=to.create_pr,
        )
        if to.tag is not None:
            api.create_tag(repo_id, tag=to.tag, revision=commit.oid)
    except _RefusedError:
        raise
    except Exception as error:
        raise why_not_published(error, to.repo_id, owner.name, owner.namespaces) from None
    return Published(repo_id, commit.oid, commit.commit_url, files)


@dataclass(frozen=True)
class _Owner:
    """Whose token it is."""

    name: str = ""
    namespaces: tuple[str, ...] = ()


class _RefusedError(ValueError):
    """Raised here, so that it needs no explanation."""


def _who(api: HfApi) -> _Owner:
    told = api.whoami()
    names = (told["name"], *(one["name"] for one in told.get("orgs", ())))
    role = told.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise _RefusedError(
            f"token: expected one with the role 'write', got one of {told['name']!r} that may only read; make another "
            "one in the settings of the hub"
        )
    return _Owner(told["name"], names)


def _make(api: HfApi, repo_id: str, to: Destination) -> list[str]:
    """Make the repository, or see that the one that is there may be written to; gives its files."""
    try:
        api.create_repo(repo_id, private=to.private, exist_ok=False)
        return []
    except HfHubHTTPError as error:
        if error.response.status_code != 409:
            raise
    info = api.model_info(repo_id)
    names = [sibling.rfilename for sibling in info.siblings or ()]
    library = _library_of(info) or (LIBRARY if to.subfolder is not None else None)
    if set(names) <= _OF_THE_HUB and library in (None, LIBRARY):
        return names  # new, or an upload to it was interrupted
    if library != LIBRARY:
        raise _RefusedError(
            f"repo_id: expected a new name, or a repository of {LIBRARY}, got {repo_id!r}, which is taken by one of "
            f"{library or 'another kind'}; choose another name"
        )
    if not to.update:
        raise _RefusedError(
            f"repo_id: expected a new name, got {repo_id!r}, which is taken by a model of yours; choose another name, "
            "or give --update to publish a new version"
        )
    if to.tag is not None and to.tag in {ref.name for ref in api.list_repo_refs(repo_id).tags}:
        raise _RefusedError(f"tag: expected a new one, got {to.tag!r}, which {repo_id!r} has already; choose another")
    return names


def _operations(
    folder: Path, files: Iterable[str], outdated: Iterable[str], subfolder: str | None
) -> list[CommitOperationAdd | CommitOperationDelete]:
    """What the commit does: add files, and delete those that are outdated."""
    before = f"{subfolder.strip('/')}/" if subfolder else ""
    deletions = [CommitOperationDelete(before + name, is_folder=False) for name in outdated]
    return [*deletions, *(CommitOperationAdd(before + name, folder / name) for name in files)]


def _library_of(info: Any) -> str | None:
    """The library that a repository's card names, if it has one."""
    data = info.card_data.to_dict() if info.card_data is not None else {}
    return data.get("library_name") or info.library_name or (LIBRARY if LIBRARY in (info.tags or ()) else None)


def _outdated(there: Iterable[str], files: Iterable[str], subfolder: str | None) -> list[str]:
    """Weights in the repository that what is published replaces under other names, by their path in the subfolder."""
    before = f"{subfolder.strip('/')}/" if subfolder else ""
    own, new = [name.removeprefix(before) for name in there if name.startswith(before)], set(files)
    folders = {(str(Path(name).parent), variant_of(name)) for name in new if name.endswith(".safetensors")}
    weights = [name for name in own if name.endswith(".safetensors") and name not in new]
    outdated = [name for name in weights if (str(Path(name).parent), variant_of(name)) in folders]
    single = {folder for folder, variant in folders if variant is None}
    indices = [name for name in own if name.endswith(".safetensors.index.json") and name not in new]
    return outdated + [name for name in indices if str(Path(name).parent) in single]
