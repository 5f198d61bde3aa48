"""What a cancelled call could leave behind in this process."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import trio

PATIENCE_SECONDS = 5.0
"""For what ends in other threads and on the other side of a connection."""

LOOK_SECONDS = 0.005


def open_descriptors() -> Counter[str]:
    """What this process has open, by kind; empty where the system does not say."""
    kinds: Counter[str] = Counter()
    folder = Path("/proc/self/fd")
    for name in os.listdir(folder) if folder.exists() else ():
        try:
            kinds[os.readlink(folder / name).partition("[")[0]] += 1
        except FileNotFoundError:
            continue  # the one that the folder was read with
    return kinds


def child_processes() -> list[int]:
    """Processes that this one has started and not reaped; empty where the system does not say."""
    found: list[int] = []
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found += map(int, path.read_text().split())
        except OSError:
            continue  # the thread has ended
    return found


def trio_tasks() -> Counter[str]:
    """Every task of the Trio run, by name."""
    names: Counter[str] = Counter()
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    while waiting:
        task = waiting.pop()
        names[task.name] += 1
        for nursery in task.child_nurseries:
            waiting += nursery.child_tasks
    return names


def asyncio_tasks() -> Counter[str]:
    """Every task of the asyncio loop, by what it runs."""
    return Counter(repr(task.get_coro()).partition(" at ")[0] for task in asyncio.all_tasks())


def held_locks() -> list[object]:
    """Locks of either event loop that somebody holds."""
    kinds = (trio.Lock, trio.StrictFIFOLock, asyncio.Lock, anyio.Lock)
    return [one for one in gc.get_objects() if isinstance(one, kinds) and one.locked()]


def store_threads() -> list[str]:
    """Threads that serve a store."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if name in ("fastworker-store", "fastworker-reads")]


async def wait_none(what: str, look: Callable[[], object]) -> None:
    """Wait until a look finds nothing; fail with what it found."""
    found = look()
    with anyio.move_on_after(PATIENCE_SECONDS):
        while found:  # nothing tells of its end
            await anyio.sleep(LOOK_SECONDS)
            found = look()
    assert not found, f"{what}: {found}"
