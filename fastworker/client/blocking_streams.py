"""Streams for threads: a plain iterator over the items of a generator task."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from datetime import timedelta
from functools import partial
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

from fastworker.client.handles import CancelResult
from fastworker.client.streams import Stream

T = TypeVar("T")
R = TypeVar("R")


class Run(Protocol):
    """Has a coroutine function run in the client's loop, and waits for it."""

    def __call__(self, function: Callable[[], Coroutine[Any, Any, R]]) -> R: ...


class BlockingStream(Generic[T]):
    """A `Stream` whose steps block the calling thread: ``for item in client.stream(…)``.

    Leaving early cancels the job, as with `Stream`: by ``with``, `close`, or leaving the loop.
    """

    def __init__(self, stream: Stream[T], run: Run) -> None:
        self._stream = stream
        self._run = run
        self._items: deque[T] = deque()

    @property
    def task_id(self) -> str:
        """The job."""
        return self._stream.task_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        """See `Stream.__anext__`."""
        if not self._items:
            # All that have come at once: a step into the other thread is dear.
            self._items.extend(self._run(self._stream._next_items))
        if not self._items:
            raise StopIteration
        return self._items.popleft()

    def cancel(self, reason: str = "", *, grace: float | timedelta | None = None) -> CancelResult:
        """See `Stream.cancel`."""
        return self._run(partial(self._stream.cancel, reason, grace=grace))

    def close(self) -> None:
        """See `Stream.aclose`."""
        self._items.clear()
        self._run(self._stream.aclose)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
