"""Tasks that write the effect ledger: one appended line at the start and one at the end of a body.

A line is ``key attempt token start|end pid CLOCK_MONOTONIC-nanoseconds``. Copied into a test's
folder and imported by its runners from there; the ledger lies beside it.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from fastworker import task
from fastworker.runner.context import current_job

LEDGER = Path(__file__).with_name("effects.ledger")


def note(key: str, phase: str) -> None:
    """Append one line; a single write, so lines of several processes never mix."""
    job = current_job.get()
    assert job is not None
    line = f"{key} {job.attempt} {job.token} {phase} {os.getpid()} {time.monotonic_ns()}\n"
    ledger = os.open(LEDGER, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(ledger, line.encode())
    finally:
        os.close(ledger)


@task
def in_thread(key: str, seconds: float, padding: bytes) -> str:
    note(key, "start")
    time.sleep(seconds)
    note(key, "end")
    return f"done {key}"


@task
async def in_loop(key: str, seconds: float, padding: bytes) -> str:
    note(key, "start")
    await asyncio.sleep(seconds)
    note(key, "end")
    return f"done {key}"


@task
def until_released(key: str) -> str:
    """Meets the test at two named pipes: when it has started, and when it may end."""
    note(key, "start")
    LEDGER.with_name("started.pipe").write_bytes(b"")
    LEDGER.with_name("release.pipe").read_bytes()
    note(key, "end")
    return f"done {key}"


@task
def fails(key: str, seconds: float, padding: bytes) -> None:
    note(key, "start")
    time.sleep(seconds)
    note(key, "end")
    raise ValueError(f"failed {key}")


_kept: list[bytes] = []


@task
def leaks(key: str, seconds: float, padding: bytes) -> str:
    """Never lets go of eight megabytes."""
    note(key, "start")
    _kept.append(b"x" * 8 * 1024 * 1024)
    time.sleep(seconds)
    note(key, "end")
    return f"done {key}"
