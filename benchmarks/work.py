"""``python -m benchmarks.work``: how much work a job is, in function calls.

The whole way of a job (client, control plane, subworker, runner) in one thread, without sockets,
processes or a disk, while every call of a function of Python or C is counted. Unlike seconds, that
is the same on every machine, to about one percent, and so it can be held against `COMMITTED`: a
test does, and names what has grown. It says nothing about what a call costs.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final

import trio

from fastworker import Client
from fastworker.testing import ClusterOptions, open_cluster

COMMITTED: Final = {"bulk": 418.0, "single": 3785.0}
"""Calls for each job, by workload, on CPython 3.11. Whoever makes it less lowers this."""

MARGIN: Final = 0.05
"""More, or less, than this has to be looked at: versions of libraries differ."""

BULK_JOBS: Final = 2_000
SINGLE_JOBS: Final = 200
WARM_UP_JOBS: Final = 500
REPEATED: Final = 3
"""The least of so many counts: on a busy machine some batches are smaller, which costs calls."""

SHOWN: Final = 40

TASK: Final = "add"


class Calls:
    """Counts calls by the file that makes them (of C) or that they are in (of Python)."""

    def __init__(self) -> None:
        self.by_file: Counter[str] = Counter()

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        """A `sys.setprofile` function."""
        if event in ("call", "c_call"):
            self.by_file[frame.f_code.co_filename] += 1

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Count while ``work`` runs, in this thread."""
        sys.setprofile(self.note)
        try:
            await work()
        finally:
            sys.setprofile(None)


async def bulk(client: Client) -> None:
    """One bulk call, then every result."""
    handles = await client.submit_many(TASK, [(x, 1) for x in range(BULK_JOBS)])
    if await client.results(handles) != list(range(1, BULK_JOBS + 1)):
        raise AssertionError("wrong results")


async def single(client: Client) -> None:
    """One job at a time, on an idle system."""
    for x in range(SINGLE_JOBS):
        handle = await client.submit(TASK, x, 1)
        if await handle.result() != x + 1:
            raise AssertionError("a wrong result")


WORKLOADS: Final[dict[str, tuple[Callable[[Client], Awaitable[None]], int]]] = {
    "bulk": (bulk, BULK_JOBS),
    "single": (single, SINGLE_JOBS),
}


async def count_calls() -> dict[str, Counter[str]]:
    """Calls in each workload, by file."""
    found = {}
    options = ClusterOptions(task_modules=("benchmarks.load_tasks",))
    async with open_cluster(options) as cluster, cluster.client() as client:
        await client.wait_connected()
        await client.results(await client.submit_many(TASK, [(x, 1) for x in range(WARM_UP_JOBS)]))
        for name, (work, _) in WORKLOADS.items():
            counted = []
            for _ in range(REPEATED):
                calls = Calls()
                await calls.during(partial(work, client))
                counted.append(calls.by_file)
            found[name] = min(counted, key=Counter.total)
    return found


def report(name: str, by_file: Counter[str], shown: int) -> str:
    """One workload as text: all calls of a job, and the files with most of them."""
    jobs = WORKLOADS[name][1]
    lines = [f"{name}: {by_file.total() / jobs:,.0f} calls a job, committed {COMMITTED[name]:,.0f}"]
    for file, calls in by_file.most_common(shown):
        lines.append(f"  {calls / jobs:8.1f}  {'/'.join(Path(file).parts[-2:])}")
    return "\n".join(lines)


def judge(name: str, per_job: float) -> str | None:
    """What is wrong with a figure, in a sentence; None: nothing."""
    committed = COMMITTED[name]
    if per_job > committed * (1 + MARGIN):
        return f"{name}: a job is {per_job:,.0f} calls; at most {committed:,.0f} were committed to"
    if per_job < committed * (1 - MARGIN):
        return f"{name}: a job is {per_job:,.0f} calls only; write that into COMMITTED"
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and with ``--check`` return 1 if a figure is beyond its margin."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.work")
    parser.add_argument("--check", action="store_true", help="compare with what is committed")
    parser.add_argument("--files", type=int, default=SHOWN, help="shown (%(default)s)")
    given = parser.parse_args(arguments)
    found = trio.run(count_calls)
    wrong = []
    for name, by_file in found.items():
        print(report(name, by_file, given.files))
        wrong.append(judge(name, by_file.total() / WORKLOADS[name][1]))
    complaints = [each for each in wrong if each is not None] if given.check else []
    for complaint in complaints:
        print(f"benchmarks.work: {complaint}", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
