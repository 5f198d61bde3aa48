"""What a client knows of the jobs whose results it wants. Pure: fed messages, asked questions.

The registry holds a `Watched` only until its end has come: from then on the handle alone keeps
the result, so results that nobody can read any more take no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from fastworker.client.failures import failure_error
from fastworker.client.moments import moment
from fastworker.core.ids import id_text, split_ids
from fastworker.core.records import (
    STATUS_CODES,
    Failure,
    JobView,
    ProgressView,
    TaskProgress,
    TaskResult,
    TaskStatus,
)
from fastworker.errors import FastWorkerError, ResultExpired, UnknownJob
from fastworker.wire.messages import Finished, Gone
from fastworker.wire.values import open_value


class Ending(NamedTuple):
    """How a job ended, as it was pushed; ``value`` is still sealed."""

    status: TaskStatus
    value: bytes | None
    started_at: float | None
    finished_at: float
    attempts: int
    failure: Failure | None


class Watched:
    """One job whose end somebody may wait for."""

    __slots__ = ("_listeners", "ending", "gone", "holders", "id", "subscribed")

    def __init__(self, job_id: bytes) -> None:
        self.id = job_id
        self.ending: Ending | None = None
        self.gone: type[UnknownJob] | type[ResultExpired] | None = None
        self.subscribed = False
        """Whether the control plane has accepted it and been asked to push its end."""
        self.holders = 1
        """Submissions under this id, and whoever asked for its end, while it is registered."""
        self._listeners: list[Callable[[], None]] | None = None

    @property
    def is_waited_for(self) -> bool:
        """Whether anybody wants to be told of its end."""
        return bool(self._listeners)

    @property
    def settled(self) -> bool:
        """Whether there is an answer: an end, or that there is none to have."""
        return self.ending is not None or self.gone is not None

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once, when it is settled."""
        if self._listeners is None:
            self._listeners = []
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Forget ``listener``; nothing happens if it has been called."""
        if self._listeners is not None and listener in self._listeners:
            self._listeners.remove(listener)

    def notify(self) -> None:
        """Call and forget all listeners."""
        listeners, self._listeners = self._listeners, None
        for listener in listeners or ():
            listener()

    def follow(self, other: Watched) -> None:
        """Be settled when ``other``, which is about the same job, is."""

        def copy() -> None:
            self.ending, self.gone = other.ending, other.gone
            self.subscribed = other.subscribed
            self.notify()

        self.subscribed = True
        other.listen(copy)


class Watches:
    """The jobs of one client whose ends are to be pushed, by id."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Watched] = {}

    def find(self, job_id: bytes) -> Watched:
        """The one that is registered, or a new one that is not."""
        return self._by_id.get(job_id) or Watched(job_id)

    def add(self, watched: Watched) -> bool:
        """Register, until its end comes; False if another one is: then it follows that one."""
        found = self._by_id.setdefault(watched.id, watched)
        if found is not watched:
            watched.follow(found)
        return found is watched

    def add_new(self, ids: list[bytes]) -> list[Watched]:
        """Make and register those of a submission.

        An id that was given, and is submitted again, has the one that is registered: what comes
        is for both, and one of them can be given up without the other.
        """
        made = [Watched(job_id) for job_id in ids]
        if self._by_id.keys().isdisjoint(ids):
            self._by_id.update(zip(ids, made, strict=True))
            return made
        for index, watched in enumerate(made):
            found = self._by_id.setdefault(watched.id, watched)
            if found is not watched:
                found.holders += 1
                made[index] = found
        return made

    def remove(self, jobs: Iterable[Watched]) -> list[Watched]:
        """Submissions of these were given up; those not registered are passed over.

        Returns:
            Those that stay registered because their end is waited for, though nothing will come
            for them unless it is asked for.
        """
        waited_for = []
        for watched in jobs:
            if self._by_id.get(watched.id) is not watched:
                continue
            watched.holders -= 1
            if watched.holders > 0:
                continue
            if watched.is_waited_for:
                watched.holders = 1
                waited_for.append(watched)
            else:
                del self._by_id[watched.id]
        return waited_for

    def finished(self, message: Finished) -> None:
        """Record what was pushed; ids that nobody holds are passed over."""
        failures = {
            index: Failure(*(str(text) for text in texts))
            for index, *texts in message.failures or ()
        }
        pop = self._by_id.pop
        rows = zip(
            split_ids(message.ids),
            message.statuses,
            message.values,
            message.started_at,
            message.finished_at,
            message.attempts,
            strict=True,
        )
        for index, (job_id, status, value, started_at, finished_at, attempts) in enumerate(rows):
            watched = pop(job_id, None)
            if watched is None:
                continue
            watched.ending = Ending(
                STATUS_CODES[status],
                value,
                started_at,
                finished_at,
                attempts,
                failures.get(index),
            )
            if watched._listeners is not None:
                watched.notify()

    def gone(self, message: Gone) -> None:
        """Record which jobs have no result to give."""
        kinds: tuple[tuple[bytes, type[UnknownJob] | type[ResultExpired]], ...] = (
            (message.unknown, UnknownJob),
            (message.expired, ResultExpired),
        )
        for packed, kind in kinds:
            for job_id in split_ids(packed):
                watched = self._by_id.pop(job_id, None)
                if watched is not None:
                    watched.gone = kind
                    watched.notify()

    def open_subscriptions(self) -> list[bytes]:
        """Ids to watch again on a new connection."""
        return [watched.id for watched in self._by_id.values() if watched.subscribed]

    def connection_ended(self) -> None:
        """Wake everybody who waits, because no answer will come."""
        waiting, self._by_id = self._by_id, {}
        for watched in waiting.values():
            watched.subscribed = False
            watched.notify()


class Countdown:
    """Calls ``done`` once every job of a set is settled: one event for any number of jobs."""

    def __init__(self, jobs: Iterable[Watched], done: Callable[[], None]) -> None:
        self._open = [job for job in jobs if not job.settled]
        self._left = len(self._open)
        self._done = done
        for job in self._open:
            job.listen(self._one)

    def _one(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._done()

    def cancel(self) -> None:
        """Stop listening."""
        for job in self._open:
            if not job.settled:
                job.unlisten(self._one)


def value_of(watched: Watched) -> Any:
    """The return value of a settled job.

    Raises:
        TaskError: (or the task's own exception, rebuilt) it did not succeed.
        UnknownJob, ResultExpired: there is no result to have.
    """
    error = end_error(watched)
    if error is not None:
        raise error
    ending = watched.ending
    assert ending is not None
    return None if ending.value is None else open_value(ending.value)


def end_error(watched: Watched) -> Exception | None:
    """What a settled job means to whoever wants its value, unless it succeeded."""
    ending = watched.ending
    if ending is None:
        return _gone_error(watched)
    if ending.status is TaskStatus.SUCCESS:
        return None
    return failure_error(id_text(watched.id), ending.status, ending.failure)


def result_of(watched: Watched) -> TaskResult:
    """A settled job as a `TaskResult`.

    Raises:
        UnknownJob, ResultExpired: there is no result to have.
    """
    ending = watched.ending
    if ending is None:
        raise _gone_error(watched)
    return _task_result(watched.id, ending, reason=None)


def view_to_result(view: JobView) -> TaskResult | None:
    """What `get_task_result` gives for a fetched job; None: its result is no longer kept."""
    if view.status.is_terminal and not view.result_kept:
        return None
    ending = Ending(
        view.status,
        view.value,
        view.started_at,
        0.0 if view.finished_at is None else view.finished_at,
        view.attempts,
        view.failure,
    )
    return replace(
        _task_result(view.id, ending, reason=view.reason),
        progress=None if view.progress is None else progress_of(view.progress),
        replay_of=None if view.replay_of is None else id_text(view.replay_of),
        replayed_by=None if view.replayed_by is None else id_text(view.replayed_by),
    )


def progress_of(view: ProgressView) -> TaskProgress:
    """Progress as applications see it."""
    return TaskProgress(view.done, view.total, view.message, datetime.fromtimestamp(view.at, UTC))


def _task_result(job_id: bytes, ending: Ending, *, reason: str | None) -> TaskResult:
    failure = ending.failure
    ended = ending.status.is_terminal
    has_value = ending.status is TaskStatus.SUCCESS and ending.value is not None
    return TaskResult(
        task_id=id_text(job_id),
        status=ending.status,
        result=open_value(ending.value) if has_value and ending.value is not None else None,
        error=None if failure is None else _error_text(failure),
        started_at=moment(ending.started_at),
        completed_at=moment(ending.finished_at) if ended else None,
        reason=(failure.reason or None) if failure is not None and ended else reason,
        traceback=None if failure is None else failure.traceback or None,
        attempts=ending.attempts,
    )


def _error_text(failure: Failure) -> str:
    return f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message


def _gone_error(watched: Watched) -> FastWorkerError:
    text = id_text(watched.id)
    error: FastWorkerError
    if watched.gone is ResultExpired:
        error = ResultExpired(
            f"job {text} has ended and its result is no longer kept; raise the retention "
            "or read results sooner"
        )
    else:
        error = UnknownJob(
            f"no job {text} is known; check the id, and that it was submitted to this control plane"
        )
    error.task_id = text
    return error
