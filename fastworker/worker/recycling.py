"""When a runner has had enough: it has ended so many jobs, or grown to so much memory.

Memory is looked at from outside, when outcomes arrive: a runner whose loop is blocked is measured
all the same, one that has nothing to do is left alone, and nothing travels for it. It is that of
the runner's own process; what jobs start ends with them.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import trio

from fastworker.worker.settings import SubworkerSettings

LOOK_SECONDS: Final = 1.0
"""Between two looks at the memory of one runner."""

PROCESSES: Final = Path("/proc")
HAS_PROCESSES: Final = PROCESSES.is_dir()
"""On Linux; not on macOS."""
RESIDENT_FIELD: Final = 1
"""Of ``/proc/<pid>/statm``: resident pages."""

KIB: Final = 1024
MIB: Final = 1024 * 1024


class Wear:
    """What one runner has been through. Tell it of outcomes by `jobs_ended`."""

    def __init__(self, settings: SubworkerSettings, pid: int) -> None:
        self._max_jobs = settings.max_jobs_per_runner
        self._max_bytes = settings.max_runner_bytes
        self._pid = pid
        self._ended = 0
        self._look_due = trio.Event()
        self._worn = trio.Event()
        self._why = ""

    def jobs_ended(self, count: int) -> None:
        """So many more outcomes have come from it."""
        self._ended += count
        self._look_due.set()
        if self._max_jobs is not None and self._ended >= self._max_jobs:
            self._note(f"it has ended {self._ended} jobs")

    async def wait_worn(self) -> str:
        """Until it is to be replaced; returns why, in words. For ever if there are no limits."""
        async with trio.open_nursery() as nursery:
            if self._max_bytes is not None:
                nursery.start_soon(self._watch_memory, self._max_bytes)
            await self._worn.wait()
            nursery.cancel_scope.cancel()
        return self._why

    async def _watch_memory(self, limit_bytes: int) -> None:
        while True:
            await self._look_due.wait()
            self._look_due = trio.Event()
            size = await resident_bytes(self._pid)
            if size is not None and size > limit_bytes:
                self._note(f"it has grown to {size // MIB} MiB after {self._ended} jobs")
                return
            await trio.sleep(LOOK_SECONDS)

    def _note(self, why: str) -> None:
        if not self._worn.is_set():
            self._why = why
            self._worn.set()


async def resident_bytes(pid: int, *, processes: Path = PROCESSES) -> int | None:
    """Memory that a process holds in RAM; None if it cannot be found out.

    Args:
        processes: where Linux shows them; elsewhere ``ps`` is asked.
    """
    if HAS_PROCESSES:
        return _shown_by_kernel(processes / str(pid) / "statm")
    try:
        asked = await trio.run_process(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_stdout=True, check=False
        )
        return int(asked.stdout) * KIB
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _shown_by_kernel(file: Path) -> int | None:
    try:
        return int(file.read_text().split()[RESIDENT_FIELD]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # it has ended
        return None
