"""Turns what came back into exceptions: refusals of the control plane, and failures of tasks.

Nothing on the wire names code to import: a type name is looked up among the builtin exceptions
and those registered with `register_exception`; every other failure is a plain `TaskError`. So are
those that a runner names itself (`ResultNotSerializable`, `UnknownTask`, …), but for one: arguments
that do not fit are the caller's mistake, wherever it is noticed.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Final, TypeVar

from fastworker import errors
from fastworker.core.records import Failure, TaskStatus
from fastworker.errors import (
    ArgumentError,
    Conflict,
    FastWorkerError,
    InvalidOption,
    JobCancelled,
    JobDead,
    JobExpired,
    Overloaded,
    Rejected,
    TaskError,
    TimeLimitExceeded,
)

E = TypeVar("E", bound=type[Exception])

_NEVER_REBUILT: Final = (StopIteration, StopAsyncIteration)
"""Raising these in a coroutine or generator means something else."""

_CODES_WITH_A_STATUS: Final = {
    TaskStatus.CANCELLED: JobCancelled,
    TaskStatus.EXPIRED: JobExpired,
    TaskStatus.DEAD: JobDead,
}


def _builtin_exceptions() -> Iterator[type[Exception]]:
    for value in vars(builtins).values():
        if (
            isinstance(value, type)
            and issubclass(value, Exception)
            and not issubclass(value, _NEVER_REBUILT)
        ):
            yield value


_rebuildable: dict[str, type[Exception]] = {
    name: kind
    for kind in _builtin_exceptions()
    for name in (kind.__name__, f"builtins.{kind.__name__}")
} | {ArgumentError.__name__: ArgumentError}


def register_exception(kind: E) -> E:
    """Let failures of this type come back as this type. Usable as a class decorator.

    The exception is rebuilt as ``kind(message)`` and raised from the `TaskError` that holds the
    remote traceback. A second registration of the same class does nothing.

    Raises:
        InvalidOption: not an `Exception` class, one that is never rebuilt
            (``StopIteration``), or another class of the same name is registered.
    """
    if not _is_exception_class(kind):
        raise InvalidOption(f"{kind!r:.80} is not a class of Exception; only those can be rebuilt")
    if issubclass(kind, _NEVER_REBUILT):
        raise InvalidOption(f"{kind.__name__} is never rebuilt: raising it means something else")
    name = f"{kind.__module__}.{kind.__qualname__}"
    if _rebuildable.setdefault(name, kind) is not kind:
        raise InvalidOption(f"another exception is registered as {name}; rename one of them")
    return kind


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _codes(kind: type[FastWorkerError]) -> Iterator[tuple[str, type[FastWorkerError]]]:
    yield kind.code, kind
    for sub in kind.__subclasses__():
        yield from _codes(sub)


_BY_CODE: Final[dict[str, type[FastWorkerError]]] = {}
for _code, _kind in _codes(FastWorkerError):
    _BY_CODE.setdefault(_code, _kind)  # a class that only inherits a code does not take it over


def error_from_code(
    code: str,
    message: str,
    *,
    retry_after: float | None = None,
    existing_id: str | None = None,
    task_id: str | None = None,
) -> FastWorkerError:
    """The exception that a `Problem` or a refused row stands for; unknown codes: `Rejected`."""
    kind = _BY_CODE.get(code, Rejected)
    error: FastWorkerError
    if kind is Overloaded:
        error = Overloaded(message, retry_after=1.0 if retry_after is None else retry_after)
    elif kind is Conflict:
        error = Conflict(message, existing_id=existing_id)
    elif kind is errors.FastWorkerError:
        error = Rejected(message)
    else:
        error = kind(message)
    error.task_id = task_id
    return error


def task_error(task_id: str, status: TaskStatus, failure: Failure | None) -> TaskError:
    """The `TaskError` for a job that ended in ``status`` without success."""
    kind: type[TaskError] = _CODES_WITH_A_STATUS.get(status, TaskError)
    if failure is None:
        return kind(f"job {task_id} ended as {status}", task_id=task_id)
    if failure.type_name.rpartition(".")[2] == "TimeLimitExceeded":
        kind = TimeLimitExceeded
    text = failure.message or failure.reason
    said = f"{failure.type_name or kind.__name__}{text and ': '}{text}"
    error = kind(
        f"job {task_id} ended as {status}: {said}",
        type_name=failure.type_name,
        remote_traceback=failure.traceback,
        task_id=task_id,
    )
    if isinstance(error, JobDead):
        error.reason = failure.reason
    return error


def rebuild(failure: Failure) -> Exception | None:
    """The task's own exception, if its type is builtin or registered and takes a message."""
    kind = _rebuildable.get(failure.type_name)
    if kind is None:
        return None
    try:
        return kind(failure.message)
    except Exception:  # a constructor of the user's that wants other arguments
        return None


def failure_error(task_id: str, status: TaskStatus, failure: Failure | None) -> Exception:
    """What a job that did not succeed means to whoever waits for its result."""
    error = task_error(task_id, status, failure)
    rebuilt = rebuild(failure) if failure is not None and status is TaskStatus.FAILURE else None
    if rebuilt is None:
        return error
    if isinstance(rebuilt, FastWorkerError):
        rebuilt.task_id = task_id
    rebuilt.__cause__ = error
    return rebuilt
