"""A control plane without its shell: the dispatcher over the memory store, turn by turn."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from fastworker.core.commands import AssignJobs, Command
from fastworker.core.dispatcher import Dispatcher, Staged
from fastworker.core.facts import Fact, Handbacks, Outcomes, Registration, Retry, Spec, Submission
from fastworker.core.questions import Known
from fastworker.core.records import (
    DEFAULT_OPTIONS,
    DEFAULT_TENANT,
    AttemptRow,
    Failure,
    JobOptions,
    JobRow,
    Now,
    TaskPriority,
    TaskStatus,
)
from fastworker.core.tenants import Tenants
from fastworker.store.memory import MemoryStore

C = TypeVar("C", bound=Command)
LEASE = 15.0

_ids = itertools.count(1)


def new_ids(count: int) -> list[bytes]:
    """Ids never used before."""
    return [next(_ids).to_bytes(16, "big") for _ in range(count)]


def submission(
    ids: Sequence[bytes],
    *,
    task: str = "add",
    queue: str = "default",
    priority: TaskPriority = TaskPriority.NORMAL,
    options: JobOptions = DEFAULT_OPTIONS,
    ready_at: float | None = None,
    expires_at: float | None = None,
    first_try: bool = True,
    watch: bool = False,
    atomic: bool = False,
    tenant: str = DEFAULT_TENANT,
) -> Submission:
    """Jobs alike."""
    return Submission(
        origin=None,
        specs=[Spec(task, queue, int(priority), options)],
        ids=ids,
        payloads=[b"arguments"] * len(ids),
        ready_at=None if ready_at is None else [ready_at] * len(ids),
        expires_at=None if expires_at is None else [expires_at] * len(ids),
        first_try=first_try,
        watch=watch,
        atomic=atomic,
        tenant=tenant,
    )


def registration(
    session: bytes,
    *,
    slots: int = 2,
    prefetch: int = 0,
    tasks: Sequence[str] = ("add",),
    queues: Sequence[str] = ("default",),
    local: bool = False,
    claims: Sequence[tuple[bytes, int]] = (),
    origin: object = "connection",
) -> Registration:
    """A subworker with so many async slots."""
    return Registration(
        session=session,
        origin=origin,
        label=session.decode(),
        queues=frozenset(queues),
        tasks=dict.fromkeys(tasks, 0),
        signatures={},
        pools=(slots, slots),
        prefetch=(prefetch, prefetch),
        local=local,
        claims={token: job_id for job_id, token in claims},
    )


def outcomes(
    session: bytes,
    jobs: Sequence[JobRow],
    *,
    status: TaskStatus = TaskStatus.SUCCESS,
    at: float = 1000.0,
    retry: Retry | None = None,
) -> Outcomes:
    """How these attempts ended; ``retry``: they failed, and their policy wants them repeated."""
    if retry is not None:
        status = TaskStatus.FAILURE
    failure = Failure("ValueError", "bad", "", "")
    failed = status is not TaskStatus.SUCCESS
    return Outcomes(
        session=session,
        ids=[job.id for job in jobs],
        tokens=[job.token for job in jobs],
        statuses=[status] * len(jobs),
        values=[None if failed else b"value"] * len(jobs),
        started_at=[at] * len(jobs),
        finished_at=[at] * len(jobs),
        failures=dict.fromkeys(range(len(jobs)), failure) if failed else {},
        retries={} if retry is None else dict.fromkeys(range(len(jobs)), retry),
    )


def runner_death(session: bytes, jobs: Sequence[JobRow], *, started: int = 1) -> Handbacks:
    """A runner died that had these."""
    ids, tokens = [job.id for job in jobs], [job.token for job in jobs]
    return Handbacks(session, ids, tokens, [started] * len(jobs), "runner_died", "signal 9")


class Plane:
    """Takes turns; time stands still unless it is told to pass."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        now: Now | None = None,
        tenants: Tenants | None = None,
    ) -> None:
        self.store = store or MemoryStore()
        self.now = now or Now(1000.0, 50.0)
        self.attempts: list[AttemptRow] = []
        """What was written of attempts that did not end their job."""
        self.tenants = tenants or Tenants()
        self.dispatcher = Dispatcher(
            self.store.load(), self.now, lease_seconds=LEASE, tenants=self.tenants
        )

    def restart(self) -> Plane:
        """A new control plane over the same store, as after a crash."""
        return Plane(self.store, self.now, self.tenants)

    def turn(self, *facts: Fact, seconds: float = 0.0) -> list[Command]:
        """One turn after so many seconds; returns what is to be done."""
        self.now = Now(self.now.wall + seconds, self.now.monotonic + seconds)
        staged = self.decide(*facts)
        self.store.save(staged.saves)
        self.dispatcher.apply(staged)
        self.attempts += staged.saves.attempts
        return staged.commands

    def decide(self, *facts: Fact) -> Staged:
        """What a turn would do, which is not done yet."""
        asked = self.dispatcher.questions(facts, self.now)
        known = self.store.recall(asked) if asked else Known()
        return self.dispatcher.handle_all(facts, known, self.now, asked=asked)

    def pass_time(self, seconds: float) -> list[Command]:
        """Turns as the loop would take them while nothing happens."""
        commands: list[Command] = []
        while seconds > 0:
            step = min(seconds, LEASE / 6)
            commands += self.turn(seconds=step)
            seconds -= step
        return commands

    def status(self, job_id: bytes) -> TaskStatus:
        """What the store says of a job."""
        (view,) = self.store.reader().views([job_id])
        return view.status


def only(commands: Sequence[Command], kind: type[C]) -> list[C]:
    """The commands of one kind."""
    return [command for command in commands if isinstance(command, kind)]


def assigned(commands: Sequence[Command], session: bytes | None = None) -> list[JobRow]:
    """The jobs handed out, in order."""
    return [
        job
        for command in only(commands, AssignJobs)
        if session is None or command.session == session
        for job, _ in command.jobs
    ]
