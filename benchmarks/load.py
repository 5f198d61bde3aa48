"""The client of one measured cluster: submits, reads back, checks, and reports as JSON lines.

Run as a program by the interpreter that is measured, so it imports nothing but the standard library
and fastworker's public names. It writes ``{"event": …}`` lines, and one ``{"metrics": …}`` line at
the end; a wrong result ends it with an AssertionError. Before draining the backlog it waits for a
line on stdin: by then somebody has started a subworker.

    load.py steady|backlog '{"jobs": 10000, …}' '{"control plane": [pid], …}'
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fastworker import Client

CONNECT_SECONDS: Final = 30.0
WARM_UP_JOBS: Final = 1_000
"""Imports, first allocations and the first pages of the store are not measured."""
GROUP_JOBS: Final = 10_000
"""The most that one bulk call takes."""
LANES: Final = 100
"""Concurrent callers."""
NAP_SECONDS: Final = 0.001
PID_SHIFT: Final = 3
PROCESS_CLOCK: Final = 2
"""How Linux makes the number of a process's CPU clock, which counts nanoseconds, from its pid: what
`clock_getcpuclockid` does. ``/proc/PID/stat`` counts hundredths of a second."""
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

Pids = Mapping[str, Sequence[int]]


def emit(**fields: object) -> None:
    """Write one line for whoever started this program."""
    print(json.dumps(fields), flush=True)


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time, user and system, that these processes have used since they started."""
    return sum(time.clock_gettime((~pid << PID_SHIFT) | PROCESS_CLOCK) for pid in pids)


def resident_bytes(pids: Sequence[int]) -> int:
    """Memory of these processes that is in RAM now."""
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * PAGE_BYTES


class Meter:
    """Collects metrics by name; each is a list of values, one a repetition."""

    def __init__(self, pids: Pids) -> None:
        self.pids = {**pids, "client": [os.getpid()]}
        self.metrics: dict[str, list[float]] = {}

    def note(self, name: str, value: float) -> None:
        self.metrics.setdefault(name, []).append(value)

    @asynccontextmanager
    async def cpu_per_job(self, name: str, jobs: int) -> AsyncIterator[None]:
        """Note the CPU time that each process uses for each job done in the block."""
        before = {who: cpu_seconds(pids) for who, pids in self.pids.items()}
        yield
        for who, pids in self.pids.items():
            used = cpu_seconds(pids) - before[who]
            self.note(f"{name}: CPU of {who} (µs/job)", used / jobs * 1e6)

    def note_latencies(self, name: str, seconds: Sequence[float]) -> None:
        """Note the median and the 99th percentile."""
        ordered = sorted(seconds)
        p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        self.note(f"{name}: p50 (ms)", statistics.median(ordered) * 1e3)
        self.note(f"{name}: p99 (ms)", p99 * 1e3)


def check(results: Sequence[object], expected: Sequence[object]) -> None:
    """Every result is the one of its own job."""
    if list(results) != list(expected):
        raise AssertionError(f"wrong results: {len(results)} of {len(expected)} jobs")


async def bulk(client: Client, meter: Meter, jobs: int) -> None:
    """Bulk calls, then every result."""
    async with meter.cpu_per_job("bulk", jobs):
        began = time.perf_counter()
        handles = []
        for start in range(0, jobs, GROUP_JOBS):
            stop = min(start + GROUP_JOBS, jobs)
            handles += await client.submit_many("add", [(x, 1) for x in range(start, stop)])
        accepted = time.perf_counter()
        results = await client.results(handles)
        ended = time.perf_counter()
    check(results, range(1, jobs + 1))
    meter.note("bulk: accepted (jobs/s)", jobs / (accepted - began))
    meter.note("bulk: end to end (jobs/s)", jobs / (ended - began))


async def in_lanes(jobs: int, one: Any) -> list[Any]:
    """``await one(x)`` for every x below ``jobs``, by concurrent callers; the answers in order."""
    answers: list[Any] = [None] * jobs
    numbers = iter(range(jobs))

    async def lane() -> None:
        for x in numbers:
            answers[x] = await one(x)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(LANES, jobs)):
            group.create_task(lane())
    return answers


async def concurrent_submit(client: Client, meter: Meter, jobs: int) -> None:
    """One `submit` a job from many callers, then every result."""
    async with meter.cpu_per_job("submit", jobs):
        began = time.perf_counter()
        handles = await in_lanes(jobs, lambda x: client.submit("add", x, 1))
        accepted = time.perf_counter()
        results = await client.results(handles)
        ended = time.perf_counter()
    check(results, range(1, jobs + 1))
    meter.note("submit: accepted (jobs/s)", jobs / (accepted - began))
    meter.note("submit: end to end (jobs/s)", jobs / (ended - began))


async def concurrent_delay(client: Client, meter: Meter, jobs: int) -> None:
    """One `delay` a job from many callers, then every result by its id."""
    async with meter.cpu_per_job("delay", jobs):
        began = time.perf_counter()
        ids = await in_lanes(jobs, lambda x: client.delay("add", x, 1))
        accepted = time.perf_counter()
        results = await in_lanes(jobs, lambda x: client.result(ids[x]))
        ended = time.perf_counter()
    check(results, range(1, jobs + 1))
    meter.note("delay: accepted (jobs/s)", jobs / (accepted - began))
    meter.note("delay: end to end (jobs/s)", jobs / (ended - began))


async def idle_latency(client: Client, meter: Meter, jobs: int) -> None:
    """One job at a time: from the call of `submit` until its result is here."""
    seconds = []
    async with meter.cpu_per_job("idle", jobs):
        for x in range(jobs):
            began = time.perf_counter()
            handle = await client.submit("add", x, 1)
            result = await handle.result()
            seconds.append(time.perf_counter() - began)
            check([result], [x + 1])
    meter.note_latencies("idle", seconds)


async def paced_latency(client: Client, meter: Meter, jobs: int, per_second: float) -> None:
    """Naps at a steady pace, whether or not the earlier ones have ended; without the nap itself."""
    seconds: list[float] = []

    async def one(due: float) -> None:
        handle = await client.submit("nap", NAP_SECONDS)
        result = await handle.result()
        # From the moment it was due: a late start is a delay too.
        seconds.append(time.perf_counter() - due - NAP_SECONDS)
        check([result], [NAP_SECONDS])

    async with meter.cpu_per_job("paced", jobs), asyncio.TaskGroup() as group:
        began = time.perf_counter()
        for number in range(jobs):
            due = began + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(due))
    meter.note_latencies("paced", seconds)


async def steady(client: Client, meter: Meter, sizes: Mapping[str, Any]) -> None:
    """All that is measured with a subworker connected from the start."""
    warm_up = await client.submit_many("add", [(x, 1) for x in range(WARM_UP_JOBS)])
    check(await client.results(warm_up), range(1, WARM_UP_JOBS + 1))
    for _ in range(sizes["repeat"]):
        await bulk(client, meter, sizes["jobs"])
    for _ in range(sizes["repeat"]):
        await concurrent_submit(client, meter, sizes["jobs"])
    for _ in range(sizes["repeat"]):
        await concurrent_delay(client, meter, sizes["jobs"])
    for _ in range(sizes["repeat"]):
        await idle_latency(client, meter, sizes["idle"])
    jobs = max(1, int(sizes["paced_seconds"] * sizes["paced_rate"]))
    await paced_latency(client, meter, jobs, sizes["paced_rate"])


async def backlog(client: Client, meter: Meter, sizes: Mapping[str, Any]) -> None:
    """Submissions that nobody runs yet, the memory they take, and how fast they drain later."""
    jobs = sizes["backlog"]
    plane = meter.pids["control plane"]
    before = resident_bytes(plane)
    began = time.perf_counter()
    handles = []
    async with meter.cpu_per_job("submit only", jobs):
        for start in range(0, jobs, GROUP_JOBS):
            stop = min(start + GROUP_JOBS, jobs)
            handles += await client.submit_many("add", [(x, 1) for x in range(start, stop)])
        ended = time.perf_counter()
    meter.note("submit only: accepted (jobs/s)", jobs / (ended - began))
    meter.note("backlog: memory of control plane (B/job)", (resident_bytes(plane) - before) / jobs)
    emit(event="submitted")
    loop = asyncio.get_running_loop()
    # The pid arrives before the subworker knows our jobs; the drain begins with the first result.
    subworker = loop.run_in_executor(None, sys.stdin.readline)
    await handles[0].result()
    began = time.perf_counter()
    done = sum(handle.done for handle in handles)
    results = await client.results(handles)
    ended = time.perf_counter()
    check(results, range(1, jobs + 1))
    if jobs > done:
        meter.note("drain (jobs/s)", (jobs - done) / (ended - began))
    await subworker


async def main(what: str, sizes: Mapping[str, Any], pids: Pids) -> None:
    """Measure, and write the metrics as the last line."""
    meter = Meter(pids)
    async with Client() as client:
        await client.wait_connected(CONNECT_SECONDS)
        await (steady if what == "steady" else backlog)(client, meter, sizes)
    emit(metrics=meter.metrics)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])))
