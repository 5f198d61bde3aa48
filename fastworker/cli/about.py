"""``fastworker version``."""

from __future__ import annotations


def version() -> str:
    """Return the installed version of fastworker."""
    from importlib import metadata

    try:
        return metadata.version("fastworker")
    except metadata.PackageNotFoundError:
        return "unknown (running from a source folder that is not installed)"


def show_version(*, as_json: bool = False) -> int:
    """Print the version on stdout; return the exit code."""
    from fastworker.cli.output import show, show_json

    if as_json:
        show_json({"version": version()})
    else:
        show(f"fastworker {version()}")
    return 0
