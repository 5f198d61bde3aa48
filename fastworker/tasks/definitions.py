"""What is known of a task, and the registry of all of them. Names are refused here, not later."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from types import CodeType
from typing import Any, Final, Literal, TypeAlias, get_args

from fastworker.core.lengths import seconds_of
from fastworker.core.names import check_name
from fastworker.core.records import (
    ASYNC_POOL,
    DEFAULT_GRACE_SECONDS,
    DEFAULT_QUEUE,
    PROCESS_POOL,
    THREAD_POOL,
    TaskPriority,
)
from fastworker.errors import CallerError, InvalidName, InvalidOption, TaskNameTaken
from fastworker.options import DEFAULT_CALL, CallOptions
from fastworker.tasks.models import TaskModels
from fastworker.tasks.retrying import MAX_SECONDS, Retry, retry_policy
from fastworker.tasks.signatures import Parameters

Runtime: TypeAlias = Literal["asyncio", "trio"]
OnLost: TypeAlias = Literal["retry", "fail"]
OnLeaseLost: TypeAlias = Literal["run", "cancel"]
RunIn: TypeAlias = Literal["thread", "process"]


RESERVED_PARAMETERS: Final = ("priority", "countdown", "eta")
"""Keywords that `Client.delay` and `Client.submit` take for themselves."""


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """One task: its function, and how its jobs run unless a call says otherwise.

    Args:
        pool: `ASYNC_POOL`, `THREAD_POOL` or `PROCESS_POOL`.
        runtime: what an ``async def`` runs in; None: the worker's default.
        signature: stable text, compared between subworkers and shown to people.
        module: where the function was defined.
        call_options: what its jobs ask for unless a call says otherwise.
        retry: when failed attempts are repeated; None: never.
        on_lease_lost: whether its jobs are cancelled before they may run elsewhere.
        timeout: seconds an attempt may run before it is told to stop; None: no limit.
        grace: seconds from being told to stop to being stopped by force.
        is_async: whether it is an ``async def``.
        tags: what a subworker must have to offer it.
    """

    name: str
    function: Callable[..., Any]
    pool: int
    runtime: Runtime | None
    signature: str
    module: str
    call_options: CallOptions = DEFAULT_CALL
    retry: Retry | None = None
    on_lease_lost: OnLeaseLost = "run"
    timeout: float | None = None
    grace: float = DEFAULT_GRACE_SECONDS
    is_async: bool = field(init=False)
    tags: frozenset[str] = frozenset()
    parameters: Parameters = field(init=False, repr=False, compare=False)
    yields: bool = field(init=False, repr=False, compare=False)
    """Whether it is a generator: its items are streamed, or its result is a list of them."""

    models: TaskModels = field(init=False, repr=False, compare=False)
    """What its annotations make of plain arguments and results."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_async", _is_async(self.function))
        object.__setattr__(self, "yields", _yields(self.function))
        parameters = Parameters.of(self.function)
        object.__setattr__(self, "parameters", parameters)
        object.__setattr__(self, "models", TaskModels(self.name, self.function, parameters))

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters that may be given by position, for messages."""
        return self.parameters.positional


def define(
    function: Callable[..., Any],
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
) -> TaskDefinition:
    """Check a function and its options and describe it; registers nothing.

    Raises:
        CallerError: not a function that can be a task; a subclass for names and options.
    """
    _check_function(function)
    task_name = check_name("task", _own_name(function) if name is None else name)
    is_async = _is_async(function)
    if runtime is not None:
        _check_runtime(task_name, runtime, is_async)
    retry = retry_policy(retries, backoff)
    pool = _pool_of(task_name, is_async, run_in)
    _check_promises(task_name, retry, on_lost, on_lease_lost)
    call_options = CallOptions(
        queue=None if queue == DEFAULT_QUEUE else queue,
        priority=None if priority is TaskPriority.NORMAL else priority,
        keep_result=keep_result,
        on_lost=on_lost,
    )
    parameters = Parameters.of(function)
    if not allow_shadow:
        _check_parameters(task_name, parameters)
    return TaskDefinition(
        name=task_name,
        function=function,
        pool=pool,
        runtime=runtime,
        signature=parameters.text,
        module=function.__module__,
        call_options=DEFAULT_CALL if call_options == DEFAULT_CALL else call_options,
        retry=retry,
        on_lease_lost=on_lease_lost,
        timeout=None if timeout is None else _timeout_seconds(task_name, timeout),
        grace=_grace_seconds(task_name, grace),
        tags=_checked_tags(task_name, tags),
    )


class Registry:
    """Tasks by name. One for the process (`registry`); tests may make their own."""

    def __init__(self) -> None:
        self._definitions: dict[str, TaskDefinition] = {}

    def register(self, definition: TaskDefinition) -> None:
        """Add a task. The same function again (a module that was reloaded) replaces the old one.

        Raises:
            TaskNameTaken: another function has this name; both are named.
        """
        held = self._definitions.get(definition.name)
        if held is not None and not _same_source(held.function, definition.function):
            raise TaskNameTaken(
                f"task name {definition.name!r} is taken by {_place(held.function)}, so "
                f"{_place(definition.function)} cannot have it too; "
                "give one of them another with @task(name=...)"
            )
        self._definitions[definition.name] = definition

    def get(self, name: str) -> TaskDefinition | None:
        """The task of this name, or None."""
        return self._definitions.get(name)

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._definitions)

    def definitions(self) -> list[TaskDefinition]:
        """All tasks, by name."""
        return [self._definitions[name] for name in self.names()]

    def __iter__(self) -> Iterator[TaskDefinition]:
        return iter(self.definitions())

    def __len__(self) -> int:
        return len(self._definitions)

    def __contains__(self, name: object) -> bool:
        return name in self._definitions


registry: Final = Registry()
"""The tasks of this process."""


def _check_function(function: object) -> None:
    if isinstance(function, staticmethod | classmethod) or not inspect.isfunction(function):
        raise CallerError(
            f"@task is for functions, and {function!r:.80} is none; write a function that calls it"
        )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _yields(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _own_name(function: Callable[..., Any]) -> str:
    name = function.__name__
    if name == "<lambda>":
        raise InvalidName("a lambda has no name to be a task under; write a def")
    return name


def _check_runtime(name: str, runtime: object, is_async: bool) -> None:
    if runtime not in get_args(Runtime):
        raise InvalidOption(f"runtime of task {name!r} is 'asyncio' or 'trio', not {runtime!r:.40}")
    if not is_async:
        raise InvalidOption(
            f"task {name!r} is a plain def and runs in a thread; runtime is for async def only"
        )


def _checked_tags(name: str, tags: Iterable[str]) -> frozenset[str]:
    if isinstance(tags, str):
        raise InvalidOption(f"tags of task {name!r} are a set of words, such as {{{tags!r}}}")
    if not isinstance(tags, Iterable):
        raise InvalidOption(f"tags of task {name!r} are a set of words, not {type(tags).__name__}")
    return frozenset(check_name("tag", tag) for tag in tags)


def _check_promises(name: str, retry: Retry | None, on_lost: object, on_lease_lost: object) -> None:
    if on_lost == "fail" and retry is not None and retry.times:
        raise InvalidOption(
            f'task {name!r} has retries and on_lost="fail", which never starts a job twice; '
            "choose one of them"
        )
    if on_lease_lost not in get_args(OnLeaseLost):
        raise InvalidOption(
            f"on_lease_lost of task {name!r} is 'run' or 'cancel', not {on_lease_lost!r:.40}"
        )


def _pool_of(name: str, is_async: bool, run_in: object) -> int:
    if run_in is not None and run_in not in get_args(RunIn):
        raise InvalidOption(f"run_in of task {name!r} is 'thread' or 'process', not {run_in!r:.40}")
    if run_in == "process":
        return PROCESS_POOL
    if is_async and run_in == "thread":
        raise InvalidOption(
            f"task {name!r} is an async def and runs in an event loop; "
            'run_in="thread" is for a plain def, run_in="process" for both'
        )
    return ASYNC_POOL if is_async else THREAD_POOL


def _grace_seconds(name: str, grace: float | timedelta | None) -> float:
    if grace is None:
        return DEFAULT_GRACE_SECONDS
    return seconds_of(grace, f"grace of task {name!r}", most=MAX_SECONDS)


def _timeout_seconds(name: str, timeout: float | timedelta) -> float:
    seconds = seconds_of(timeout, f"timeout of task {name!r}", most=MAX_SECONDS)
    if not seconds:
        raise InvalidOption(f"timeout of task {name!r} is 0, which no code can keep; leave it out")
    return seconds


def _check_parameters(name: str, parameters: Parameters) -> None:
    for reserved in RESERVED_PARAMETERS:
        if reserved in parameters.names:
            raise InvalidOption(
                f"task {name!r} has a parameter {reserved!r}, which client.delay() takes for "
                "itself; rename it, or use @task(allow_shadow=True) and call the task by "
                f"{name}.delay() or client.apply()"
            )


def _same_source(old: Callable[..., Any], new: Callable[..., Any]) -> bool:
    """Whether ``new`` is ``old`` decorated again.

    The file counts as the module does: a script is ``__main__`` and its module at once. Functions
    made inside a function of one file follow each other, as tests do.
    """
    if old.__module__ != new.__module__ and _file(old) != _file(new):
        return False
    return old.__qualname__ == new.__qualname__ or (
        "<locals>" in old.__qualname__ and "<locals>" in new.__qualname__
    )


def _file(function: Callable[..., Any]) -> str:
    """The file a function is from; for what was typed or made from text, nobody else's."""
    code: object = getattr(inspect.unwrap(function), "__code__", None)
    if isinstance(code, CodeType) and not code.co_filename.startswith("<"):
        return code.co_filename
    return _place(function)


def _place(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"
