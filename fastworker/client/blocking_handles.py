"""Handles and chosen options for threads: the same calls, waited for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastworker.client.blocking_streams import BlockingStream
from fastworker.client.calls import TaskLike, check_options
from fastworker.client.handles import CancelResult, TaskHandle
from fastworker.core.records import LogLine, TaskProgress, TaskResult, TaskStatus

if TYPE_CHECKING:
    from fastworker.client.blocking import BlockingClient

R = TypeVar("R")


class BlockingHandle(Generic[R]):
    """A `TaskHandle` whose methods block the calling thread."""

    __slots__ = ("_client", "_handle")

    def __init__(self, client: BlockingClient, handle: TaskHandle[R]) -> None:
        self._client = client
        self._handle = handle

    @property
    def id(self) -> str:
        """The ``task_id``."""
        return self._handle.id

    @property
    def deduplicated(self) -> bool:
        """See `TaskHandle.deduplicated`."""
        return self._handle.deduplicated

    @property
    def done(self) -> bool:
        """Whether its end is known here already; never asks."""
        return self._handle.done

    def result(self, timeout: float | timedelta | None = None) -> R:
        """See `TaskHandle.result`."""
        return self._client._run(partial(self._handle.result, timeout))

    def wait(self, timeout: float | timedelta | None = None) -> TaskResult:
        """See `TaskHandle.wait`."""
        return self._client._run(partial(self._handle.wait, timeout))

    def status(self) -> TaskStatus:
        """See `TaskHandle.status`."""
        return self._client._run(self._handle.status)

    def cancel(self, reason: str = "", *, grace: float | timedelta | None = None) -> CancelResult:
        """See `TaskHandle.cancel`."""
        return self._client._run(partial(self._handle.cancel, reason, grace=grace))

    def logs(self, *, follow: bool = True) -> Iterator[LogLine]:
        """See `TaskHandle.logs`."""
        return self._client.logs(self.id, follow=follow)

    def progress(self) -> Iterator[TaskProgress]:
        """See `TaskHandle.progress`."""
        return self._client.progress(self.id)

    def __repr__(self) -> str:
        return repr(self._handle).replace("TaskHandle", "BlockingHandle", 1)


class BlockingOptions:
    """A `BlockingClient` with options chosen: ``client.options(queue="slow").submit("add", 2)``."""

    __slots__ = ("_client", "_given")

    def __init__(self, client: BlockingClient, given: Mapping[str, Any]) -> None:
        check_options(given)
        self._client = client
        self._given = given

    def options(self, **changes: Any) -> BlockingOptions:
        """These options with some changed."""
        return BlockingOptions(self._client, {**self._given, **changes})

    def delay(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> str:
        """Submit; all keywords are the task's own. See `Client.delay`."""
        bound = self._client._inner.options(**self._given)
        return self._client._run(partial(bound.delay, task, *args, **kwargs))

    def submit(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> BlockingHandle[Any]:
        """Submit; all keywords are the task's own. See `Client.submit`."""
        bound = self._client._inner.options(**self._given)
        handle = self._client._run(partial(bound.submit, task, *args, **kwargs))
        return self._client._handle(handle)

    def stream(self, task: TaskLike, /, *args: Any, **kwargs: Any) -> BlockingStream[Any]:
        """The items of a generator task; all keywords are its own. See `BlockingClient.stream`."""
        bound = self._client._inner.options(**self._given)
        return self._client._stream(partial(bound.stream, task, *args, **kwargs))
