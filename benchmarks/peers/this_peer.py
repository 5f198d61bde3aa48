"""This fastworker as one peer of the harness, set up as its users would have it.

A control plane and a subworker for each worker process, over the command line; a token, default
retention, one runner of the default concurrency unless a workload asks for another. The variant
is the durability: ``power``, as by default, or ``memory``. Nothing else is set.

The harness imports this as ``adapters.this_peer``: in the client, and in the runners, which find
the two tasks here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The harness's own; it is on the path where this runs.
from adapters.base import LOST, AsyncAdapter, Failed, setting  # type: ignore[import-not-found]

import fastworker
from fastworker import Client, TaskHandle, task

CONNECT_SECONDS = 60.0
"""For imports and the first connection on a busy machine."""


@task
async def add(a: int, b: int) -> int:
    """The no-op."""
    return a + b


@task
async def nap(seconds: float) -> int:
    """A job that waits."""
    await asyncio.sleep(seconds)
    return 0


class Adapter(AsyncAdapter):  # type: ignore[misc]
    """See ``adapters/base.py`` of the harness."""

    distribution = "fastworker"
    server = None

    def __init__(self, context: Any) -> None:
        super().__init__(context)
        port = int(setting("PORT"))
        os.environ |= {
            "FASTWORKER_BASE_ADDRESS": f"tcp://127.0.0.1:{port}",
            "FASTWORKER_DISCOVERY_ADDRESS": f"tcp://127.0.0.1:{port + 1}",
            "FASTWORKER_CONTROL_PLANE_ADDRESS": f"tcp://127.0.0.1:{port}",
            "FASTWORKER_TOKEN": f"bench.{secrets.token_hex(24)}",
            "FASTWORKER_STORE": str(Path(context.workdir) / "state"),
            "FASTWORKER_DURABILITY": context.variant,
            "FASTWORKER_LOCAL_WORKER": "never",
            "FASTWORKER_LOG_LEVEL": "warning",
            "FASTWORKER_TASK_MODULES": "adapters.this_peer",
        }

    def start(self, workers: int, concurrency: int | None = None) -> None:
        if not self.context.running("control-plane"):
            self._spawn("control-plane", "control-plane", server=True)
        flags = [] if concurrency is None else ["--concurrency", str(concurrency)]
        for number in range(workers):
            self._spawn(f"subworker{number}", "subworker", *flags)

    def _spawn(self, name: str, *arguments: str, server: bool = False) -> None:
        # The harness gives its own folder alone; a checkout need not be installed.
        folders = [str(Path(fastworker.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        self.context.spawn(
            name,
            [sys.executable, "-m", "fastworker", "run", *arguments],
            server=server,
            PYTHONPATH=os.pathsep.join(filter(None, folders)),
        )

    async def open(self) -> None:
        self.client = Client()
        await self.client.start()
        await self.client.wait_connected(CONNECT_SECONDS)

    async def close(self) -> None:
        await self.client.stop()

    async def submit(self, task: str, args: Sequence[Any]) -> TaskHandle[Any]:
        return await self.client.submit(task, *args)

    async def submit_all(self, task: str, args: Sequence[Any]) -> list[TaskHandle[Any]]:
        return await self.client.submit_many(task, args)

    async def result(self, handle: TaskHandle[Any], timeout: float) -> Any:  # noqa: ASYNC109
        return await handle.result(timeout)

    async def results_all(
        self,
        handles: Sequence[TaskHandle[Any]],
        timeout: float,  # noqa: ASYNC109
        results: list[Any],
    ) -> None:
        try:
            results[:] = await self.client.results(handles, timeout=timeout)
        except Exception:  # of one job or of time: whose it is, is looked at one by one
            results[:] = [await _outcome(handle) for handle in handles]


async def _outcome(handle: TaskHandle[Any]) -> Any:
    """What has come back by now."""
    if not handle.done:
        return LOST
    try:
        return await handle.result()
    except Exception as error:
        return Failed(error)
