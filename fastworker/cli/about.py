"""``fastworker version``."""

from __future__ import annotations

from fastworker.cli.output import show, show_json
from fastworker.version import __version__


def show_version(*, as_json: bool = False) -> int:
    """Print the version on stdout; return the exit code."""
    if as_json:
        show_json({"version": __version__})
    else:
        show(f"fastworker {__version__}")
    return 0
