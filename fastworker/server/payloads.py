"""Arguments that memory did not keep, and checkpoints: read from the store when their jobs are
handed out."""

from __future__ import annotations

import trio

from fastworker.core.facts import Outcomes
from fastworker.core.memory import without_payload
from fastworker.core.records import Failure, JobRow, TaskStatus
from fastworker.server.columns import split_assignment
from fastworker.server.plane import Plane

JOBS_AT_ONCE = 200
"""Read and sent together, if they fit into one assignment; the rest waits in the store, not in
memory."""


class PayloadLoader:
    """Sends assignments once their arguments have been read."""

    def __init__(self) -> None:
        self._put, self._take = trio.open_memory_channel[tuple[bytes, list[tuple[JobRow, int]]]](
            # Leased jobs are bounded by the slots of all subworkers, so this cannot grow freely.
            100_000
        )

    def load(self, session: bytes, jobs: list[tuple[JobRow, int]]) -> None:
        """Send these leased jobs to a subworker as soon as their arguments are there."""
        self._put.send_nowait((session, jobs))

    async def serve_forever(self, plane: Plane) -> None:
        """Read and send until cancelled."""
        async for session, jobs in self._take:
            for at in range(0, len(jobs), JOBS_AT_ONCE):
                for part in split_assignment(jobs[at : at + JOBS_AT_ONCE], None):
                    await self._send_some(plane, session, part)

    async def _send_some(
        self, plane: Plane, session: bytes, jobs: list[tuple[JobRow, int]]
    ) -> None:
        absent = [job.key for job, _ in jobs if job.payload is None]
        payloads = await plane.store.payloads(absent) if absent else {}
        left = [job.key for job, _ in jobs if plane.dispatcher.has_checkpoint(job.key)]
        checkpoints = await plane.store.checkpoints(left) if left else {}
        ready: list[tuple[JobRow, int]] = []
        lost: list[JobRow] = []
        for job, pool in jobs:
            payload = payloads.get(job.key) if job.payload is None else job.payload
            current = plane.dispatcher.job(job.id)
            if current is None or current.token != job.token or current.session != session:
                continue  # given back meanwhile: it is handed out under a newer lease
            if payload is None:
                lost.append(job)
            else:
                ready.append((JobRow._make((*without_payload(job)[:-1], payload)), pool))
        plane.roster.send_assignment(session, ready, checkpoints=checkpoints)
        if lost:
            await plane.inbox.put(_corrupt(plane, session, lost))


def _corrupt(plane: Plane, session: bytes, jobs: list[JobRow]) -> Outcomes:
    """Their arguments are not in the store: they end, and say so."""
    message = "the store no longer has its arguments; run `fastworker store check`"
    failure = Failure("JobDead", message, "", "corrupt")
    now = plane.clock().wall
    return Outcomes(
        session,
        [job.id for job in jobs],
        [job.token for job in jobs],
        [TaskStatus.DEAD] * len(jobs),
        [None] * len(jobs),
        [None] * len(jobs),
        [now] * len(jobs),
        {index: failure for index in range(len(jobs))},
    )
