"""`push_to_hub` for models, schedulers and pipelines."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gaia2.hub.staging import CardOptions, clean_configs, write_card

_OF_PUBLISHING = ("repo_id", "commit_message", "private", "token", "create_pr", "subfolder", "revision", "tag", "card")


class HubMixin:
    """Publishes what `save_pretrained` writes; put it before diffusers' classes."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike[str],
        *args: Any,
        safe_serialization: bool = True,
        variant: str | None = None,
        max_shard_size: int | str | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save to a folder; see diffusers.

        Args:
            save_directory: The folder.
            *args: diffusers' own options.
            safe_serialization: Write safetensors; False writes pickles, which this library does not read.
            variant: Part of the names of the weights: "bf16".
            max_shard_size: Bytes of a file of weights; diffusers' own by default.
            push_to_hub: Publish it too, under `repo_id`, or the folder's name.
            **kwargs: diffusers' own options, and those of `push_to_hub`.
        """
        published = {name: kwargs.pop(name) for name in _OF_PUBLISHING if name in kwargs}
        given: dict[str, Any] = {
            name: value for name, value in (("variant", variant), ("max_shard_size", max_shard_size)) if value
        }
        if not safe_serialization:
            kwargs["safe_serialization"] = False
        super().save_pretrained(os.fspath(save_directory), *args, **given, **kwargs)  # type: ignore[misc]
        if push_to_hub:
            self.push_to_hub(published.pop("repo_id", Path(save_directory).name), **published, **given)

    def push_to_hub(
        self,
        repo_id: str,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | None = None,
        create_pr: bool = False,
        safe_serialization: bool = True,
        variant: str | None = None,
        subfolder: str | None = None,
        *,
        max_shard_size: int | str = "5GB",
        revision: str | None = None,
        tag: str | None = None,
        card: CardOptions | None = None,
        facts: Mapping[str, Any] | None = None,
        dry_run: bool = False,
    ) -> str:
        """Publish the files that `save_pretrained` writes, with a card made of what they say.

        Args:
            repo_id: "namespace/name", or a name under the namespace of the token. A repository of this library gets a
                new version, one of another library is refused.
            commit_message: Of the commit.
            private: Whether a new repository is private.
            token: Of the hub; by default the one that is logged in, or HF_TOKEN.
            create_pr: Propose the change, in place of making it.
            safe_serialization: Must be true: pickles are not published.
            variant: Part of the names of the weights: "bf16".
            subfolder: Folder in the repository; there is no card then.
            max_shard_size: Bytes of a file of weights.
            revision: Branch, which is made if it is not there.
            tag: Name for this version.
            card: What the card says beside what is read.
            facts: Of the training, as `manifest.json` of the default model has them: commit, versions, options, data.
            dry_run: Send nothing; give every file with its size.

        Returns:
            Address of the commit; with `dry_run` the list of files.

        Raises:
            ValueError: If a file holds something private, the token is missing or may not write there, or the name
                is taken.
            ConnectionError: If the hub cannot be reached.
        """
        from gaia2.hub.folder import contents
        from gaia2.hub.publishing import Destination, publish

        if not safe_serialization:
            raise ValueError(
                "safe_serialization: expected True, got False, which writes pickles; safetensors are what is published"
            )
        to = Destination(repo_id, token, private, revision, tag, create_pr, subfolder, commit_message, update=True)
        with tempfile.TemporaryDirectory() as folder:
            self._save_for_hub(folder, variant=variant, max_shard_size=max_shard_size)
            clean_configs(folder)
            if facts is not None:
                text = json.dumps(dict(facts), indent=1, allow_nan=False)
                (Path(folder) / "manifest.json").write_text(text, encoding="utf-8")
            if subfolder is None:
                write_card(folder, repo_id, card)
            if dry_run:
                return str(contents(folder))
            return publish(folder, to).url

    def _save_for_hub(self, folder: str, **options: Any) -> None:
        """Save; schedulers have no weights, and take no options about them."""
        is_weightless = hasattr(self, "scheduler_config") or "Scheduler" in type(self).__name__
        self.save_pretrained(folder, **({} if is_weightless else options))  # type: ignore[attr-defined]
