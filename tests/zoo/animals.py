"""Tasks that behave in every way they should not, each as every kind of function.

``spins.thread`` is the task of `spins` as a plain ``def``. Loaded by runners, and read by the tests
for its names only.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from fastworker import check_cancelled, task

KINDS = ("asyncio", "trio", "thread", "process")
TICK_SECONDS = 0.005

Body = Callable[..., Any]

bodies: dict[str, Body] = {}


def animal(body: Body) -> Body:
    """Register a plain function as a task of every kind."""
    bodies[body.__name__] = body

    async def coroutine(*args: Any) -> Any:
        return body(*args)

    def function(*args: Any) -> Any:
        return body(*args)

    name = body.__name__
    task(name=f"{name}.asyncio", runtime="asyncio")(coroutine)
    task(name=f"{name}.trio", runtime="trio")(coroutine)
    task(name=f"{name}.thread")(function)
    task(name=f"{name}.process", run_in="process")(function)
    return body


@animal
def succeeds(number: int) -> int:
    return number


@animal
def fails() -> None:
    raise ValueError("as it should")


@animal
def returns_an_object() -> object:
    return object()


@animal
def returns_what_cannot_be_shown() -> object:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    return Hostile()


@animal
def raises_what_cannot_be_told() -> None:
    class Hostile(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    raise Hostile


@animal
def raises_a_bare_base_exception() -> None:
    raise BaseException("bare")


@animal
def leaves_the_interpreter() -> None:
    sys.exit(3)


@animal
def interrupts() -> None:
    raise KeyboardInterrupt


@animal
def recurses() -> None:
    def deeper(depth: int) -> int:
        return deeper(depth + 1) + 1

    deeper(0)


@animal
def changes_the_process() -> None:
    os.chdir("/")
    os.umask(0o077)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)


@animal
def runs_out_of_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    room = pages * resource.getpagesize() + 256 * 1024 * 1024
    resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
    try:
        bytearray(1 << 30)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@animal
def segfaults() -> None:
    ctypes.string_at(0)


@animal
def exits_with_0() -> None:
    os._exit(0)


@animal
def exits_with_1() -> None:
    os._exit(1)


@animal
def aborts() -> None:
    os.abort()


@animal
def kills_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@animal
def closes_all_files() -> None:
    os.closerange(3, 256)
    time.sleep(60)


@animal
def spins(mark: str = "") -> None:
    if mark:
        Path(mark).touch()
    while True:
        pass


@animal
def blocks(mark: str = "") -> None:
    if mark:
        Path(mark).touch()
    time.sleep(60)


# --- those that listen -------------------------------------------------------------------------


def _poll(seconds: float, mark: str = "") -> str:
    if mark:
        Path(mark).touch()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check_cancelled()
        time.sleep(TICK_SECONDS)
    return "waited"


@task(name="waits.asyncio", runtime="asyncio")
async def waits_in_asyncio(seconds: float, mark: str = "") -> str:
    if mark:
        Path(mark).touch()  # noqa: ASYNC240
    await asyncio.sleep(seconds)
    return "waited"


@task(name="waits.trio", runtime="trio")
async def waits_in_trio(seconds: float, mark: str = "") -> str:
    if mark:
        Path(mark).touch()  # noqa: ASYNC240
    await trio.sleep(seconds)
    return "waited"


@task(name="waits.thread")
def waits_in_a_thread(seconds: float, mark: str = "") -> str:
    return _poll(seconds, mark)


@task(name="waits.process", run_in="process")
def waits_in_a_process(seconds: float, mark: str = "") -> str:
    return _poll(seconds, mark)
