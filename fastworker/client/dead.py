"""Dead letters, and the attempts of jobs: records for people, and the calls that read and change.

Filters select by what a job was and how it ended. Bulk changes go page by page: each page is one
request, so that a million dead letters hold up nobody, and may be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import anyio

from fastworker.client.ambient import wall_seconds
from fastworker.client.base import ClientBase
from fastworker.client.calls import Call, job_of
from fastworker.client.handles import TaskHandle
from fastworker.client.moments import moment
from fastworker.core.ids import ID_BYTES, id_bytes, id_text
from fastworker.core.lengths import seconds_of
from fastworker.core.records import AttemptView, JobView, TaskPriority, TaskStatus
from fastworker.errors import InvalidOption, Overloaded, ProtocolError
from fastworker.options import MAX_SECONDS
from fastworker.wire.messages import Manage, Message
from fastworker.wire.values import CorruptPayload, open_call
from fastworker.wire.views import map_to_attempt, map_to_view

PAGE: Final = 500
"""Dead letters changed by one request: what the control plane takes at most."""

Moment = float | timedelta | datetime
"""How long ago, in seconds or as a timedelta, or an aware moment."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt of a job.

    Args:
        token: its lease's token; grows from attempt to attempt.
        worker: label of the subworker, None if it is not known any more.
        host: where it ran.
        pid: of the subworker.
        started_at: when its code started, None if it never did.
        finished_at: None while it runs.
        outcome: ``running``; the status in which the job ended; or, for one that did not end it,
            ``retried``, ``runner_died``, ``lease_expired``, ``lease_lost`` or ``drain``.
        error: type and message of the failure, or how the runner died; None if there was none.
    """

    token: int
    worker: str | None
    host: str | None
    pid: int | None
    started_at: datetime | None
    finished_at: datetime | None
    outcome: str
    error: str | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A job that ended as ``FAILURE`` or ``DEAD``.

    Args:
        task_id: the job.
        task: its task's name.
        queue: where it waited.
        priority: with which it waited.
        status: ``FAILURE`` or ``DEAD``.
        reason: one word, such as ``poison`` or ``lost``; None for what the task itself raised.
        error: type name of the failure, as filters take it.
        message: of the failure.
        attempts: how often it was handed out.
        submitted_at: when it was accepted.
        ended_at: when it ended.
        replay_of: the dead letter that it repeated itself, if any.
        tenant: whose job it was.
        cursor: gives the page that follows: ``before=letters[-1].cursor``.
    """

    task_id: str
    task: str
    queue: str
    priority: TaskPriority
    status: TaskStatus
    reason: str | None
    error: str
    message: str
    attempts: int
    submitted_at: datetime
    ended_at: datetime
    replay_of: str | None
    tenant: str
    cursor: int


@dataclass(frozen=True, slots=True)
class DeadLetterDetails(DeadLetter):
    """A dead letter with all that is kept of it.

    Args:
        args: positional arguments; None if they are damaged or not kept.
        kwargs: arguments by name; as ``args``.
        traceback: of the last attempt, "" if there is none.
        history: every attempt, first to last.
        replayed_by: the job that repeats it, if it has been replayed.
    """

    args: tuple[Any, ...] | None
    kwargs: dict[str, Any] | None
    traceback: str
    history: tuple[Attempt, ...]
    replayed_by: str | None


class DeadLetterCalls(ClientBase):
    """The part of `Client` that is about dead letters."""

    async def dead(
        self,
        task: str | None = None,
        error: str | None = None,
        *,
        older_than: Moment | None = None,
        newer_than: Moment | None = None,
        tenant: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[DeadLetter]:
        """A page of dead letters, newest first; replayed and discarded ones are left out.

        Args:
            task: only of the task of this name.
            error: only with this type name, exactly (``ValueError``, ``shop.NoStock``), or, of
                ``DEAD`` ones, with this reason.
            older_than: only ended so long ago or longer (seconds or a timedelta), or before an
                aware moment.
            newer_than: only ended less long ago, or after an aware moment.
            tenant: only of this one; None: of all that the client's token sees.
            limit: at most so many, up to 500.
            before: the `DeadLetter.cursor` of the last one of the page before.

        Raises:
            InvalidOption: a filter that cannot be one.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        options = _criteria(task, error, older_than, newer_than, tenant)
        options["limit"] = limit
        if before is not None:
            options["before"] = before
        rows = (await self._query("dead", options)).get("dead")
        if not isinstance(rows, list):
            raise ProtocolError("the report has no list of dead letters")
        return [DeadLetter(**_columns(row)) for row in rows]

    async def dead_letter(self, task_id: str) -> DeadLetterDetails:
        """One dead letter with arguments, traceback and attempts, also if it has been replayed.

        Raises:
            UnknownJob: it is no dead letter, or no longer kept.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        body = await self._query("dead_letter", {"id": id_bytes(task_id)})
        row = body.get("letter")
        if not isinstance(row, dict):
            raise ProtocolError("the report has no dead letter")
        view = map_to_view(row)
        args, kwargs = _arguments(body.get("payload"))
        return DeadLetterDetails(
            **_columns(row),
            args=args,
            kwargs=kwargs,
            traceback=view.failure.traceback if view.failure is not None else "",
            history=tuple(_attempts(body)),
            replayed_by=_text(view.replayed_by),
        )

    async def attempts(self, task_id: str) -> list[Attempt]:
        """Every attempt of a job, first to last; empty if it has not been handed out yet.

        Raises:
            UnknownJob: no job has this id.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        return _attempts(await self._query("attempts", {"id": id_bytes(task_id)}))

    async def replay(
        self,
        task_id: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> TaskHandle[Any]:
        """Submit a dead letter's job again, as a new job that is ready at once.

        It keeps task, queue, priority and options, but for eta and deadline. A second call, or
        one after a lost connection, gives the same new job. If the caller is cancelled it may
        have been replayed.

        Args:
            args: other positional arguments; with ``kwargs`` all arguments, in place of the
                job's own.
            kwargs: other arguments by name; as ``args``.

        Raises:
            UnknownJob: it is no dead letter, or no longer kept.
            CallerError: the other arguments do not fit or cannot travel; nothing was sent.
            Rejected: refused; nothing was replayed.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        options: dict[str, Any] = {"ids": id_bytes(task_id)}
        if args is not None or kwargs is not None:
            name = (await self.dead_letter(task_id)).task
            edited = Call(name, tuple(args or ()), kwargs or {})
            options["payload"] = job_of(edited, self._usable().offers.parameters).payloads[0]
        made = (await self._manage("replay", options)).get("ids")
        if type(made) is not bytes or len(made) != ID_BYTES:
            raise ProtocolError("the answer to a replay is not one id")
        # The public class is the only one.
        return TaskHandle(self, self._watches.find(made))  # type: ignore[arg-type]

    async def replay_dead(
        self,
        task: str | None = None,
        error: str | None = None,
        *,
        older_than: Moment | None = None,
        newer_than: Moment | None = None,
        tenant: str | None = None,
        limit: int | None = None,
    ) -> int:
        """Replay all dead letters that fit, newest first; without a filter all there are.

        Works page by page: what was replayed before a cancellation or an error stays so, and a
        second call goes on with the rest. See `dead` for the filters and `replay` for errors.

        Args:
            limit: at most so many; None: all.

        Returns:
            How many were replayed; a page repeated after a lost connection may count less.
        """
        criteria = _criteria(task, error, older_than, newer_than, tenant)
        return await self._change_all("replay", criteria, limit)

    async def discard(self, task_id: str) -> None:
        """Forget a dead letter: its result expires, its arguments are deleted.

        A second call does nothing.

        Raises:
            UnknownJob: it is no dead letter, or has been replayed.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        await self._manage("discard", {"ids": id_bytes(task_id)})

    async def discard_dead(
        self,
        task: str | None = None,
        error: str | None = None,
        *,
        older_than: Moment | None = None,
        newer_than: Moment | None = None,
        tenant: str | None = None,
        limit: int | None = None,
    ) -> int:
        """Discard all dead letters that fit, as `replay_dead` replays them; returns how many."""
        criteria = _criteria(task, error, older_than, newer_than, tenant)
        return await self._change_all("discard", criteria, limit)

    async def _change_all(self, what: str, criteria: dict[str, Any], limit: int | None) -> int:
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidOption(f"limit is {limit!r:.40}; give a number of dead letters, or None")
        count = 0
        page = dict(criteria)
        while limit is None or count < limit:
            page["limit"] = PAGE if limit is None else min(PAGE, limit - count)
            body = await self._manage(what, page)
            count += int(body.get("count") or 0)
            if body.get("before") is None:
                break
            page["before"] = body["before"]
        return count

    async def _manage(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        """Change something; waits and asks again while the control plane has no room."""
        deadline = anyio.current_time() + self._submit_seconds

        def build(number: int) -> Message:
            return Manage(number, what, options)

        while True:
            try:
                return await self._ask_report(build)
            except Overloaded as full:
                if anyio.current_time() + full.retry_after >= deadline:
                    raise
                await anyio.sleep(full.retry_after)


def _criteria(
    task: str | None,
    error: str | None,
    older_than: Moment | None,
    newer_than: Moment | None,
    tenant: str | None,
) -> dict[str, Any]:
    given = {
        "task": task,
        "error": error,
        "ended_before": _wall(older_than, "older_than"),
        "ended_after": _wall(newer_than, "newer_than"),
        "tenant": tenant,
    }
    return {name: value for name, value in given.items() if value is not None}


def _wall(value: Moment | None, what: str) -> float | None:
    """A public moment or age as wall seconds."""
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            raise InvalidOption(f"{what} has no time zone: {value.isoformat()}; make it aware")
        return value.timestamp()
    seconds = seconds_of(value, what)
    return wall_seconds() - min(seconds, float(MAX_SECONDS))


def _columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a `DeadLetter` from the row of a report."""
    if not isinstance(row, dict):
        raise ProtocolError("a dead letter is not a map")
    view: JobView = map_to_view(row)
    failure, key, ended_at = view.failure, row.get("key"), view.finished_at
    if type(key) is not int or ended_at is None or view.priority not in tuple(TaskPriority):
        raise ProtocolError("a dead letter has no key, no end, or no priority")
    return {
        "task_id": id_text(view.id),
        "task": view.task,
        "queue": view.queue,
        "priority": TaskPriority(view.priority),
        "status": view.status,
        "reason": (failure.reason or None) if failure is not None else view.reason,
        "error": failure.type_name if failure is not None else "",
        "message": failure.message if failure is not None else "",
        "attempts": view.attempts,
        "submitted_at": datetime.fromtimestamp(view.submitted_at, UTC),
        "ended_at": datetime.fromtimestamp(ended_at, UTC),
        "replay_of": _text(view.replay_of),
        "tenant": view.tenant,
        "cursor": key,
    }


def _arguments(payload: object) -> tuple[tuple[Any, ...] | None, dict[str, Any] | None]:
    if type(payload) is not bytes:
        return None, None
    try:
        args, kwargs = open_call(payload)
    except CorruptPayload:
        return None, None
    return tuple(args), kwargs


def _attempts(body: Mapping[str, Any]) -> list[Attempt]:
    rows = body.get("attempts")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ProtocolError("the report has no list of attempts")
    return [_attempt(map_to_attempt(row)) for row in rows]


def _attempt(view: AttemptView) -> Attempt:
    return Attempt(
        token=view.token,
        worker=view.worker,
        host=view.host,
        pid=view.pid,
        started_at=moment(view.started_at),
        finished_at=moment(view.finished_at),
        outcome=view.outcome,
        error=view.error or None,
    )


def _text(job_id: bytes | None) -> str | None:
    return None if job_id is None else id_text(job_id)
