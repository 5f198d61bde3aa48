"""A client process under load: submits until told to stop, then waits for every result.

Its ledger has one fsynced line per step of a key::

    intent KEY ID KIND      before the submission
    acked KEY | rejected KEY CODE | indeterminate KEY CODE
    ended KEY STATUS        as pushed to this process

Started again on the same ledger it repeats, under the same ids, what has no answer yet.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import signal
import time
from pathlib import Path

from fastworker import Client, TaskHandle, TaskPriority
from fastworker.client.calls import Call
from fastworker.core.ids import id_text, new_id
from fastworker.errors import (
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    Rejected,
)
from fastworker.options import CallOptions

SUBMITTERS = 6
SUBMIT_SECONDS = 2.0
"""Shorter than an outage, so that indeterminate submissions do occur."""

KINDS = ("in_thread", "in_loop", "in_loop", "fails", "once")
"""``once`` is ``in_loop`` that asks never to be started twice."""


class Application:
    """One life of the process."""

    def __init__(self, client: Client, ledger: Path, seed: int) -> None:
        self._client = client
        self._random = random.Random(seed)
        self._name = ledger.stem
        self._steps = _read(ledger)
        self._file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._numbers = itertools.count(len(self._steps))
        self._handles: dict[str, TaskHandle[object]] = {}
        self.stopping = asyncio.Event()

    async def run(self) -> None:
        """Repeat what is open, submit more until told to stop, wait for all results."""
        unanswered = [
            (key, job_id, kind)
            for key, (job_id, kind, last) in self._steps.items()
            if last in ("intent", "indeterminate")
        ]
        answered = {key: steps[0] for key, steps in self._steps.items() if steps[2] == "acked"}
        for key, job_id in answered.items():
            self._handles[key] = self._client.handle(job_id)
        async with asyncio.TaskGroup() as group:
            for key, job_id, kind in unanswered:
                group.create_task(self._submit([(key, job_id, kind)]))
            for _ in range(SUBMITTERS):
                group.create_task(self._submit_some())
        async with asyncio.TaskGroup() as group:
            for key, handle in self._handles.items():
                group.create_task(self._wait_end(key, handle))

    async def _submit_some(self) -> None:
        while not self.stopping.is_set():
            many = self._random.choice((1, 1, 1, 1, 20))
            jobs = []
            for _ in range(many):
                job_id = id_text(new_id(wall=time.time(), random=os.urandom(10)))
                key = f"{self._name}-{next(self._numbers)}"
                jobs.append((key, job_id, self._random.choice(KINDS)))
            self._note(*(f"intent {key} {job_id} {kind}" for key, job_id, kind in jobs))
            await self._submit(jobs)
            await asyncio.sleep(self._random.uniform(0, 0.06) * many)

    async def _submit(self, jobs: list[tuple[str, str, str]]) -> None:
        """Until there is an answer: an indeterminate submission is repeated under its ids."""
        calls = [self._call(*job) for job in jobs]
        while True:
            try:
                if len(calls) == 1:
                    handles = [await self._submit_one(calls[0])]
                else:
                    handles = await self._client.submit_many(calls)
            except (Indeterminate, ControlPlaneUnavailable) as error:
                self._note(*(f"indeterminate {job[0]} {error.code}" for job in jobs))
            except Rejected as error:
                self._note(*(f"rejected {job[0]} {error.code}" for job in jobs))
                return
            else:
                self._note(*(f"acked {job[0]}" for job in jobs))
                self._handles.update(zip((job[0] for job in jobs), handles, strict=True))
                return

    async def _submit_one(self, call: Call) -> TaskHandle[object]:
        options = call.options
        assert options is not None
        bound = self._client.options(
            task_id=options.task_id, priority=options.priority, on_lost=options.on_lost
        )
        return await bound.submit(call.task, *call.args)

    def _call(self, key: str, job_id: str, kind: str) -> Call:
        # Everything follows from the key, so that a repetition is the same job.
        chance = random.Random(key)
        options = CallOptions(
            task_id=job_id,
            priority=chance.choice(list(TaskPriority)),
            on_lost="fail" if kind == "once" else "retry",
        )
        seconds = chance.choice((0.0, 0.0, 0.01, 0.05))
        padding = bytes(chance.choice((0, 0, 100, 20_000)))
        return Call("in_loop" if kind == "once" else kind, (key, seconds, padding), {}, options)

    async def _wait_end(self, key: str, handle: TaskHandle[object]) -> None:
        while True:
            try:
                ended = await handle.wait(timeout=90)
            except FastWorkerError as error:
                self._note(f"ended {key} {error.code}")
                return
            self._note(f"ended {key} {ended.status}")
            return

    def _note(self, *lines: str) -> None:
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())
        os.fsync(self._file)


def _read(ledger: Path) -> dict[str, tuple[str, str, str]]:
    """Id, kind and last step of every key of an earlier life."""
    steps: dict[str, tuple[str, str, str]] = {}
    if ledger.exists():
        for line in ledger.read_text().splitlines():
            step, key, *rest = line.split()
            if step == "intent":
                steps[key] = (rest[0], rest[1], step)
            else:
                steps[key] = (*steps[key][:2], "acked" if step == "ended" else step)
    return steps


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    given = parser.parse_args()
    client = Client(
        control_plane_address=given.address,
        token=given.token_file.read_text(),
        submit_timeout=SUBMIT_SECONDS,
    )
    async with client:
        application = Application(client, given.ledger, given.seed)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, application.stopping.set)
        print("application started", flush=True)
        await application.run()
    print("application done", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
