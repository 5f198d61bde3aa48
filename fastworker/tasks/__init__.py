"""Tasks: functions that can be run elsewhere. The decorator, and what it makes of a function.

`definitions` holds what is known of a task, `signatures` checks arguments, `retrying` decides what
is repeated, `calling` is what a decorated function becomes, `loading` imports the modules that
tasks live in. Nothing here does I/O: the process's one started client submits, and is looked up at
the call, not before.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from datetime import timedelta
from typing import Any, Final, Protocol, TypeAlias, overload

from fastworker.core.records import DEFAULT_QUEUE, TaskPriority
from fastworker.tasks.calling import (
    AsyncStreamTask,
    AsyncTask,
    BoundOptions,
    P,
    R,
    StreamTask,
    T,
    Task,
)
from fastworker.tasks.definitions import (
    OnLeaseLost,
    OnLost,
    Registry,
    RunIn,
    Runtime,
    TaskDefinition,
    define,
    registry,
)
from fastworker.tasks.lifespans import Lifespan, lifespan, lifespans
from fastworker.tasks.loading import load_task_modules
from fastworker.tasks.retrying import Retry, RetryDecision, RetryLater, decide
from fastworker.tasks.signatures import bind_arguments

__all__ = [
    "AsyncStreamTask",
    "AsyncTask",
    "BoundOptions",
    "Lifespan",
    "OnLeaseLost",
    "OnLost",
    "Registry",
    "Retry",
    "RetryDecision",
    "RetryLater",
    "RunIn",
    "Runtime",
    "StreamTask",
    "Task",
    "TaskDefinition",
    "bind_arguments",
    "decide",
    "lifespan",
    "lifespans",
    "load_task_modules",
    "registry",
    "task",
]


AnyTask: TypeAlias = (
    Task[..., Any] | AsyncTask[..., Any] | StreamTask[..., Any] | AsyncStreamTask[..., Any]
)

_KINDS: Final[dict[tuple[bool, bool], Callable[[TaskDefinition], AnyTask]]] = {
    (False, False): Task,
    (True, False): AsyncTask,
    (False, True): StreamTask,
    (True, True): AsyncStreamTask,
}
"""What a function becomes: by whether it is an ``async def``, and whether it yields."""


class TaskDecorator(Protocol):
    """What ``@task(...)`` with options gives: it makes a task of a function."""

    # The particular forms come first and win: the overlap is meant.
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, AsyncIterator[T]], /
    ) -> AsyncStreamTask[P, T]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Iterator[T]], /
    ) -> StreamTask[P, T]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncTask[P, R]: ...  # pyright: ignore[reportOverlappingOverload]
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


@overload
def task(  # type: ignore[overload-overlap]
    function: Callable[P, AsyncIterator[T]], /
) -> AsyncStreamTask[P, T]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def task(  # type: ignore[overload-overlap]
    function: Callable[P, Iterator[T]], /
) -> StreamTask[P, T]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def task(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncTask[P, R]: ...  # pyright: ignore[reportOverlappingOverload]
@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *,
    name: str | None = None,
    queue: str = DEFAULT_QUEUE,
    priority: TaskPriority = TaskPriority.NORMAL,
    runtime: Runtime | None = None,
    allow_shadow: bool = False,
    keep_result: bool = True,
    on_lost: OnLost = "retry",
    on_lease_lost: OnLeaseLost = "run",
    retries: int | Retry | None = None,
    backoff: float | timedelta | None = None,
    timeout: float | timedelta | None = None,
    grace: float | timedelta | None = None,
    run_in: RunIn | None = None,
    tags: Iterable[str] = (),
) -> TaskDecorator: ...
def task(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    queue: str = DEFAULT_QUEUE,
    priority: TaskPriority = TaskPriority.NORMAL,
    runtime: Runtime | None = None,
    allow_shadow: bool = False,
    keep_result: bool = True,
    on_lost: OnLost = "retry",
    on_lease_lost: OnLeaseLost = "run",
    retries: int | Retry | None = None,
    backoff: float | timedelta | None = None,
    timeout: float | timedelta | None = None,
    grace: float | timedelta | None = None,
    run_in: RunIn | None = None,
    tags: Iterable[str] = (),
) -> Any:
    """Make a task of a function: ``@task``, or ``@task(queue="mail")``.

    Calling the task still runs the function, here and now; ``delay`` and ``submit`` have it run
    elsewhere. Decorating the same function again, as a reload does, replaces the task.

    Args:
        name: what it is registered under; the function's own name if not given.
        queue: where its jobs wait unless a call says otherwise.
        priority: how urgent its jobs are unless a call says otherwise.
        runtime: what an ``async def`` runs in, ``"asyncio"`` or ``"trio"``; if not given, the
            worker's default.
        allow_shadow: accept parameters named ``priority``, ``countdown`` or ``eta``.
        keep_result: False keeps no result once a job has ended.
        on_lost: ``"retry"`` runs a job again when its worker was lost (at least once), ``"fail"``
            does not (at most once).
        on_lease_lost: what becomes of a running job when its worker has been cut off for so long
            that the job may soon run elsewhere too. ``"run"``: it goes on, and its late outcome
            is refused if another attempt has begun. ``"cancel"``: it is stopped before that.
        retries: how often an attempt that raised is repeated, or a `Retry`; if not given, never.
        backoff: the wait before the first of ``retries``; seconds or a timedelta. It doubles
            with each retry. 1 second if not given.
        timeout: seconds or a timedelta that an attempt may run before it is told to stop; the job
            then fails with `TimeLimitExceeded`. No limit if not given.
        grace: seconds or a timedelta from being told to stop to being stopped by force; 5 seconds
            if not given.
        run_in: ``"process"`` runs each job alone in a process, ``"thread"`` (``def`` only, and
            what those do anyway) beside others.
        tags: what a worker must have to run it, such as ``{"gpu"}``; only a subworker that was
            started with all of them (``--tags gpu,ssd``) offers it.

    Raises:
        InvalidName: the name cannot be one; a lambda has none.
        InvalidOption: an option with a value it cannot have, options that contradict each other,
            or a parameter that needs ``allow_shadow``.
        TaskNameTaken: another module has a task of this name.
    """

    def decorate(function: Callable[..., Any]) -> AnyTask:
        definition = define(
            function,
            name=name,
            queue=queue,
            priority=priority,
            runtime=runtime,
            allow_shadow=allow_shadow,
            keep_result=keep_result,
            on_lost=on_lost,
            on_lease_lost=on_lease_lost,
            retries=retries,
            backoff=backoff,
            timeout=timeout,
            grace=grace,
            run_in=run_in,
            tags=tags,
        )
        registry.register(definition)
        return _KINDS[definition.is_async, definition.yields](definition)

    return decorate if function is None else decorate(function)
