"""How many processors this process may use, which is often fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")


def available_processors(*, cgroups: Path = CGROUPS, own_cgroups: Path = OWN_CGROUPS) -> int:
    """The processors this process may run on, or the share of them its container allows.

    A quota of two and a half processors counts as three. At least 1.

    Args:
        cgroups: where the limits of control groups are mounted.
        own_cgroups: says which groups this process is in.
    """
    allowed = _allowed()
    quotas = [quota for folder in _folders(cgroups, own_cgroups) for quota in _quotas(folder)]
    return max(1, min([allowed, *map(math.ceil, quotas)]))


def _allowed() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _folders(cgroups: Path, own_cgroups: Path) -> set[Path]:
    """The groups of this process and all above them: the smallest limit holds."""
    try:
        lines = own_cgroups.read_text().splitlines()
    except OSError:
        return set()
    folders: set[Path] = set()
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        # Version 2 has one tree without a name, version 1 one for each controller.
        for mounted in (cgroups, cgroups / "cpu", cgroups / controllers):
            own = mounted / path.lstrip("/")
            folders.update(each for each in (own, *own.parents) if each.is_relative_to(cgroups))
    return folders


def _quotas(folder: Path) -> list[float]:
    """Processors that one group allows: from ``cpu.max``, or from version 1's two files."""
    found = _words(folder / "cpu.max") or [
        *_words(folder / "cpu.cfs_quota_us"),
        *_words(folder / "cpu.cfs_period_us"),
    ]
    match found:
        case [quota, period] if quota.isdigit() and period.isdigit() and int(period) > 0:
            return [int(quota) / int(period)]
    return []  # "max" and -1: no limit


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
