"""Whether the kernel has ended a process for want of memory: cheap evidence, no proof.

The counter of our own control group is read if there is one, else that of the whole machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")
MACHINE_COUNTERS: Final = Path("/proc/vmstat")


def oom_kills(
    own: Path = OWN_CGROUPS, root: Path = CGROUP_ROOT, machine: Path = MACHINE_COUNTERS
) -> int:
    """How many processes the kernel has ended for want of memory so far; 0 if it does not say."""
    for path in (*_group_counters(own, root), machine):
        with suppress(OSError, ValueError):
            for line in path.read_text("ascii").splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _group_counters(own: Path, root: Path) -> Iterator[Path]:
    with suppress(OSError, ValueError):
        for line in own.read_text("utf-8").splitlines():
            number, controllers, group = line.split(":", 2)
            if number == "0":
                # In a container the path may be one of the host's; its root is our own group.
                yield root / group.lstrip("/") / "memory.events"
                yield root / "memory.events"
            elif "memory" in controllers.split(","):
                yield root / "memory" / group.lstrip("/") / "memory.oom_control"
                yield root / "memory" / "memory.oom_control"


class MemoryEvidence:
    """Notices that the counter has risen since the last look."""

    def __init__(self) -> None:
        self._seen = oom_kills()

    def look(self) -> bool:
        """Whether a process was ended for want of memory since the last look."""
        before, self._seen = self._seen, oom_kills()
        return self._seen > before
