"""What this machine lets us inject. Each question is answered by trying, once.

A test asks with `require`; what is missing skips it, counted and shown at the end.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Final

import pytest

from tests.faults.preloads import library
from tests.faults.report import REPORT

TRIAL_SECONDS: Final = 20


def require(row: str, *wanted: str) -> None:
    """Skip this test unless the machine has everything its injection needs.

    Args:
        row: of the fault matrix, such as ``C33``.
        wanted: names in `ABILITIES`.
    """
    for name in wanted:
        reason = ABILITIES[name]()
        if reason is not None:
            REPORT.missing[row] = reason
            pytest.skip(f"not injectable here: {row} ({reason})")


@functools.cache
def no_strace() -> str | None:
    if shutil.which("strace") is None:
        return "no strace"
    trial = ("strace", "-f", "-D", "-o", "/dev/null", "-e", "inject=getppid:error=EIO")
    return None if _works(*trial, sys.executable, "-c", "pass") else "strace may not trace"


@functools.cache
def no_mounts() -> str | None:
    if os.geteuid() != 0:
        return "not root"
    works = _works("unshare", "-m", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt")
    return None if works else "no CAP_SYS_ADMIN to mount a tmpfs"


@functools.cache
def no_network_namespaces() -> str | None:
    if shutil.which("ip") is None:
        return "no ip"
    if shutil.which("nft") is None:
        return "no nft"
    rule = "ip link set lo up && nft add table inet trial"
    return None if _works("unshare", "-n", "sh", "-c", rule) else "no CAP_NET_ADMIN"


def no_preloads() -> str | None:
    return None if library("false_clock") is not None else "no C compiler"


@functools.cache
def not_root() -> str | None:
    return None if os.geteuid() == 0 else "not root"


ABILITIES: Final[dict[str, Callable[[], str | None]]] = {
    "strace": no_strace,
    "mounts": no_mounts,
    "network namespaces": no_network_namespaces,
    "preloads": no_preloads,
    "root": not_root,
    "setpriv": lambda: None if shutil.which("setpriv") else "no setpriv",
}
"""Each answers why not, or None."""


def _works(*command: str) -> bool:
    try:
        trial = subprocess.run(command, capture_output=True, timeout=TRIAL_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return trial.returncode == 0
