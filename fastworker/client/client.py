"""The client that applications hold. Works unchanged in asyncio (with uvloop too) and in Trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any, TypeVar

from fastworker.client.calls import (
    Call,
    TaskLike,
    check_group,
    check_options,
    checked_keys,
    chosen,
    job_of,
    job_of_stream,
    jobs_of_calls,
    jobs_of_one_task,
)
from fastworker.client.cancelling import CancelCalls
from fastworker.client.dead import DeadLetterCalls
from fastworker.client.deliveries import DeliveryCalls
from fastworker.client.following import FollowCalls
from fastworker.client.group_calls import GroupCalls
from fastworker.client.handles import TaskHandle
from fastworker.client.queues import QueueCalls
from fastworker.client.results import Watched, view_to_result
from fastworker.client.running import RunningCalls
from fastworker.client.streaming import stream_handles
from fastworker.client.streams import Stream
from fastworker.client.submissions import Submission
from fastworker.core.ids import id_bytes, id_text
from fastworker.core.records import JobView, TaskPriority, TaskResult, TaskStatus
from fastworker.errors import CallerError, ProtocolError, UnknownJob
from fastworker.options import CallOptions
from fastworker.wire.messages import Fetch, Fetched
from fastworker.wire.views import map_to_view

R = TypeVar("R")


class BoundOptions:
    """A client with options chosen: ``client.options(queue="slow").submit("add", 2, 3)``."""

    __slots__ = ("_client", "_given")

    def __init__(self, client: Client, given: Mapping[str, Any]) -> None:
        self._client = client
        check_options(given)
        self._given = given

    def options(self, **changes: Any) -> BoundOptions:
        """These options with some changed."""
        return BoundOptions(self._client, {**self._given, **changes})

    async def delay(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> str:
        """Submit; all keywords are the task's own. See `Client.delay`."""
        call = Call(task, args, kwargs, chosen(task, **self._given))
        return (await self._client._submit(call, watch=False)).id

    async def submit(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """Submit; all keywords are the task's own. See `Client.submit`."""
        call = Call(task, args, kwargs, chosen(task, **self._given))
        return await self._client._submit(call, watch=True)

    def stream(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        """The items of a generator task; all keywords are its own. See `Client.stream`."""
        call = Call(task, args, kwargs, chosen(task, **self._given))
        return self._client._stream(call)


class Client(
    CancelCalls, DeadLetterCalls, DeliveryCalls, FollowCalls, GroupCalls, QueueCalls, RunningCalls
):
    """A connection to the control plane, for any number of concurrent callers of one event loop.

    ::

        async with Client() as client:
            task_id = await client.delay("add", 2, 3)

    Args:
        control_plane_address: ``tcp://host:port`` (= ``ws://``) or ``wss://…``; several
            separated by commas. Wins over ``FASTWORKER_CONTROL_PLANE_ADDRESS``, which wins over
            discovery.
        discovery_address: the same, for the discovery port; both serve the same protocol.
        token: default: the settings' token, or this machine's local one.
        submit_timeout: seconds or a timedelta: how long a submission is retried through
            disconnects and overload.
        outbox_limit: jobs that may wait to be accepted; further callers wait for room.
        tls: context for ``wss://`` that checks the server's name; default: that of the settings
            ``tls_ca``, ``tls_cert`` and ``tls_key``, else the system's authorities.

    Raises:
        CallerError: an argument that cannot be used.
    """

    async def delay(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> str:
        """Submit a job and return its id once it is accepted.

        Waits and retries through disconnects and overload for ``submit_timeout``. If the caller
        is cancelled the job may have been submitted. Arguments of a task given by name are checked
        here if all connected subworkers agree on its signature.

        Args:
            task: its name, or the task itself.
            priority: default NORMAL.
            countdown: seconds or a timedelta until it may start.
            eta: aware moment before which it does not start.

        Raises:
            CallerError: nothing was sent; an `ArgumentError` if arguments do not fit.
            Rejected: refused; definitely not stored.
            Indeterminate: sent and not answered; ``.task_id`` makes repeating it safe.
            ControlPlaneUnavailable: never sent.
        """
        options = chosen(task, priority=priority, countdown=countdown, eta=eta)
        return (await self._submit(Call(task, args, kwargs, options), watch=False)).id

    async def submit(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> TaskHandle[Any]:
        """Like `delay`, and return a handle; its result is pushed here when the job ends."""
        options = chosen(task, priority=priority, countdown=countdown, eta=eta)
        return await self._submit(Call(task, args, kwargs, options), watch=True)

    def stream(
        self,
        task: TaskLike,
        /,
        *args: Any,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> Stream[Any]:
        """Have a generator task run, and iterate over its items: ``async for`` over what this
        returns. See `Stream`; the job is submitted at the first step.

        Raises:
            CallerError: the arguments do not fit or cannot be sent, or the task does not yield.
        """
        options = chosen(task, priority=priority, countdown=countdown, eta=eta)
        return self._stream(Call(task, args, kwargs, options))

    def _stream_call(
        self, task: TaskLike, args: Sequence[Any], kwargs: Mapping[str, Any], options: CallOptions
    ) -> Stream[Any]:
        """What streams of tasks come down to."""
        return self._stream(Call(task, tuple(args), kwargs, options))

    def _stream(self, call: Call) -> Stream[Any]:
        return Stream(self, job_of_stream(call, self._usable().offers.parameters))

    async def delay_with_callback(
        self,
        task: TaskLike,
        callback_address: str,
        /,
        *args: Any,
        callback_data: Any = None,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        **kwargs: Any,
    ) -> str:
        """Like `delay`; the end of the job is announced at ``callback_address``.

        Args:
            callback_address: ``tcp://host:port`` where `open_callback_listener` listens, or
                ``client.callback_address`` for `callbacks`.
            callback_data: comes back with the callback; at most 8 KiB.
        """
        options = chosen(
            task,
            callback=callback_address,
            callback_data=callback_data,
            priority=priority,
            countdown=countdown,
            eta=eta,
        )
        return (await self._submit(Call(task, args, kwargs, options), watch=False)).id

    async def apply(
        self,
        task: TaskLike,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> TaskHandle[Any]:
        """Submit with arguments as they are and any option by keyword; see `options`."""
        check_options(options)
        call = Call(task, tuple(args), kwargs or {}, chosen(task, **options))
        return await self._submit(call, watch=True)

    def options(self, **options: Any) -> BoundOptions:
        """Choose options for calls: ``client.options(queue="slow", expires=60).delay("add", 1)``.

        Raises:
            InvalidOption: an option that does not exist.
        """
        return BoundOptions(self, options)

    async def _submit_call(
        self,
        task: TaskLike,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: CallOptions,
        *,
        watch: bool,
    ) -> TaskHandle[Any]:
        """What calls on tasks come down to."""
        return await self._submit(Call(task, tuple(args), kwargs, options), watch=watch)

    async def _submit(self, call: Call, *, watch: bool) -> TaskHandle[Any]:
        connection = self._usable()
        submission, watched = self._prepare(job_of(call, connection.offers.parameters), watch=watch)
        await connection.accept(submission, watched)
        return self._accepted(submission, watched)[0]

    def _accepted(self, submission: Submission, watched: list[Watched]) -> list[TaskHandle[Any]]:
        """Handles of accepted jobs; where an older job holds, of that one."""
        ids, models = submission.jobs.ids, submission.jobs.models or repeat(None)
        if not submission.existing:
            return [
                TaskHandle(self, one, models=model)
                for one, model in zip(watched, models, strict=False)
            ]
        return [
            TaskHandle(self, one, deduplicated=one.id != job_id, models=model)
            for one, job_id, model in zip(watched, ids, models, strict=False)
        ]

    # --- many ------------------------------------------------------------------------------

    async def submit_many(
        self,
        calls: TaskLike | Iterable[Call],
        args: Iterable[Sequence[Any]] | None = None,
        /,
        *,
        keys: Iterable[str | None] | None = None,
        idempotency_window: float | timedelta | None = None,
        **options: Any,
    ) -> list[TaskHandle[Any]]:
        """Submit up to 10,000 jobs or 8 MiB of arguments: all are accepted, or none.

        ``submit_many("add", [(1, 2), (3, 4)], queue="sums")`` is one task with many arguments;
        ``submit_many([call("add", 1, 2), call("mail", "x")])`` is any tasks.

        Args:
            keys: an idempotency key for each job, or None for those without.
            idempotency_window: for how long the keys hold at least; see `options`.

        Raises:
            InvalidOption: too many for one transaction; use `submit_stream`.
            others: as for `delay`; ``.task_id`` is that of the first job.
        """
        connection = self._usable()
        offered = connection.offers.parameters
        given = checked_keys(keys, idempotency_window)
        if args is not None:
            if isinstance(calls, Iterable) and not isinstance(calls, str):
                raise CallerError("submit_many(task, arguments): the first is a task or its name")
            check_options(options)
            jobs = jobs_of_one_task(calls, args, chosen(calls, **options), offered, given)
        elif isinstance(calls, str) or not isinstance(calls, Iterable):
            raise CallerError("submit_many(task, arguments) needs the arguments of each job")
        elif options:
            raise CallerError("options go into each Call: call(...)._replace(options=...)")
        else:
            jobs = jobs_of_calls(calls, offered, given)
        if not jobs.ids:
            return []
        check_group(jobs)
        submission, watched = self._prepare(jobs, watch=True, grouped=True)
        await connection.accept(submission, watched)
        return self._accepted(submission, watched)

    def submit_stream(
        self, calls: Iterable[Call] | AsyncIterable[Call]
    ) -> AsyncGenerator[TaskHandle[Any], None]:
        """Submit any number of jobs and yield their handles in order, as they are accepted.

        ``calls`` is read no further ahead than a window of 1,000 jobs. Jobs are accepted one by
        one; an error is raised at its job's turn and ends the stream, and jobs before it stay
        submitted. Whoever may leave the loop early, by a cancellation too, iterates inside
        ``async with contextlib.aclosing(...)``: what is not accepted by then is given up at once.
        """
        return stream_handles(self, calls)

    async def results(
        self,
        handles: Iterable[TaskHandle[R]],
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> list[R]:
        """Wait for all of these jobs and return their values, in order.

        Raises:
            TimeoutError: not all had ended in time; the jobs go on.
            others: the first failure in order, as `TaskHandle.result` raises it.
        """
        wanted = list(handles)
        for handle in wanted:
            timeout = await handle._wait_accepted(timeout)
        await self._settle([handle._watched for handle in wanted], timeout)
        return [handle._value() for handle in wanted]

    # --- by id -----------------------------------------------------------------------------

    def handle(self, task_id: str) -> TaskHandle[Any]:
        """A handle for a job submitted earlier, here or elsewhere. Nothing is asked yet.

        Raises:
            InvalidOption: not an id.
        """
        return TaskHandle(self, self._watches.find(id_bytes(task_id)))

    async def result(self, task_id: str, timeout: float | timedelta | None = None) -> Any:  # noqa: ASYNC109
        """Wait for a job by its id and return its value; see `TaskHandle.result`."""
        return await self.handle(task_id).result(timeout)

    async def get_task_result(self, task_id: str) -> TaskResult | None:
        """How a job stands now, without waiting for its end; None: not known or not kept.

        Raises:
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        view = await self._fetch(task_id)
        return None if view is None else view_to_result(view)

    async def _status_of(self, task_id: str) -> TaskStatus:
        view = await self._fetch(task_id)
        if view is not None:
            return view.status
        error = UnknownJob(f"no job {task_id} is known; check the id")
        error.task_id = task_id
        raise error

    async def _fetch(self, task_id: str) -> JobView | None:
        job_id = id_bytes(task_id)
        answer = await self._usable().ask(
            lambda number: Fetch(number, job_id), timeout_seconds=self._submit_seconds
        )
        if not isinstance(answer, Fetched):
            raise ProtocolError(f"the answer to Fetch is {type(answer).__name__}")
        views = [map_to_view(found) for found in answer.jobs]
        return next((view for view in views if view.id == job_id), None)

    # --- reports ---------------------------------------------------------------------------

    async def workers(self) -> list[dict[str, Any]]:
        """The subworkers that are connected, as the control plane describes them."""
        return _rows(await self._query("workers"), "workers")

    async def tasks(self) -> list[dict[str, Any]]:
        """The tasks that the subworkers offer."""
        return _rows(await self._query("tasks"), "tasks")

    async def status(self) -> dict[str, Any]:
        """The control plane's own report: queues, counts, store."""
        return await self._query("status")

    async def jobs(self, **filters: Any) -> list[dict[str, Any]]:
        """Jobs, newest first, ids as text; ``filters``: such as ``status`` and ``limit``."""
        rows = _rows(await self._query("jobs", filters or None), "jobs")
        for row in rows:
            for name in ("id", "replay_of", "replayed_by"):
                if isinstance(row.get(name), bytes):
                    row[name] = id_text(row[name])
        return rows


def _rows(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    rows = body.get(name)
    if not isinstance(rows, list):
        raise ProtocolError(f"the report has no list of {name}")
    return rows
