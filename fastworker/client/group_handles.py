"""Handles of jobs that a task group has started, from before they are accepted until they ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

import anyio

from fastworker.client.ambient import waiting_for_results
from fastworker.client.handles import CancelResult, TaskHandle
from fastworker.client.results import Watched, end_error
from fastworker.client.submissions import Submission
from fastworker.core.ids import id_text
from fastworker.core.lengths import optional_seconds
from fastworker.core.records import TaskResult, TaskStatus
from fastworker.errors import CallerError, ClientNotReady, FastWorkerError, JobCancelled

if TYPE_CHECKING:
    from fastworker.client.client import Client
    from fastworker.tasks.models import TaskModels

R = TypeVar("R")


class GroupHandle(TaskHandle[R]):
    """One job of a task group. Inside the block its result can be waited for; after it, ``value``
    is there."""

    __slots__ = ("_cancel_called", "_error", "_on_end", "_own_deadline", "_posted")

    def __init__(
        self,
        client: Client,
        job_id: bytes,
        models: TaskModels | None,
        on_end: Callable[[GroupHandle[Any]], None],
    ) -> None:
        super().__init__(client, Watched(job_id), models=models)
        self._on_end = on_end
        self._posted: Posted | None = None
        """Its submission, until that is accepted or has failed."""
        self._error: Exception | None = None
        self._cancel_called = False
        self._own_deadline = False
        """Whether it was given one that is earlier than its group's."""

    @property
    def value(self) -> R:
        """What the task returned; there once the group's block has ended.

        Raises:
            CallerError: the job has not ended.
            others: it did not succeed; as `result` raises them.
        """
        if self._error is not None:
            raise self._error
        if not self._watched.settled:
            raise CallerError(
                f"job {self.id} has not ended: read .value after the block of its task group, or "
                "await handle.result() inside"
            )
        return cast(R, self._value())

    async def result(self, timeout: float | timedelta | None = None) -> R:  # noqa: ASYNC109
        """Wait for the end and return what the task returned; see `TaskHandle.result`.

        A failure is raised here, and cancels the group all the same.
        """
        left = await self._wait_accepted(timeout)
        if not self._watched.settled:
            await self._client._settle([self._watched], left)
        return self.value

    async def wait(self, timeout: float | timedelta | None = None) -> TaskResult:  # noqa: ASYNC109
        """Wait for the end and return how it ended; see `TaskHandle.wait`."""
        return await super().wait(await self._wait_accepted(timeout))

    async def status(self) -> TaskStatus:
        """Ask how it stands now; see `TaskHandle.status`."""
        await self._wait_accepted(None)
        return await super().status()

    async def cancel(
        self, reason: str = "", *, grace: float | timedelta | None = None
    ) -> CancelResult:
        """Cancel this job alone, which is no failure of its group; see `Client.cancel`."""
        self._cancel_called = True
        await self._wait_accepted(None)
        return await super().cancel(reason, grace=grace)

    async def _wait_accepted(
        self,
        timeout: float | timedelta | None,  # noqa: ASYNC109
    ) -> float | timedelta | None:
        posted = self._posted
        if posted is None:
            self._check_accepted()
            return timeout
        seconds = optional_seconds(timeout, "timeout")
        began = anyio.current_time()
        with waiting_for_results(), anyio.move_on_after(seconds):
            await posted.wait_answered()
        if self._posted is not None:
            raise TimeoutError(f"job {self.id} was not accepted within {seconds:g} s")
        self._check_accepted()
        return None if seconds is None else max(0.0, began + seconds - anyio.current_time())

    def _check_accepted(self) -> None:
        if self._error is not None and not self._watched.settled:
            raise self._error

    # --- for its group ---------------------------------------------------------------------

    @property
    def _was_cancelled(self) -> bool:
        ending = self._watched.ending
        return ending is not None and ending.status is TaskStatus.CANCELLED

    @property
    def _is_past_deadline(self) -> bool:
        ending = self._watched.ending
        if ending is None:
            return False
        reason = None if ending.failure is None else ending.failure.reason
        return ending.status is TaskStatus.EXPIRED or reason == "deadline"

    def _accept(self, watched: Watched) -> None:
        self.deduplicated: bool = watched.id != self._watched.id
        self._watched = watched
        self._posted = None
        if watched.settled:
            self._heard()
        else:
            watched.listen(self._heard)

    def _heard(self) -> None:
        self._on_end(self)

    def _stop_listening(self) -> None:
        self._watched.unlisten(self._heard)

    def _end(self) -> Exception | None:
        """It has ended: what it failed with, if it did."""
        if self._watched.settled:
            self._error = end_error(self._watched)
        else:
            self._error = ClientNotReady(
                f"the client was stopped before job {self.id} of a task group had ended"
            )
        return self._error

    def _fail(self, error: Exception) -> None:
        self._posted = None
        self._error = error


class Posted:
    """One submission of a task group, and the handles of its jobs."""

    __slots__ = ("_answered", "handles", "submission", "watched")

    def __init__(self, submission: Submission, handles: list[GroupHandle[Any]]) -> None:
        self.submission = submission
        self.handles = handles
        self.watched: list[Watched] = []
        """Its jobs, once it has been handed in; where an older job holds, that one."""
        self._answered: anyio.Event | None = None
        for handle in handles:
            handle._posted = self

    async def wait_answered(self) -> None:
        """Wait until it is accepted, or has failed."""
        if self._answered is None:
            self._answered = anyio.Event()
        await self._answered.wait()

    def accept(self) -> None:
        """It is accepted."""
        for handle, watched in zip(self.handles, self.watched, strict=True):
            handle._accept(watched)
        self._wake()

    def fail(self, error: FastWorkerError | None, reason: str) -> None:
        """It is not accepted; None: because its group was cancelled before, for this reason."""
        for handle in self.handles:
            if error is None:
                text = id_text(handle._watched.id)
                handle._fail(JobCancelled(f"job {text} was not submitted: {reason}", task_id=text))
            else:
                handle._fail(error)
        self._wake()

    def _wake(self) -> None:
        if self._answered is not None:
            self._answered.set()
