"""Four priorities and two tenants at once: bulk calls of all, and single jobs between them.

Each tenant has a client of its own with a token of its own. While the bulk is being worked off, the
second tenant submits one job after another at each priority: how long these take is its latency
beside a flood.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.cluster import Cluster
from benchmarks.load import Meter, check
from benchmarks.scale.probing import Effort, check_adds, connected_client, submit_adds
from fastworker import Client, TaskPriority

TENANTS: Final = ("first", "second")


async def measure(cluster: Cluster, size: int, effort: Effort) -> dict[str, list[float]]:
    """So many jobs in bulk, shared evenly, on a cluster that knows both tenants."""
    cluster.start_subworker()
    tokens = [cluster.tokens[tenant] for tenant in TENANTS]
    meter = Meter(cluster.pids)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected_client(cluster, token)) for token in tokens
        ]
        for client in clients:
            await _flood(client, TaskPriority.NORMAL, 0, effort.idle)  # warm
        share = max(1, size // len(clients) // len(TaskPriority))
        await _all_at_once(clients, share, meter)
        await _latencies(clients, share, meter)
    return meter.metrics


async def _flood(client: Client, priority: TaskPriority, first: int, count: int) -> None:
    handles = await submit_adds(client, first, count, priority=priority)
    await check_adds(client, first, handles)


async def _flood_all(clients: list[Client], share: int) -> None:
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            for priority in TaskPriority:
                first = (number * len(TaskPriority) + priority) * share
                group.create_task(_flood(client, priority, first, share))


async def _all_at_once(clients: list[Client], share: int, meter: Meter) -> None:
    jobs = share * len(clients) * len(TaskPriority)
    async with meter.cpu_per_job("bulk", jobs):
        began = time.perf_counter()
        await _flood_all(clients, share)
        meter.note("bulk: end to end (jobs/s)", jobs / (time.perf_counter() - began))


async def _latencies(clients: list[Client], share: int, meter: Meter) -> None:
    """Each priority beside a flood of its own."""
    for priority in reversed(TaskPriority):
        flood = asyncio.create_task(_flood_all(clients[:1], share))
        seconds: list[float] = []
        number = 0
        while not flood.done() or not seconds:
            began = time.perf_counter()
            options = clients[1].options(priority=priority)
            value = await (await options.submit("add", number, 1)).result()
            seconds.append(time.perf_counter() - began)
            number += 1
            check([value], [number])
        await flood
        meter.note_latencies(f"beside a flood, {priority.name}", seconds)
