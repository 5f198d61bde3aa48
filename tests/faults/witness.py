"""A client that notes the moment of everything it is told: what was promised when.

The moments are wall-clock seconds, as in a log of system calls on the same machine.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from dataclasses import dataclass

from fastworker import Client, TaskResult
from fastworker.core.ids import id_bytes, id_text, new_id
from fastworker.errors import ControlPlaneUnavailable, FastWorkerError, Indeterminate, Rejected

RESULT_SECONDS = 60.0
AT_ONCE = 8
"""Submissions under way at a time, so that several share a transaction."""


@dataclass
class Told:
    """One job, and what the client was told of it."""

    key: str
    task_id: str
    sent_at: float = 0.0
    acked_at: float | None = None
    refused: str | None = None
    """The code of the error that the submission ended with."""
    ended_at: float | None = None
    result: TaskResult | None = None

    @property
    def id(self) -> bytes:
        return id_bytes(self.task_id)


class Witness:
    """Submits and waits.

    Args:
        address, token: of the control plane.
        chooser: of sizes and pauses.
        submit_seconds: after which a submission without an answer is given up.
    """

    def __init__(
        self, address: str, token: str, chooser: random.Random, *, submit_seconds: float = 10.0
    ) -> None:
        self._random = chooser
        self._client = Client(
            control_plane_address=address, token=token, submit_timeout=submit_seconds
        )
        self.told: list[Told] = []
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Submit no more; what is under way goes on. From any thread."""
        self._stopping.set()

    def run(self, jobs: int, *, wait_results: bool = True) -> list[Told]:
        """Submit so many jobs and wait for their results."""
        return asyncio.run(self._run(jobs, wait_results))

    async def _run(self, jobs: int, wait_results: bool) -> list[Told]:
        places = asyncio.Semaphore(AT_ONCE)
        async with self._client, asyncio.TaskGroup() as group:
            for number in range(jobs):
                await places.acquire()
                if self._stopping.is_set():
                    break
                task_id = id_text(new_id(wall=time.time(), random=os.urandom(10)))
                told = Told(f"witness-{task_id[-6:]}-{number}", task_id)
                self.told.append(told)
                group.create_task(self._follow(told, places, wait_results))
                await asyncio.sleep(self._random.choice((0.0, 0.0, 0.001, 0.01)))
        return self.told

    async def _follow(self, told: Told, places: asyncio.Semaphore, wait_result: bool) -> None:
        padding = bytes(self._random.choice((0, 0, 100, 3_000, 20_000)))
        told.sent_at = time.time()
        try:
            bound = self._client.options(task_id=told.task_id)
            handle = await bound.submit("in_loop", told.key, 0.0, padding)
            told.acked_at = time.time()
        except (Indeterminate, ControlPlaneUnavailable, Rejected) as error:
            told.refused = error.code
            return
        finally:
            places.release()
        if wait_result:
            try:
                told.result = await handle.wait(timeout=RESULT_SECONDS)
                told.ended_at = time.time()
            except (FastWorkerError, TimeoutError) as error:
                told.refused = str(error)
