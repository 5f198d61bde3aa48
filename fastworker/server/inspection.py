"""What running jobs are doing: asked of the subworkers that have them, joined with what is known.

A subworker that does not answer in time is named, with its jobs as the control plane knows them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import DEFAULT_TENANT, JobRow, TaskStatus
from fastworker.core.sessions import Session
from fastworker.errors import InvalidOption, UnknownJob
from fastworker.server.criteria import text_option
from fastworker.wire.fields import OptionMap
from fastworker.wire.messages import Inspect, Inspected

if TYPE_CHECKING:
    from fastworker.server.plane import Plane

ANSWER_SECONDS: Final = 3.0
"""For one subworker, whose runners have a second each, at the same time."""

MAX_CHARACTERS: Final = 2 * 1024 * 1024
"""Of stacks in one report: far below what a frame may hold, whatever the characters are."""

MAX_JOBS: Final = 10_000
"""In one report: more is nothing for people to read."""


@dataclass(slots=True)
class _Question:
    answered: trio.Event = field(default_factory=trio.Event)
    answer: Inspected | None = None


class Inspections:
    """Questions to subworkers that wait for their answers."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._open: dict[tuple[bytes, int], _Question] = {}

    async def ask(
        self, plane: Plane, session: bytes, tokens: Sequence[int] | None, *, stacks: bool
    ) -> Inspected | None:
        """What a subworker says of these attempts (None: all that run); None: nothing in time."""
        link = plane.roster.subworkers.get(session)
        if link is None:
            return None
        key = session, next(self._numbers)
        question = self._open[key] = _Question()
        link.send(Inspect(key[1], tokens, stacks))
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await question.answered.wait()
        finally:
            del self._open[key]
        return question.answer

    def take(self, session: bytes, message: Inspected) -> None:
        """A subworker has answered; late answers are dropped."""
        question = self._open.get((session, message.request))
        if question is not None:
            question.answer = message
            question.answered.set()


async def stack_map(plane: Plane, options: OptionMap, sees: str | None) -> OptionMap:
    """The report ``stack`` {id}: {status}, and {job} if its code runs.

    Args:
        sees: the tenant whose jobs the asker may know of; None: everybody's.

    Raises:
        InvalidOption: no id.
        UnknownJob: no such job.
    """
    job_id = options.get("id")
    if not isinstance(job_id, bytes) or len(job_id) != ID_BYTES:
        raise InvalidOption("the report stack is of one job; give its id")
    job = plane.job(job_id, sees)
    if job is None or job.status is not TaskStatus.RUNNING or job.session is None:
        views = await plane.store.views([job_id], sees)
        if not views:
            raise UnknownJob("no such job is known, or its result is no longer kept")
        return {"status": views[0].status.value}
    session = plane.dispatcher.memory.sessions.get(job.session)
    answer = await plane.inspections.ask(plane, job.session, [job.token], stacks=True)
    if answer is not None:
        rows = [row for row in answer.rows if row[0] == job.token]
        if not rows:
            # It waits at its subworker, or has just ended.
            return {"status": job.status.value}
        return {"status": job.status.value, "job": _job_map(plane, job, session, rows[0])}
    return {"status": job.status.value, "job": _silent_map(plane, job, session)}


async def tree_map(plane: Plane, options: OptionMap, sees: str | None) -> OptionMap:
    """The report ``tree`` {stacks, worker}: every subworker with the jobs it runs.

    Args:
        sees: the tenant whose jobs, and whose subworkers, it is about; None: everybody's.

    Raises:
        InvalidOption: an option that is none.
    """
    stacks = options.get("stacks", False)
    if not isinstance(stacks, bool):
        raise InvalidOption(f"stacks is {stacks!r:.40}; expected true or false")
    label = text_option(options, "worker")
    sessions = [session for session in plane.sessions(sees) if label in (None, session.label)]
    held = {each.incarnation: _held(plane, each, sees) for each in sessions}
    answers: dict[bytes, Inspected | None] = {}

    async def ask(session: Session) -> None:
        tokens = None if sees is None else [job.token for job in held[session.incarnation]]
        answers[session.incarnation] = await plane.inspections.ask(
            plane, session.incarnation, tokens, stacks=stacks
        )

    async with trio.open_nursery() as nursery:
        for session in sessions:
            if held[session.incarnation]:
                nursery.start_soon(ask, session)
            else:
                answers[session.incarnation] = Inspected(0, [])
    budget = _Budget(MAX_CHARACTERS, MAX_JOBS)
    workers = [
        _worker_map(plane, each, _held(plane, each, sees), answers[each.incarnation], budget)
        for each in sessions
    ]
    return {"workers": workers, "complete": budget.complete}


@dataclass(slots=True)
class _Budget:
    """What one report may still hold."""

    characters: int
    jobs: int
    complete: bool = True

    def take(self, job: OptionMap) -> bool:
        self.jobs -= 1
        self.characters -= len(job.get("stack") or "")
        if self.jobs < 0 or self.characters < 0:
            self.complete = False
        return self.complete


def _held(plane: Plane, session: Session, sees: str | None) -> list[JobRow]:
    return [job for job_id in list(session.held) if (job := plane.job(job_id, sees))]


def _worker_map(
    plane: Plane,
    session: Session,
    held: Sequence[JobRow],
    answer: Inspected | None,
    budget: _Budget,
) -> OptionMap:
    if answer is None:
        jobs = [_silent_map(plane, job, session) for job in held if job.started_at is not None]
    else:
        budget.complete = budget.complete and answer.complete
        by_token = {job.token: job for job in held}
        jobs = [
            _job_map(plane, by_token[token], session, row)
            for row in answer.rows
            if isinstance(token := row[0], int) and token in by_token
        ]
    return {
        "label": session.label,
        "host": session.host,
        "pid": session.pid,
        "connected": session.origin is not None,
        "answered": answer is not None,
        "jobs": [job for job in jobs if budget.take(job)],
    }


def _job_map(
    plane: Plane, job: JobRow, session: Session | None, row: Sequence[object]
) -> OptionMap:
    _, runner, pid, kind, waits, start, stack = row
    found = _known_map(plane, job, session)
    found.update(runner=runner, runner_pid=pid, kind=kind, waits=waits, stack=stack)
    if start is not None:
        found["started_at"] = start
    return found


def _silent_map(plane: Plane, job: JobRow, session: Session | None) -> OptionMap:
    found = _known_map(plane, job, session)
    silence = f"no stack: its worker has not answered within {ANSWER_SECONDS:g} s"
    found.update(kind="unknown", waits=0, stack=silence)
    return found


def _known_map(plane: Plane, job: JobRow, session: Session | None) -> OptionMap:
    """What is known here, without asking anybody."""
    key = plane.dispatcher.memory.lanes_by_number[job.lane].key
    found: OptionMap = {
        "id": job.id,
        "task": key.task,
        "queue": key.queue,
        "priority": key.priority,
        "attempt": job.attempts,
        "worker": "" if session is None else session.label,
        "watchers": plane.roster.watchers_of(job.id),
    }
    if key.tenant != DEFAULT_TENANT:
        found["tenant"] = key.tenant
    if job.options.parent is not None:
        found["parent"] = job.options.parent
    if job.started_at is not None:
        found["started_at"] = job.started_at
    return found
