"""The directive `command-help`: what a command says to `--help`, at the time that the site is built."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import ClassVar
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from gaia2.cli import main

WIDTH = 104


def command_help(words: str) -> str:
    """What `gaia2 WORDS --help` prints, without colours and frames.

    Example:
        >>> print(command_help("data verify").splitlines()[0])
        usage: gaia2 data verify [-h] [OPTIONS]
    """
    said = io.StringIO()
    narrow = mock.patch.dict(os.environ, COLUMNS=str(WIDTH))
    with narrow, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*words.split(), "--help"])
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue())
    lines = [re.sub(r"^[\u2500-\u257f] ?|[\u2500-\u257f]+", "", line).rstrip() for line in plain.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


class CommandHelp(SphinxDirective):
    """The help of a command as a block of text; the argument is its words after `gaia2`."""

    optional_arguments = 1
    final_argument_whitespace = True
    has_content = False
    option_spec: ClassVar = {}

    def run(self) -> list[nodes.Node]:
        text = command_help(self.arguments[0] if self.arguments else "")
        return [nodes.literal_block(text, text, language="text")]


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
