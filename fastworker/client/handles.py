"""A job in the hands of whoever submitted it."""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from fastworker.client.results import Watched, result_of, value_of
from fastworker.core.ids import id_text
from fastworker.core.records import LogLine, TaskProgress, TaskResult, TaskStatus
from fastworker.tasks.models import TaskModels

if TYPE_CHECKING:
    from fastworker.client.client import Client

R = TypeVar("R")


class CancelOutcome(enum.StrEnum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    """It had not started and never will, or it ran and has been stopped."""
    FINISHED_FIRST = "finished_first"
    """It had ended already, or ended by itself before it could be stopped; that stands."""
    UNWINDING = "unwinding"
    """It was told to stop, and its code has not ended within its grace. It is not run again."""
    UNKNOWN = "unknown"
    """No job has this id."""


@dataclass(frozen=True, slots=True)
class CancelResult:
    """The answer to a cancel.

    Args:
        task_id: the job.
        outcome: what became of it.
        stack: where the code of one that is still unwinding was, if that could be found out.
    """

    task_id: str
    outcome: CancelOutcome
    stack: str | None = None

    @property
    def cancelled(self) -> bool:
        """Whether it will not run (any further)."""
        return self.outcome is CancelOutcome.CANCELLED


class TaskHandle(Generic[R]):
    """One job; ``R`` is what its task returns. Made by a client, not by hand.

    Results are kept here once they have arrived: reading them again costs nothing.
    """

    __slots__ = ("_client", "_models", "_watched", "deduplicated")

    def __init__(
        self,
        client: Client,
        watched: Watched,
        *,
        deduplicated: bool = False,
        models: TaskModels | None = None,
    ) -> None:
        self._client = client
        self._watched = watched
        self._models = models
        self.deduplicated: bool = deduplicated
        """Whether an older job holds the idempotency key: this is a handle of that one."""

    @property
    def id(self) -> str:
        """The ``task_id``."""
        return id_text(self._watched.id)

    @property
    def done(self) -> bool:
        """Whether its end is known here already; never asks."""
        return self._watched.ending is not None

    async def _wait_accepted(
        self,
        timeout: float | timedelta | None,  # noqa: ASYNC109
    ) -> float | timedelta | None:
        """Wait until its end can be asked for; gives what is left of the time."""
        return timeout

    async def result(self, timeout: float | timedelta | None = None) -> R:  # noqa: ASYNC109
        """Wait for the end and return what the task returned.

        The job goes on if the wait is cancelled or ends first.

        Args:
            timeout: seconds or a timedelta; None waits as long as it takes.

        Raises:
            TimeoutError: the wait ended first.
            TaskError: the task failed; builtin and registered exceptions are raised as
                themselves, from the `TaskError`.
            JobCancelled, JobExpired, JobDead: it ended without having been run to its end.
            UnknownJob, ResultExpired: there is no result to have.
        """
        if self._watched.ending is None:
            await self._client._settle([self._watched], timeout)
        return cast(R, self._value())

    async def wait(self, timeout: float | timedelta | None = None) -> TaskResult:  # noqa: ASYNC109
        """Wait for the end and return how it ended, without raising the task's failure.

        Raises:
            TimeoutError, UnknownJob, ResultExpired: as for `result`.
        """
        if self._watched.ending is None:
            await self._client._settle([self._watched], timeout)
        ended = result_of(self._watched)
        if self._models is None or self._models.result is None or ended.result is None:
            return ended
        return replace(ended, result=self._models.rebuilt_result(ended.result))

    def _value(self) -> Any:
        value = value_of(self._watched)
        return value if self._models is None else self._models.rebuilt_result(value)

    async def status(self) -> TaskStatus:
        """Ask how it stands now.

        Raises:
            UnknownJob: no job has this id.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        ending = self._watched.ending
        return ending.status if ending is not None else await self._client._status_of(self.id)

    async def cancel(
        self, reason: str = "", *, grace: float | timedelta | None = None
    ) -> CancelResult:
        """Cancel it; see `Client.cancel`."""
        return await self._client.cancel(self.id, reason=reason, grace=grace)

    def logs(self, *, follow: bool = True) -> AsyncGenerator[LogLine, None]:
        """Iterate over what it logs and prints; see `Client.logs`."""
        return self._client.logs(self.id, follow=follow)

    def progress(self) -> AsyncGenerator[TaskProgress, None]:
        """Iterate over how far it is; see `Client.progress`."""
        return self._client.progress(self.id)

    def __repr__(self) -> str:
        ending: Any = self._watched.ending
        return f"<TaskHandle {self.id} {'pending' if ending is None else ending.status}>"
