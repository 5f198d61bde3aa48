"""One submission on its way: a job, or a group of jobs that is accepted or refused as one. Pure."""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, NamedTuple

from fastworker.client.failures import error_from_code
from fastworker.core.ids import id_text
from fastworker.core.records import JobOptions
from fastworker.errors import (
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    Overloaded,
    StorageFull,
)
from fastworker.tasks.models import TaskModels

_NO_ROOM: Final = frozenset({Overloaded.code, StorageFull.code})


class Spec(NamedTuple):
    """What the jobs of a submission may share."""

    task: str
    queue: str
    priority: int
    options: JobOptions


class Jobs(NamedTuple):
    """The jobs of a submission as columns; None columns: all have spec 0, no times."""

    ids: list[bytes]
    payloads: list[bytes]
    specs: list[Spec]
    which: list[int] | None = None
    ready_at: list[float | None] | None = None
    expires_at: list[float | None] | None = None
    keys: list[str | None] | None = None
    key_seconds: float | None = None
    """How long the keys hold; None: a day."""
    deadlines: list[float | None] | None = None
    """Of the jobs, in monotonic seconds."""
    models: list[TaskModels | None] | None = None
    """What results are for those whose task is known here; not sent."""


class Stage(enum.Enum):
    """Where a submission is."""

    QUEUED = enum.auto()
    IN_FLIGHT = enum.auto()
    WAITING_TO_RETRY = enum.auto()
    DONE = enum.auto()


class Refusal(NamedTuple):
    """One refusing answer, as it came."""

    code: str
    message: str
    retry_after: float | None = None
    existing_id: bytes | None = None


class Submission:
    """Jobs to be accepted by a deadline (monotonic seconds).

    ``on_done`` is called once, when ``error`` is final: None means accepted.
    """

    __slots__ = (
        "_in_doubt",
        "_last_answer",
        "_parts_open",
        "_refusal",
        "_unanswered",
        "deadline",
        "error",
        "existing",
        "grouped",
        "jobs",
        "number",
        "on_done",
        "parent",
        "resent",
        "sent",
        "size",
        "stage",
        "watch",
    )

    def __init__(
        self,
        jobs: Jobs,
        *,
        deadline: float,
        watch: bool = False,
        grouped: bool = False,
        parent: tuple[bytes, int] | None = None,
    ) -> None:
        self.jobs = jobs
        self.deadline = deadline
        self.watch = watch
        self.grouped = grouped
        self.parent = parent
        self.number = 0
        self.size = sum(map(len, jobs.payloads))
        self.stage = Stage.QUEUED
        self.sent = False
        self.resent = False
        self.error: FastWorkerError | None = None
        self.existing: dict[int, bytes] = {}
        self.on_done: Callable[[], None] | None = None
        self._parts_open = 0
        self._unanswered = False
        self._in_doubt = False
        self._refusal: Refusal | None = None
        self._last_answer: Refusal | None = None

    @property
    def task_id(self) -> str:
        """Id of its first job, for messages."""
        return id_text(self.jobs.ids[0])

    def mark_sent(self, parts: int) -> None:
        """It has left in ``parts`` messages, each of which will be answered."""
        self.stage = Stage.IN_FLIGHT
        self.resent = self.sent
        self.sent = True
        self._unanswered = True
        self.existing = {}
        self._parts_open = parts
        self._refusal = None

    def mark_lost(self) -> None:
        """The connection ended before all its answers came."""
        self.stage = Stage.QUEUED
        self._in_doubt = True

    def part_answered(self, refusal: Refusal | None) -> bool:
        """Take the answer to one message; True when it was the last one."""
        self._refusal = refusal if self._refusal is None else self._refusal
        self._parts_open -= 1
        if self._parts_open > 0:
            return False
        self._unanswered = False
        self._last_answer = self._refusal
        return True

    @property
    def may_be_stored(self) -> bool:
        """Whether a control plane may have it, though it has not said so."""
        return self._unanswered or self._in_doubt

    @property
    def refusal(self) -> Refusal | None:
        """What the last complete answer refused it with."""
        return self._last_answer

    def finish(self, error: FastWorkerError | None) -> None:
        """It is accepted (None) or has failed for good."""
        self.stage = Stage.DONE
        self.error = error
        if self.on_done is not None:
            self.on_done()

    def refusal_error(self, refusal: Refusal) -> FastWorkerError:
        """The exception for a refusal of this submission.

        For want of room a control plane refuses without looking whether it has the job: if an
        earlier attempt stayed unanswered, nobody knows.
        """
        if self._in_doubt and refusal.code in _NO_ROOM:
            return self._indeterminate(f"then it was refused ({refusal.message})")
        existing = refusal.existing_id
        return error_from_code(
            refusal.code,
            refusal.message,
            retry_after=refusal.retry_after,
            existing_id=None if existing is None else id_text(existing),
            task_id=self.task_id,
        )

    def late_error(self, why: str) -> FastWorkerError:
        """The exception for a submission whose time is over.

        Args:
            why: what ended it, and what is known of the connection; a clause.
        """
        if self._unanswered:
            return self._indeterminate(why)
        if self._last_answer is not None:
            return self.refusal_error(self._last_answer)
        error = ControlPlaneUnavailable(f"{self._what} was never sent: {why}")
        error.task_id = self.task_id
        return error

    @property
    def _what(self) -> str:
        return f"job {self.task_id} ({self.jobs.specs[0].task})"

    def _indeterminate(self, why: str) -> Indeterminate:
        error = Indeterminate(
            f"{self._what} was sent and not answered: {why}. It may or may not be stored; "
            "repeating it with options(task_id=error.task_id) never makes a second job"
        )
        error.task_id = self.task_id
        return error
