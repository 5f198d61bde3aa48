"""Jobs that wait: what other jobs cost beside them, what they take, how fast all of them end.

They wait in a queue that nobody serves, while a subworker serves another one. Then the control
plane starts anew with them, and at last a second subworker takes them: from its first result until
the last. Nobody reads these results meanwhile; those of every group's last job are read by their
ids and checked, as far as results are kept.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from benchmarks.cluster import Cluster
from benchmarks.load import check
from benchmarks.scale.probing import (
    GROUP_JOBS,
    Effort,
    Probe,
    connected_client,
    probing,
    submit_adds,
)
from fastworker import Client

QUEUE: Final = "waiting"
KEPT_RESULTS: Final = 900_000
"""By default a million are; the probes' are among them."""


async def measure(cluster: Cluster, size: int, effort: Effort) -> dict[str, list[float]]:
    """One size, on a cluster without a subworker."""
    cluster.start_subworker("--queues", "default")
    async with probing(cluster) as probe:
        await probe.warm_up()
        ids = await _fill(probe, size)
        await probe.cost_of_jobs(effort)
    if cluster.environment["FASTWORKER_DURABILITY"] != "memory":  # else there would be none left
        probe.meter.note("start with them (s)", cluster.restart_control_plane())
    async with connected_client(cluster) as client:
        await _drain(probe, client, ids, size)
    return probe.metrics


async def _fill(probe: Probe, size: int) -> list[tuple[int, str]]:
    """Submit them; returns the number and the id of the first and of the last of each group."""
    cluster, meter = probe.cluster, probe.meter
    memory, disk = probe.resident(), _folder_bytes(cluster)
    ids: list[tuple[int, str]] = []
    # A client of its own: it takes what it remembers of them with it.
    async with meter.cpu_per_job("submit only", size), connected_client(cluster) as client:
        began = time.perf_counter()
        for first in range(0, size, GROUP_JOBS):
            count = min(GROUP_JOBS, size - first)
            handles = await submit_adds(client, first, count, queue=QUEUE)
            ids += [(first, handles[0].id), (first + count - 1, handles[-1].id)]
        meter.note("submit only: accepted (jobs/s)", size / (time.perf_counter() - began))
    meter.note("memory of control plane (B/job)", (probe.resident() - memory) / size)
    meter.note("disk (B/job)", (_folder_bytes(cluster) - disk) / size)
    return ids


async def _drain(probe: Probe, client: Client, ids: list[tuple[int, str]], size: int) -> None:
    (first, first_id), (last, last_id) = ids[0], ids[-1]
    # A thread waits for the process; what is measured begins with the first result.
    starting = asyncio.create_task(
        asyncio.to_thread(probe.cluster.start_subworker, "--queues", QUEUE)
    )
    check([await client.result(first_id)], [first + 1])
    began = time.perf_counter()
    check([await client.result(last_id)], [last + 1])
    probe.meter.note("drain (jobs/s)", size / (time.perf_counter() - began))
    await starting
    kept = [(number, job_id) for number, job_id in ids if number >= size - KEPT_RESULTS]
    values = [await client.result(job_id) for _, job_id in kept]
    check(values, [number + 1 for number, _ in kept])


def _folder_bytes(cluster: Cluster) -> int:
    folder = Path(cluster.environment["FASTWORKER_STORE"])
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.is_file())
