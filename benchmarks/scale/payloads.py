"""Bytes that go there and back: one job after another, then ten at once.

Megabytes a second are those of the arguments, from the call of `submit` until the same bytes have
come back as the result. No two jobs have the same bytes.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from typing import Final

from benchmarks.cluster import Cluster
from benchmarks.load import check
from benchmarks.scale.probing import MEGABYTE, PLANE, Effort, Probe, peak_resident, probing

LANES: Final = {"one": 1, "ten": 10}
FEWEST_JOBS: Final = 20
MOST_JOBS: Final = 1_000
NUMBER_BYTES: Final = 8


async def measure(cluster: Cluster, size: int, effort: Effort) -> dict[str, list[float]]:
    """One size in bytes, on a cluster without a subworker."""
    cluster.start_subworker()
    jobs = min(MOST_JOBS, max(FEWEST_JOBS, effort.payload_bytes // max(1, size)))
    async with probing(cluster) as probe:
        await probe.warm_up()
        await asyncio.sleep(effort.watch_seconds)
        before = probe.resident()
        for name, lanes in LANES.items():
            with peak_resident(cluster.pids[PLANE][0]) as peak:
                await _echo(probe, name, size, jobs, lanes)
            above = (peak[0] - before) / MEGABYTE
            probe.meter.note(f"{name} at once: most memory of control plane above idle (MB)", above)
    return probe.metrics


async def _echo(probe: Probe, name: str, size: int, jobs: int, lanes: int) -> None:
    random = os.urandom(max(0, size - NUMBER_BYTES))
    numbers = iter(range(jobs))
    seconds: list[float] = []

    async def lane() -> None:
        for number in numbers:
            data = (number.to_bytes(NUMBER_BYTES, "big") + random)[:size]
            began = time.perf_counter()
            handle = await probe.client.submit("echo", data)
            answer = await handle.result()
            seconds.append(time.perf_counter() - began)
            check([answer], [data])

    async with probe.meter.cpu_per_job(f"{name} at once", jobs):
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(lanes):
                group.create_task(lane())
        took = time.perf_counter() - began
    probe.meter.note(f"{name} at once (MB/s)", jobs * size / MEGABYTE / took)
    probe.meter.note(f"{name} at once (jobs/s)", jobs / took)
    probe.meter.note(f"{name} at once: p50 (ms)", statistics.median(seconds) * 1e3)
