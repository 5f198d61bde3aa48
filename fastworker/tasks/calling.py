"""What ``@task`` makes of a function: call it here, or have it run elsewhere, fully typed.

Two sibling classes, for plain and for ``async def`` functions, differ in what calling them here
gives; in both, ``R`` is the result.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, cast

from fastworker.core.records import TaskPriority
from fastworker.options import CallOptions
from fastworker.tasks.definitions import OnLost, TaskDefinition
from fastworker.tasks.signatures import bind_arguments

if TYPE_CHECKING:
    from fastworker.client.handles import TaskHandle
    from fastworker.client.streams import Stream

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class BoundOptions(Generic[P, R]):
    """A task with the options of its next calls: ``add.options(countdown=60).delay(1, 2)``.

    May be kept and used many times; lengths of time count from each call. With ``task_id`` every
    call means the same job.
    """

    __slots__ = ("_definition", "call_options")

    def __init__(self, definition: TaskDefinition, call_options: CallOptions) -> None:
        self._definition = definition
        self.call_options = call_options

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Submit a job with these arguments; returns its ``task_id`` once it is accepted.

        Raises and behaves on cancellation as `Task.delay` does.
        """
        handle = await _submit(self._definition, args, kwargs, self.call_options, watch=False)
        return handle.id

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Like `delay`, but returns a handle to wait for the result with."""
        return await _submit(self._definition, args, kwargs, self.call_options, watch=True)

    def stream(self: BoundOptions[P, list[T]], *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """The items of a task that yields; see `StreamTask.stream`."""
        return _stream(self._definition, args, kwargs, self.call_options)


class _BaseTask(Generic[P, R]):
    """What both kinds of task can do. The attributes of the function are those of the task."""

    definition: TaskDefinition
    __name__: str
    __wrapped__: Callable[..., Any]

    def __init__(self, definition: TaskDefinition) -> None:
        functools.update_wrapper(cast("Callable[..., Any]", self), definition.function)
        self.definition = definition

    @property
    def name(self) -> str:
        """The name it is registered under."""
        return self.definition.name

    async def delay(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Submit a job with these arguments; returns its ``task_id`` once it is accepted.

        Uses the process's one started client. Each call makes a job. If it is cancelled, the job
        may have been accepted or not.

        Raises:
            ArgumentError: the arguments do not fit the function.
            NotSerializable: an argument cannot travel.
            ClientNotReady: no started client, or several.
            Rejected: refused; not stored.
            Indeterminate: sent and not answered.
            ControlPlaneUnavailable: never sent.
        """
        handle = await _submit(
            self.definition, args, kwargs, self.definition.call_options, watch=False
        )
        return handle.id

    async def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Like `delay`, but returns a handle to wait for the result with."""
        return await _submit(
            self.definition, args, kwargs, self.definition.call_options, watch=True
        )

    def options(
        self,
        *,
        priority: TaskPriority | None = None,
        countdown: float | timedelta | None = None,
        eta: datetime | None = None,
        expires: float | timedelta | datetime | None = None,
        queue: str | None = None,
        task_id: str | None = None,
        keep_result: bool | None = None,
        on_lost: OnLost | None = None,
        callback: str | None = None,
        callback_data: Any = None,
        idempotency_key: str | None = None,
        idempotency_window: float | timedelta | None = None,
        deadline: float | timedelta | datetime | Literal["scope"] | None = None,
        timeout: float | timedelta | None = None,
        grace: float | timedelta | None = None,
        detached: bool | None = None,
        owned: float | timedelta | None = None,
    ) -> BoundOptions[P, R]:
        """Options for calls of this task; what is not given is as the task says.

        Args:
            countdown: seconds before the job may start.
            eta: the moment before which it must not start; an aware datetime.
            expires: seconds, or an aware datetime, after which it is not started any more.
            task_id: repeats a submission under its id; never makes a second job.
            keep_result: False keeps no result once the job has ended.
            on_lost: ``"retry"`` runs the job again when its worker was lost (at least once),
                ``"fail"`` does not (at most once).
            callback: where completion is announced, such as ``tcp://host:port``.
            callback_data: handed back with the callback.
            idempotency_key: while it holds, every submission with it is the same job of this task;
                with other arguments it is refused as `Conflict`.
            idempotency_window: seconds or a timedelta for which the key holds at least (1 second
                to 30 days; a day if not given); it holds until the job's end in any case.
            deadline: seconds, a timedelta or an aware datetime, after which the job is not started
                and, if it runs, stopped; ``"scope"``: the deadline of the caller's own cancel
                scopes (anyio, Trio). The jobs that it submits have to keep it, too.
            timeout: seconds or a timedelta that an attempt's code may run.
            grace: seconds or a timedelta from being told to stop to being stopped by force.
            detached: True: it is not cancelled with the job that submits it.
            owned: seconds or a timedelta: it is cancelled once its client is gone for so long.

        Raises:
            InvalidOption: a value an option cannot have; the option is named.
        """
        asked: dict[str, Any] = {
            "priority": priority,
            "countdown": countdown,
            "eta": eta,
            "expires": expires,
            "queue": queue,
            "task_id": task_id,
            "keep_result": keep_result,
            "on_lost": on_lost,
            "callback": callback,
            "callback_data": callback_data,
            "idempotency_key": idempotency_key,
            "idempotency_window": idempotency_window,
            "deadline": deadline,
            "timeout": timeout,
            "grace": grace,
            "detached": detached,
            "owned": owned,
        }
        changes = {option: value for option, value in asked.items() if value is not None}
        return BoundOptions(self.definition, replace(self.definition.call_options, **changes))

    def __repr__(self) -> str:
        return f"<task {self.definition.name}{self.definition.signature}>"


class Task(_BaseTask[P, R]):
    """A task made of a plain function; workers run it in a thread."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        result: R = self.definition.function(*args, **kwargs)
        return result


class AsyncTask(_BaseTask[P, R]):
    """A task made of an ``async def``; workers run it in their event loop."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run the function here: ``await`` what this returns."""
        coroutine: Coroutine[Any, Any, R] = self.definition.function(*args, **kwargs)
        return coroutine


class StreamTask(_BaseTask[P, list[T]]):
    """A task made of a plain generator function; workers run it in a thread.

    Submitted without `stream`, its result is the list of its items.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        """Run the generator here: iterate over what this returns."""
        items: Iterator[T] = self.definition.function(*args, **kwargs)
        return items

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """Have it run, and iterate over its items as they are made.

        Uses the process's one started client. The job is submitted at the first step.

        Raises:
            ArgumentError: the arguments do not fit the function.
            NotSerializable: an argument cannot travel.
            ClientNotReady: no started client, or several.
        """
        return _stream(self.definition, args, kwargs, self.definition.call_options)


class AsyncStreamTask(_BaseTask[P, list[T]]):
    """A task made of an ``async def`` that yields; workers run it in their event loop.

    Submitted without `stream`, its result is the list of its items.
    """

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        """Run the generator here: ``async for`` over what this returns."""
        items: AsyncIterator[T] = self.definition.function(*args, **kwargs)
        return items

    def stream(self, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """Have it run, and iterate over its items as they are made; see `StreamTask.stream`."""
        return _stream(self.definition, args, kwargs, self.definition.call_options)


def _stream(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: CallOptions,
) -> Stream[Any]:
    bind_arguments(definition, args, kwargs)
    from fastworker.client.current import current_client  # as in `_submit`

    return current_client()._stream_call(definition, args, kwargs, options)


async def _submit(
    definition: TaskDefinition,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    options: CallOptions,
    *,
    watch: bool,
) -> TaskHandle[Any]:
    bind_arguments(definition, args, kwargs)
    # Only now: importing the client loads what it needs to talk, and tasks are imported by all.
    from fastworker.client.current import current_client

    return await current_client()._submit_call(definition, args, kwargs, options, watch=watch)
