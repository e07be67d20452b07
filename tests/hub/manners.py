"""Whom a hub knows, how it refuses, and how it misbehaves on demand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class User:
    """Who a token belongs to."""

    name: str
    organizations: tuple[str, ...] = ()
    may_write: bool = True


class RefusalError(Exception):
    """An answer that is an error: status, and what `X-Error-Code` and `X-Error-Message` say."""

    def __init__(self, status: int, code: str = "", message: str = "", **body: Any) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.body = status, code, message, body


@dataclass
class Faults:
    """How it misbehaves: what is left of each fault."""

    uploads_before_cut: int | None = None
    """After so many large files the next one's connection is cut in its middle, once."""
    downloads_cut: int = 0
    """So many downloads of large files are cut in their middle."""
    downloads_short: bool = False
    """Whether large files are served without their second half, as if that were all."""
    errors: int = 0
    """So many requests for a commit are answered with status 500."""
