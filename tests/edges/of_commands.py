"""Bad options of the command line. Each is refused with one line and status 2."""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
from unittest import mock

from gaia2 import cli
from tests.edges.clear import Case
from tests.test_cli import tiny

BAD = {
    "--steps": ("0", "-1", "1.5", "9999999999999999999999", "many", "nan", "10001", "", "1e3"),
    "--guidance": ("-1", "nan", "inf", "1e300", "1e38", "x", "-inf"),
    "--guidance-on": ("wether", "x y", "5"),
    "--guidance-region": ("cars", "all", "5"),
    "--guidance-interval": ("0.5 0.1", "0 2", "nan 1", "0.5", "-0.1 1", "a b"),
    "--solver": ("eular", "rk4", "5"),
    "--grid": ("cosine", "log", "1"),
    "--overlap": ("0", "-1", "99", "x", "1.5", "3"),
    "--seed": ("-1", "99999999999999999999", "x", "1.5", "nan"),
    "--model": ("/nowhere/at/all", "./nowhere", "no such model", "a/b/c"),
    "--device": ("cuda", "CPU", "foo", "mps", "cuda:9", "meta", "5", "cpu:x", "gpu"),
    "--speed": ("nan", "inf", "1e38", "500", "fast", "-inf", "-200"),
    "--curvature": ("nan", "inf", "3", "left", "-1e9"),
    "--weather": ("hail", "rainy", "5"),
    "--country": ("france", "UK", "1"),
    "--speed-limit": ("31", "x", "-1", "1.5", "99999999999999999999"),
    "--number-of-lanes": ("0", "7", "two"),
    "--bus-lane": ("maybe", "2"),
    "--scene": ("/nowhere.json", "/", "/dev/null"),
    "--argoverse2": ("/nowhere", "/"),
    "--comma2k19": ("/nowhere", "/"),
    "--rig": ("lorry", "5", "fronts"),
    "--start": ("-1", "nan", "inf", "x", "1"),
    "--seconds": ("0", "-1", "inf", "nan", "1e300", "0.01", "x", "1e9"),
    "--frame-rate": ("0", "-10", "inf", "nan", "1e300", "1e-300", "x", "1e9"),
    "--context": ("/nowhere.mp4", "/", "/dev/null"),
    "--context-seconds": ("nan", "inf", "-1", "x", "1e300"),
    "--out": ("video.txt", "video", "/proc/none/video.mp4", "/dev/null/video.mp4", "/"),
    "--scale": ("0", "-1", "1.5", "x", "99999999999"),
    "--boxes": ("maybe",),
    "--nonsense": ("1",),
}
"""Options, and values that none of them can have."""

WORDS = {
    "--guidance-on": ("guidance_on",),
    "--speed": ("speed",),
    "--curvature": ("curvature",),
    "--speed-limit": ("speed_limit",),
    "--number-of-lanes": ("number_of_lanes",),
    "--overlap": ("num_context_latents", "overlap"),
    "--scene": ("scene", "nowhere.json", "null"),
    "--argoverse2": ("nowhere", "/", "argoverse2"),
    "--comma2k19": ("nowhere", "/", "comma2k19"),
    "--context": ("path", "context"),
    "--nonsense": ("nonsense",),
    "--boxes": ("maybe",),
}


def make(rng: random.Random) -> Case:
    option = rng.choice(sorted(BAD))
    value = rng.choice(BAD[option])
    words = [option, value] if option == "--model" or not value else [option, *value.split()]

    names = (option, option.strip("-"), *WORDS.get(option, ()))
    return Case(f"gaia2 generate {' '.join(words)}", lambda: run(words, option), names, command=True)


def run(words: list[str], option: str) -> tuple[object, str]:
    """Run the command with tiny models; gives its status and what it said."""
    said = io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(said))
        stack.enter_context(contextlib.redirect_stderr(said))
        if option not in ("--model", "--device"):
            stack.enter_context(mock.patch.object(cli, "load_pipeline", return_value=tiny()))
        fixed = [] if option in ("--rig", "--scene", "--argoverse2", "--comma2k19") else ["--rig", "front"]
        fixed += [] if option == "--seconds" else ["--seconds", "0.8"]
        fixed += [] if option == "--steps" else ["--steps", "1"]
        fixed += ["--guidance", "2"] if option == "--guidance-on" else []
        try:
            return cli.main(["generate", *fixed, *words]), said.getvalue()
        except SystemExit as parser_refused:
            return parser_refused.code, said.getvalue()


MAKERS = {"commands": make}
