"""The same few jobs beside everything: what each costs, how long one takes, what memory is held.

The client runs here, in the program that measures. All results are read back and checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.cluster import Cluster
from benchmarks.load import Meter, bulk, check, cpu_seconds, idle_latency, resident_bytes
from fastworker import Client

CONNECT_SECONDS: Final = 60.0
MEGABYTE: Final = 1_000_000
PLANE: Final = "control plane"
WARM_UP_JOBS: Final = 500
GROUP_JOBS: Final = 10_000
"""The most that one bulk call takes."""
PEAK_RESET: Final = "5"
"""Written to ``clear_refs``, it lets the highest resident memory begin anew."""


class Effort(NamedTuple):
    """How much is measured beside each size."""

    jobs: int
    """In bulk."""
    idle: int
    """One at a time."""
    watch_seconds: float
    """For the processor time of an idle control plane."""
    payload_bytes: int
    """In all, for each size of payload."""


class Probe:
    """A client of one cluster, and what it measures there."""

    def __init__(self, cluster: Cluster, client: Client) -> None:
        self.cluster = cluster
        self.client = client
        self.meter = Meter(cluster.pids)

    @property
    def metrics(self) -> dict[str, list[float]]:
        """What was noted."""
        return self.meter.metrics

    async def warm_up(self) -> None:
        """Imports, first allocations and the first pages of the store are not measured."""
        await bulk(self.client, Meter(self.cluster.pids), WARM_UP_JOBS)

    async def cost_of_jobs(self, effort: Effort) -> None:
        """Some jobs in bulk, then some one at a time."""
        await bulk(self.client, self.meter, effort.jobs)
        await idle_latency(self.client, self.meter, effort.idle)

    def resident(self) -> int:
        """Memory of the control plane now."""
        return resident_bytes(self.cluster.pids[PLANE])

    async def idle_cpu(self, seconds: float) -> float:
        """Percent of one processor that the control plane takes while nothing is asked of it."""
        pids = self.cluster.pids[PLANE]
        used, began = cpu_seconds(pids), time.monotonic()
        await asyncio.sleep(seconds)
        return 100 * (cpu_seconds(pids) - used) / (time.monotonic() - began)


@asynccontextmanager
async def probing(cluster: Cluster) -> AsyncIterator[Probe]:
    """A connected client of this cluster, with an operator's token."""
    async with connected_client(cluster) as client:
        yield Probe(cluster, client)


@asynccontextmanager
async def connected_client(cluster: Cluster, token: str | None = None) -> AsyncIterator[Client]:
    """A client of its own.

    Args:
        token: in place of the operator's.
    """
    async with Client(
        control_plane_address=cluster.environment["FASTWORKER_BASE_ADDRESS"],
        token=token or cluster.environment["FASTWORKER_TOKEN"],
    ) as client:
        await client.wait_connected(CONNECT_SECONDS)
        yield client


@contextmanager
def peak_resident(pid: int) -> Iterator[list[int]]:
    """After the block the list has the most memory that was resident within it, in bytes."""
    found: list[int] = []
    Path(f"/proc/{pid}/clear_refs").write_text(PEAK_RESET)
    yield found
    found.append(_status_bytes(pid, "VmHWM"))


def _status_bytes(pid: int, name: str) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


async def submit_adds(client: Client, first: int, count: int, **options: Any) -> list[Any]:
    """Handles of ``add(x, 1)`` for so many x from ``first`` on, submitted in bulk."""
    handles: list[Any] = []
    for start in range(first, first + count, GROUP_JOBS):
        stop = min(start + GROUP_JOBS, first + count)
        handles += await client.submit_many("add", [(x, 1) for x in range(start, stop)], **options)
    return handles


async def check_adds(client: Client, first: int, handles: list[Any]) -> None:
    """Read their results; an AssertionError if one is not its own job's."""
    check(await client.results(handles), range(first + 1, first + 1 + len(handles)))
