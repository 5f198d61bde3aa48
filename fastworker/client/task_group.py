"""`client.task_group()`: jobs that end with a block of the caller's code.

What Trio says of a nursery and its children holds for a group and its jobs: the block ends when
all have ended; the first failure cancels the others, wherever they run; the errors arrive
together; a cancellation from outside reaches every job, and is passed on once they have ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, ParamSpec, Self, TypeVar, overload

import anyio

from fastworker.client.ambient import calling_job_seconds, waiting_for_results
from fastworker.client.calls import Call, TaskLike, check_options, chosen, job_of, jobs_of_one_task
from fastworker.client.connection import Connection
from fastworker.client.event_loop import in_trio
from fastworker.client.group_handles import GroupHandle
from fastworker.client.group_jobs import GroupJobs, GroupLimits, in_parts
from fastworker.client.local_group import LocalGroup
from fastworker.errors import CallerError
from fastworker.options import reason_text
from fastworker.tasks import AsyncTask, Task, TaskDefinition

if TYPE_CHECKING:
    from fastworker.client.client import Client

CLOCK_SECONDS: Final = 0.001
"""What a clock that is read twice may differ by."""

P = ParamSpec("P")
R = TypeVar("R")


class TaskGroup:
    """Jobs that end with a block; made by `Client.task_group` and used with ``async with``."""

    def __init__(self, client: Client, limits: GroupLimits) -> None:
        self._client = client
        self._limits = limits
        self._local = LocalGroup()
        self._entered = False
        self._timed_out = False
        self._closed = False
        self._jobs = GroupJobs(
            client, limits, on_failure=self._cancel_all, start_feeding=self._start_feeding
        )

    # --- starting --------------------------------------------------------------------------

    @overload
    def start_soon(
        self, task: Task[P, R] | AsyncTask[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> GroupHandle[R]: ...

    @overload
    def start_soon(
        self, task: str | TaskDefinition, /, *args: Any, **kwargs: Any
    ) -> GroupHandle[Any]: ...

    def start_soon(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> GroupHandle[Any]:
        """Submit a job that ends with the block; returns at once.

        What is started together leaves together. A refusal is a failure of the job. In a group
        that has been cancelled nothing starts any more.

        Args:
            task: the task, or its name; all else is the task's own.

        Raises:
            CallerError: outside the block; or the arguments do not fit, or cannot travel.
        """
        return self._start(Call(task, args, kwargs))

    def start_many(
        self, task: TaskLike, args: Iterable[Sequence[Any]], /
    ) -> list[GroupHandle[Any]]:
        """Submit a job for each tuple of arguments: ``tg.start_many("add", [(1, 2), (3, 4)])``.

        Raises:
            CallerError: as for `start_soon`; none of them was started.
        """
        return self._start_many(task, args, {})

    def options(self, **options: Any) -> GroupOptions:
        """Choose options for jobs: ``tg.options(queue="slow").start_soon("add", 1, 2)``.

        Raises:
            InvalidOption: an option that does not exist, or a value it cannot have.
        """
        return GroupOptions(self, options)

    def _start(self, call: Call) -> GroupHandle[Any]:
        jobs = job_of(call, self._open_connection().offers.parameters)
        return self._jobs.submit(jobs, grouped=False)[0]

    def _start_many(
        self, task: TaskLike, args: Iterable[Sequence[Any]], options: Mapping[str, Any]
    ) -> list[GroupHandle[Any]]:
        offered = self._open_connection().offers.parameters
        jobs = jobs_of_one_task(task, args, chosen(task, **options), offered)
        parts = [self._jobs.submit(part, grouped=True) for part in in_parts(jobs)]
        return [handle for part in parts for handle in part]

    def _open_connection(self) -> Connection:
        if self._closed or not self._entered:
            what = "has ended" if self._closed else "has not begun"
            raise CallerError(
                f"the block of this task group {what}, so no job can be started in it; start jobs "
                "inside `async with client.task_group() as tg:`"
            )
        return self._client._usable()

    def _start_feeding(self) -> None:
        self._local.start_soon(self._jobs.feed, name="fastworker task group")

    # --- cancelling ------------------------------------------------------------------------

    def cancel(self, reason: str = "") -> None:
        """Cancel the block and all its jobs, as ``nursery.cancel_scope.cancel()`` does.

        Returns at once; the block ends when all have ended, without an error of its own. A second
        call does nothing.

        Args:
            reason: for people; kept with the jobs.

        Raises:
            InvalidOption: a reason that is no text.
        """
        self._cancel_all(reason_text(reason) or "its task group was cancelled")

    @property
    def cancel_called(self) -> bool:
        """Whether it has been cancelled: by `cancel`, a failure, its deadline or from outside."""
        return self._jobs.cancel_called

    def _cancel_all(self, reason: str) -> None:
        if self._entered:
            self._local.scope.cancel()
        self._jobs.cancel(reason)

    # --- the block -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._entered:
            raise CallerError("a task group is entered once; make another with client.task_group()")
        self._client._usable()
        await self._local.enter()
        self._entered = True
        if self._limits.deadline is not None:
            self._local.scope.deadline = anyio.current_time() + self._limits.deadline
        self._jobs.deadline = min(
            anyio.current_effective_deadline(), anyio.current_time() + calling_job_seconds()
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if error is not None:
            self._stop(error)
        with waiting_for_results():
            interruption = await self._wait_ended()
        self._closed = True
        rest = await self._local.leave(interruption if error is None else error)
        cancelled = [one for one in rest if isinstance(one, anyio.get_cancelled_exc_class())]
        errors = [*self._jobs.errors, *self._own_errors(rest)]
        if errors:
            # In asyncio a group of errors cannot hold a cancellation; in Trio it must.
            raise BaseExceptionGroup(
                "errors in a task group", [*errors, *cancelled] if in_trio() else errors
            ) from None
        if cancelled:
            if cancelled[0] is error:
                return False
            raise cancelled[0]
        if self._timed_out or self._jobs.is_late:
            raise TimeoutError("the deadline of the task group has passed; its jobs were cancelled")
        return True

    def _stop(self, error: BaseException) -> None:
        """The block has ended with an error, or its end was interrupted: the jobs end too."""
        if not isinstance(error, anyio.get_cancelled_exc_class()):
            self._jobs.cancel(f"the block of its task group failed: {type(error).__name__}")
        else:
            if not self._jobs.cancel_called:
                self._timed_out = self._local.scope.deadline <= anyio.current_time()
            self._jobs.cancel("the block of its task group was cancelled")

    async def _wait_ended(self) -> BaseException | None:
        """Wait until all jobs have ended, whatever comes.

        Returns:
            The cancellation that came first, if one did.
        """
        interruption: BaseException | None = None
        while not self._jobs.is_quiet:
            try:
                with anyio.CancelScope(shield=self._jobs.cancel_called):
                    await self._jobs.wait_quiet()
                    if self._jobs.is_late:
                        # Our own clock has the last word: a scope around us may be what is due.
                        await anyio.sleep_until(self._jobs.deadline + CLOCK_SECONDS)
            except anyio.get_cancelled_exc_class() as error:
                # asyncio's own cancellations pass through shields: the first is passed on.
                interruption = error if interruption is None else interruption
                self._stop(error)
        return interruption

    def _own_errors(self, rest: tuple[BaseException, ...]) -> list[BaseException]:
        """The block's own errors, without those that are its jobs' and have been counted."""
        cancelled = anyio.get_cancelled_exc_class()
        return [
            error
            for error in rest
            if not isinstance(error, cancelled) and not self._jobs.is_counted(error)
        ]


class GroupOptions:
    """A task group with options chosen for the jobs that it starts."""

    __slots__ = ("_given", "_group")

    def __init__(self, group: TaskGroup, given: Mapping[str, Any]) -> None:
        check_options(given)
        self._group = group
        self._given = given

    @overload
    def start_soon(
        self, task: Task[P, R] | AsyncTask[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> GroupHandle[R]: ...

    @overload
    def start_soon(
        self, task: str | TaskDefinition, /, *args: Any, **kwargs: Any
    ) -> GroupHandle[Any]: ...

    def start_soon(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> GroupHandle[Any]:
        """As `TaskGroup.start_soon`."""
        return self._group._start(Call(task, args, kwargs, chosen(task, **self._given)))

    def start_many(
        self, task: TaskLike, args: Iterable[Sequence[Any]], /
    ) -> list[GroupHandle[Any]]:
        """As `TaskGroup.start_many`."""
        return self._group._start_many(task, args, self._given)
