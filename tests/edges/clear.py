"""What a clear refusal is: the one definition that all tests of bad input go by."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import gaia2

LIBRARY = str(Path(gaia2.__file__).parent) + os.sep
SECONDS = 1.0
HANGS_AFTER = 20.0  # seconds of the clock, on a machine that may be busy


@dataclass(frozen=True)
class Case:
    """A call with one bad argument.

    Attributes:
        title: The call, for people.
        call: Makes it.
        names: Words of which the message has to hold one: the argument's name, or what else the caller calls it.
        command: Whether the call runs the command line, and gives its status and what it said.
    """

    title: str
    call: Callable[[], object]
    names: tuple[str, ...]
    command: bool = False


def why_unclear(case: Case) -> str | None:
    """None if the refusal of a bad call is clear, else what is wrong with it.

    Clear is: a ValueError, or a TypeError or OSError, raised by the library itself, within a second, whose message
    holds the argument's name, what was expected and what came. On the command line it is status 2 and such a message in
    one line.
    """
    began = time.process_time()
    try:
        with _time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = case.call()
    except Exception as error:
        return _fault(error, case.names, time.process_time() - began)
    return _fault_of_command(result, case.names) if case.command else "accepted"


def _fault_of_command(result: object, names: tuple[str, ...]) -> str | None:
    status, said = result  # type: ignore[misc]
    if status == 0:
        return "accepted"
    lines = said.strip().splitlines()
    if status != 2 or len(lines) != 1 or not lines[0].startswith("gaia2: "):
        return f"not one line and status 2, but {status}: {said!r}"
    return _fault_of_message(lines[0], names)


def _fault(error: Exception, names: tuple[str, ...], seconds: float) -> str | None:
    message = f"{type(error).__name__}: {error}"
    if not isinstance(error, ValueError | TypeError | OSError):
        return f"another kind of error: {message}"
    raised_in = traceback.extract_tb(error.__traceback__)[-1].filename
    if not raised_in.startswith(LIBRARY):
        return f"raised in {Path(raised_in).name}: {message}"
    if seconds > SECONDS:
        return f"after {seconds:.1f} s: {message}"
    return _fault_of_message(message, names)


def _fault_of_message(message: str, names: tuple[str, ...]) -> str | None:
    if not any(re.search(rf"(?<![a-z_]){re.escape(name)}(?![a-z])", message) for name in names):
        return f"does not name {' or '.join(names)}: {message}"
    if not re.search("expected|unknown", message, re.IGNORECASE):
        return f"does not say what was expected: {message}"
    if not re.search(r"\bgot\b|unknown \w+ .|found none|no such folder|no file ", message):
        return f"does not say what came: {message}"
    return None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise RuntimeError(f"still running after {HANGS_AFTER:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANGS_AFTER)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
