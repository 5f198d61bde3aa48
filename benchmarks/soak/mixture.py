"""The load: jobs of all kinds at a steady pace, whatever becomes of the earlier ones.

Two tenants take turns, and so do the four priorities: no-ops, short sleeps in threads and in the
event loop, bytes there and back, failures, delayed jobs, small bulk calls, and clients that come
for one job. The end of every job is waited for and checked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.cluster import Cluster
from benchmarks.load import check
from benchmarks.scale.probing import connected_client
from fastworker import Client, TaskHandle, TaskPriority

KINDS: Final = 10
NAP_SECONDS: Final = 0.001
HOLD_SECONDS: Final = 0.01
DELAY_SECONDS: Final = 0.5
ECHO_BYTES: Final = 2_000
BULK_JOBS: Final = 10
VISIT_EVERY: Final = 100
"""Jobs; each a client of its own comes and goes."""
END_SECONDS: Final = 60.0
"""For the last jobs, after the last was submitted."""


class Mixture:
    """Submits, and collects how long no-ops took.

    Args:
        clients: one a tenant.
        tokens: theirs, for clients that come and go.
    """

    def __init__(self, cluster: Cluster, clients: Sequence[Client], tokens: Sequence[str]) -> None:
        self._cluster = cluster
        self._clients = clients
        self._tokens = tokens
        self.ended = 0
        """Jobs, as they should."""
        self._seconds: list[float] = []

    def take_latencies(self) -> list[float]:
        """Seconds from submission to result, of no-ops since the last call."""
        taken, self._seconds = self._seconds, []
        return taken

    async def run(self, per_second: float, seconds: float) -> None:
        """So many calls a second for so long; returns when all have ended.

        Raises:
            AssertionError, FastWorkerError: in an exception group: a job did not end as it should.
        """
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(per_second * seconds)):
                await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
                group.create_task(self._one(number))

    async def _one(self, number: int) -> None:
        tenant = number % len(self._clients)
        async with asyncio.timeout(END_SECONDS):
            if number % VISIT_EVERY == 0:
                async with connected_client(self._cluster, self._tokens[tenant]) as visitor:
                    await self._no_op(visitor, number)
            else:
                await self._kind(self._clients[tenant], number)

    async def _kind(self, client: Client, number: int) -> None:
        # The tenants take turns by parity: the kinds must not follow the same.
        kind = number // len(self._clients) % KINDS
        urgent = client.options(priority=TaskPriority(number // 7 % len(TaskPriority)))
        match kind:
            case 0:
                handle = await urgent.submit("nap", NAP_SECONDS)
                check([await handle.result()], [NAP_SECONDS])
            case 1:
                data = number.to_bytes(8, "big") * (ECHO_BYTES // 8)
                handle = await urgent.submit("echo", data)
                check([await handle.result()], [data])
            case 2:
                await _expect_failure(await urgent.submit("refuse", number), number)
            case 3:
                handle = await urgent.submit("hold", HOLD_SECONDS)
                assert isinstance(await handle.result(), float)
            case 4:
                handle = await client.submit("add", number, 1, countdown=DELAY_SECONDS)
                check([await handle.result()], [number + 1])
            case 5:
                rows = [(number, x) for x in range(BULK_JOBS)]
                results = await client.results(await client.submit_many("add", rows))
                check(results, [x + y for x, y in rows])
                self.ended += BULK_JOBS - 1
            case _:
                await self._no_op(client, number)
                return
        self.ended += 1

    async def _no_op(self, client: Client, number: int) -> None:
        began = time.perf_counter()
        handle = await client.submit("add", number, 1)
        value = await handle.result()
        self._seconds.append(time.perf_counter() - began)
        check([value], [number + 1])
        self.ended += 1


async def _expect_failure(handle: TaskHandle[Any], number: int) -> None:
    try:
        value = await handle.result()
    except ValueError as error:  # the task's own, rebuilt
        assert f"number {number}" in str(error), error
    else:
        raise AssertionError(f"a job that fails returned {value!r}")
