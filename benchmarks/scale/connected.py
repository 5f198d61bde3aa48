"""Idle subworkers and clients, as real connections: what they take, what jobs cost beside them.

The figures of the control plane are those above the same one without them. The subworkers of the
crowd serve the same queue as the one that runs the jobs, and have no free slot.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.connections import Findings, crowds
from benchmarks.scale.probing import MEGABYTE, Effort, probing


async def measure_subworkers(cluster: Cluster, size: int, effort: Effort) -> dict[str, list[float]]:
    """One size, on a cluster without a subworker."""
    return await _measure(cluster, size, effort, "subworker")


async def measure_clients(cluster: Cluster, size: int, effort: Effort) -> dict[str, list[float]]:
    """One size, on a cluster without a subworker."""
    return await _measure(cluster, size, effort, "client")


async def _measure(
    cluster: Cluster, size: int, effort: Effort, role: str
) -> dict[str, list[float]]:
    cluster.start_subworker()
    address = cluster.environment["FASTWORKER_BASE_ADDRESS"]
    found = Findings()
    async with probing(cluster) as probe:
        await probe.warm_up()
        cpu, memory = await probe.idle_cpu(effort.watch_seconds), probe.resident()
        with ExitStack() as stack:
            crowd = crowds(cluster, address, size, found, role)
            await asyncio.to_thread(stack.enter_context, crowd)
            beside = await probe.idle_cpu(effort.watch_seconds)
            more = (probe.resident() - memory) / MEGABYTE
            probe.meter.note("memory of control plane, above alone (MB)", more)
            probe.meter.note("idle CPU of control plane, above alone (% of a core)", beside - cpu)
            probe.meter.note("come in (s)", found.accept_seconds)
            await probe.cost_of_jobs(effort)
        if not found.connections == found.still_standing == size:
            raise BenchmarkFailed(
                f"of {size} {role}s, {found.connections} came in and {found.still_standing} stayed"
            )
    return probe.metrics
