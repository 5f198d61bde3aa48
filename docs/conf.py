"""How Sphinx builds these pages. `nox -s docs` builds them with every warning an error."""

from __future__ import annotations

from fastworker.version import __version__

project = "fastworker"
author = "The fastworker authors"
copyright = "The fastworker authors"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]
# Single backticks in docstrings are code.
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "fastworker"
