"""What of a folder is published: models, configs, the card and pictures; no pickle, and nothing that is private."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gaia2.hub.safetensors_header import header_bytes

PUBLISHED = frozenset(
    {".safetensors", ".json", ".md", ".txt", ".yaml", ".yml"}
    | {".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg", ".mp4"}
)
NAMES = frozenset({"LICENSE", "NOTICE"})
PICKLES = frozenset([".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"])
"""Endings of files whose reading may run code that they bring."""

_QUOTED = rb"""["']?\s*[:=]\s*["']?[\w/+.-]{8,}"""
_SECRETS = {
    "a token of the hub": rb"\bhf_[A-Za-z0-9]{30,}",
    "a token of GitHub": rb"\b(gh[pousr]_[A-Za-z0-9]{36}|github_pat_\w{22})",
    "a key of AWS": rb"\b(AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of Slack": rb"\bxox[abprs]-[A-Za-z0-9-]{10}",
    "a secret key": rb"\bsk-[A-Za-z0-9_-]{32,}",
    "a private key": rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----",
    "a signed token": rb"\beyJ[\w-]{16,}\.eyJ[\w-]{16,}\.[\w-]{16,}",
    "a password in an address": rb"://[\w.%-]{1,64}:[\w.%!*-]{6,128}@[\w.-]+",
    "a password": rb"(?i)\b(password|passwd|api_?key|secret_?(access_)?key|client_secret|wandb_api_key)" + _QUOTED,
    "a path of your computer": rb"(/home/|/Users/|[A-Z]:\\\\?Users\\\\?)[\w.-]+",
}


@dataclass(frozen=True)
class Contents:
    """Files of a folder by their path there.

    Attributes:
        files: Bytes of each file that is published.
        left_out: Those that are not: logs, checkpoints, caches.
    """

    files: dict[str, int]
    left_out: tuple[str, ...]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def __str__(self) -> str:
        lines = [f"{size:>15,}  {path}" for path, size in self.files.items()]
        lines.append(f"{self.total:>15,}  in {len(self.files)} files")
        return "\n".join(lines + [f"{'left out':>15}  {path}" for path in self.left_out])


def contents(folder: str | Path) -> Contents:
    """What of a folder is published, read through for what is private.

    Args:
        folder: Of a pipeline, a model or a scheduler, as `save_pretrained` writes it.

    Raises:
        ValueError: If there is nothing to publish, a file is a pickle, or one holds something private.

    Example:
        >>> import gaia2
        >>> "transformer/config.json" in contents(gaia2.default_model()).files
        True
    """
    found = list_contents(folder)
    for name in found.files:
        refuse_secrets(Path(folder) / name, name)
    return found


def list_contents(folder: str | Path) -> Contents:
    """`contents` by the files' names alone.

    Raises:
        ValueError: If there is nothing to publish, or a file is a pickle.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"folder: expected a folder that save_pretrained wrote, got {str(folder)!r}, which is none")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    refuse_pickles(names, str(folder), "convert it: load it where you trust it, and save_pretrained writes safetensors")
    kept = [name for name in names if is_published(name)]
    if not any(name.endswith(".json") for name in kept):
        raise ValueError(
            f"folder: expected a folder that save_pretrained wrote, got {str(folder)!r}, which has no config in it"
        )
    return Contents(
        {name: (folder / name).stat().st_size for name in kept}, tuple(name for name in names if name not in kept)
    )


def is_published(name: str) -> bool:
    """Whether a file of this path is of a kind that is published; hidden ones are not."""
    path = Path(name)
    hidden = any(part.startswith((".", "__")) for part in path.parts)
    return not hidden and (path.suffix.lower() in PUBLISHED or path.name in NAMES)


def sha256(path: str | Path) -> str:
    """The hash of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_pickles(names: Iterable[str], place: str, remedy: str) -> None:
    """Raise if there is a pickle among files.

    Raises:
        ValueError: If there is; it names them.

    Example:
        >>> refuse_pickles(["vae/config.json", "vae/weights.bin"], "org/name", "ask its author")
        Traceback (most recent call last):
        ...
        ValueError: org/name: expected safetensors and no pickle, got vae/weights.bin, which may run code when it is ...
    """
    found = [name for name in names if Path(name).suffix.lower() in PICKLES]
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise ValueError(
            f"{place}: expected safetensors and no pickle, got {', '.join(found[:3])}{more}, which may run code when "
            f"it is read; {remedy}"
        )


def refuse_secrets(path: Path, name: str) -> None:
    """Raise if a file, or the header of weights, holds what looks private.

    Raises:
        ValueError: If it does; it says of which kind and in which line, and not the secret itself.
    """
    content = header_bytes(path) if path.suffix == ".safetensors" else path.read_bytes()
    for kind, pattern in _SECRETS.items():
        found = re.search(pattern, content)
        if found:
            line = content.count(b"\n", 0, found.start()) + 1
            raise ValueError(
                f"{name}: expected nothing private in what is published, got {kind} in line {line}; take it out"
            )
