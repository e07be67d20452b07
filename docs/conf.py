"""The documentation site. `make docs` builds it into docs/_build/html; warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # site_parts
sys.path.insert(0, str(Path(__file__).parents[1]))

import gaia2

project = "gaia2"
author = "the gaia2 authors"
version = release = gaia2.__version__

extensions = [
    "myst_nb",  # Markdown and notebooks
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "site_parts",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["_build", "**/.ipynb_checkpoints"]

html_theme = "furo"
html_title = f"gaia2 {version}"
html_show_copyright = False
html_show_sphinx = False
html_static_path: list[str] = []

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # as on GitHub

nb_execution_mode = "cache"  # `-D nb_execution_mode=off` leaves the notebooks as they are
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

default_role = "py:obj"  # single backticks in docstrings: code, with a link where it names something of the reference
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True
