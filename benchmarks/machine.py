"""What a measurement ran on, and when: it stands in every document beside the figures."""

from __future__ import annotations

import os
import platform
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def described() -> dict[str, Any]:
    """This machine, as far as it matters to a figure, and how busy it is now."""
    return {
        "system": platform.platform(),
        "processor": _field("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)),
        "memory": _field("/proc/meminfo", "MemTotal"),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load": os.getloadavg(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _field(path: str, name: str) -> str:
    """The first value of a ``name: value`` line; nothing where there is no such file."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    found = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(found, "")
