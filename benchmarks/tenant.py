"""A client that speaks for one tenant, for `benchmarks.fairness`: it floods, or is measured.

Run as a program, with its tenant's token in the environment, by the interpreter that is measured.

    tenant.py flood '{"per_second": 1000, "service": 0.1}'     until its stdin is closed
    tenant.py measure '{"jobs": 200, "every": 0.237, "service": 0.1}'
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final

from fastworker import Client

CONNECT_SECONDS: Final = 30.0
TICK_SECONDS: Final = 0.05
"""A flood arrives in bulk calls, so many a second that no subworker sees the gaps."""


async def flood(client: Client, sizes: Mapping[str, Any]) -> None:
    """Submit at a steady pace, whatever becomes of it."""
    began = time.perf_counter()
    submitted = 0
    closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    print("flooding", flush=True)
    while not closed.done():
        due = int((time.perf_counter() - began) * sizes["per_second"]) + 1
        if due > submitted:
            await client.submit_many("hold", [(sizes["service"],)] * (due - submitted))
            submitted = due
        await asyncio.wait([closed], timeout=TICK_SECONDS)


async def measure(client: Client, sizes: Mapping[str, Any]) -> None:
    """Jobs at a steady pace; prints how long each waited, from its call until its code began."""
    waits: list[float] = []

    async def one() -> None:
        called = time.time()
        handle = await client.submit("hold", sizes["service"])
        waits.append(await handle.result() - called)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(sizes["jobs"]):
            await asyncio.sleep(max(0.0, began + number * sizes["every"] - time.perf_counter()))
            group.create_task(one())
    print(json.dumps(waits), flush=True)


async def main(what: str, sizes: Mapping[str, Any]) -> None:
    """Connect, and do one of the two."""
    async with Client() as client:
        await client.wait_connected(CONNECT_SECONDS)
        await (flood if what == "flood" else measure)(client, sizes)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
