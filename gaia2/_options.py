"""Checks of the options of the command line, before anything is loaded or computed; messages name the option."""

from __future__ import annotations

import difflib
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gaia2._checks import real_number, refuse, whole_number

VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov")
MAX_SECONDS = 86_400.0
MAX_SCALE = 16
KINDS = {"INT": "a whole number", "FLOAT": "a number", "": "another value"}


def check_sampling(sampling: Any) -> None:
    """Check the numbers of `SamplingOptions`.

    Raises:
        ValueError: If one is out of range.
    """
    whole_number("--steps", sampling.num_inference_steps, 1, 10_000)
    if sampling.guidance is not None:
        real_number("--guidance", sampling.guidance, 0, 1000, hint="1 is none, 2 to 20 are usual")
    first, last = sampling.guidance_interval
    for tau in (first, last):
        real_number("--guidance-interval", tau, 0, 1, what="flow times")
    if not first < last:
        raise refuse("--guidance-interval", "two rising flow times", (first, last))
    if sampling.overlap is not None:
        whole_number("--overlap", sampling.overlap, 1, 1000)
    whole_number("--seed", sampling.seed, 0, 2**63 - 1)


def check_length(options: Any) -> None:
    """Check the numbers of `Generate` that say what times to make.

    Raises:
        ValueError: If one is out of range.
    """
    whole_number("--scale", options.scale, 1, MAX_SCALE)
    real_number("--frame-rate", options.frame_rate, 1e-3, 1e4, what="frames per second")
    for option, seconds in (("--seconds", options.seconds), ("--context-seconds", options.context_seconds)):
        real_number(option, seconds, 0, MAX_SECONDS, what="seconds")
    real_number("--start", options.start, 0, what="seconds from the first frame")


def check_model(model: str) -> None:
    """Check that the model is a folder, or may be the id of a repository.

    Raises:
        ValueError: If it is none of them.
    """
    from gaia2.models.strict_loading import check_source

    check_source(model, "--model")


def check_per_frame(name: str, value: float) -> None:
    """Check a number that holds for every frame.

    Raises:
        ValueError: If it is none.
    """
    real_number(f"--{name.replace('_', '-')}", value, hint="leave the option out where it is not known")


def choose_device(name: str) -> str:
    """The device to compute on.

    Args:
        name: "auto", or torch's name of one.

    Returns:
        Torch's name of a device that is there.

    Raises:
        ValueError: If there is no such device.

    Example:
        >>> choose_device("cpu")
        'cpu'
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).add(1)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError, ValueError) as error:
        reason = (" ".join(str(error).split()) or "it is not there").split(". ")[0][:120]
        raise refuse("--device", "auto, cpu, or an accelerator that is there, such as cuda:0", name, reason) from None
    if device.type == "meta":
        raise refuse("--device", "auto, cpu, or an accelerator", name, "meta computes nothing")
    return name


def parser_message(text: str, words: list[str]) -> str:
    """What the parser refuses, in the form of all messages.

    Args:
        text: What it said.
        words: The command line.

    Example:
        >>> parser_message("Error parsing --steps: invalid ... --steps INT Denoising", ["generate", "--steps", "many"])
        "--steps: expected a whole number, got 'many'"
    """
    choice = re.search(r"invalid choice '(.*?)' for argument '(--[\w-]+)'\. Expected one of \((.*?)\)", text)
    if choice:
        options = [name for name in re.findall(r"'(.*?)'", choice[3]) if name != "None"]
        near = difflib.get_close_matches(choice[1], options, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{choice[2]}: expected one of {', '.join(sorted(options))}, got {choice[1]!r}{hint}"
    named = re.search(r"(?:Error parsing |Missing value for argument ')(--[\w-]+)", text)
    if named:
        number = re.search(r"Expected (\d+) values", text)
        kind = re.search(rf"{named[1]} (?:\{{None\}}\|)?(INT|FLOAT)", text)
        expected = f"{number[1]} values" if number else KINDS[kind[1] if kind else ""]
        return f"{named[1]}: expected {expected}, got {_given(named[1], words)!r}"
    unknown = re.search(r"Unrecognized options: ([^;]*)", text)
    if unknown:
        return f"expected options that there are, got {unknown[1].strip().replace(', ', ' ')!r}"
    return text


def _given(option: str, words: list[str]) -> str:
    """What stands after an option."""
    after = words[words.index(option) + 1 :] if option in words else []
    until = next((index for index, word in enumerate(after) if word.startswith("--")), len(after))
    return " ".join(after[:until])


def try_out(path: Path, beside: Iterable[Path] = ()) -> None:
    """See that a video can be written, and the files beside it; nothing is left behind.

    Args:
        path: The video.
        beside: The other files.

    Raises:
        ValueError: If the name is none of a video, or is taken by a folder, or the folder cannot be written to.
    """
    if path.suffix not in VIDEO_SUFFIXES:
        raise ValueError(f"--out: expected a file ending in one of {', '.join(VIDEO_SUFFIXES)}, got {path}")
    for file in (path, *beside):
        if file.is_dir():
            raise ValueError(f"--out: expected a file to write, got a folder at {file}; choose another name")
    try_folder(path.parent)


def try_folder(folder: Path) -> None:
    """See that files can be written into a folder, which need not be there; nothing is left behind.

    Raises:
        ValueError: If they cannot.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ValueError(
            f"--out: expected a folder that can be written to, got {folder} ({error.strerror or error}); "
            "choose another one"
        ) from None
