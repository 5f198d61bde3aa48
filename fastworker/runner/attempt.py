"""One attempt from sealed arguments to sealed result. Nothing that user code does gets past here.

Knows no sockets, slots or processes, so that the same pipeline can run inside a test. Only
`run_coroutine` and `run_function` call user code, and they catch `BaseException` around it:
``SystemExit`` in a task is that task's failure.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from fastworker.core.ids import id_text
from fastworker.core.records import STATUS_NUMBERS, Failure, TaskStatus
from fastworker.errors import ArgumentError, NotSerializable, ProtocolError
from fastworker.runner.assignment import Assignment
from fastworker.runner.context import current_job
from fastworker.runner.failures import failure_from, failure_said, type_name
from fastworker.runner.generators import ItemRefused, iterate, iterate_here
from fastworker.runner.stopping import StopReason
from fastworker.tasks import RetryDecision, TaskDefinition, decide
from fastworker.tasks.models import Rebuild
from fastworker.tasks.propagation import set_propagated
from fastworker.wire.values import PayloadTooLarge, open_call, open_map, seal_value

_log = logging.getLogger("fastworker.runner")

_SUCCESS = STATUS_NUMBERS[TaskStatus.SUCCESS]
_FAILURE = STATUS_NUMBERS[TaskStatus.FAILURE]
_EXPIRED = STATUS_NUMBERS[TaskStatus.EXPIRED]
_DEAD = STATUS_NUMBERS[TaskStatus.DEAD]
_CANCELLED = STATUS_NUMBERS[TaskStatus.CANCELLED]


class Ending(NamedTuple):
    """How an attempt ended: a number of `STATUS_NUMBERS`, and a sealed value or a failure.

    ``retry``: the failure is not to be the last word.
    """

    status: int
    value: bytes | None
    failure: Failure | None
    retry: RetryDecision | None = None


GIVEN_UP: Final = Ending(_CANCELLED, None, None)
"""It was stopped since its lease may be lost: told by identity, never sent as an outcome."""

DRAINED: Final = Ending(_CANCELLED, None, None)
"""It was stopped since its worker ends: told by identity, never sent as an outcome."""


async def run_coroutine(
    assignment: Assignment,
    *,
    advice: Callable[[BaseException], str],
    passes: Callable[[BaseException], bool],
) -> Ending:
    """Run an ``async def`` task on the loop of the caller.

    Sets `current_job` in the caller's context, which must belong to this attempt alone.

    Args:
        advice: a sentence for failures whose cause the event loop knows better, or "".
        passes: True for an exception that is the surroundings' own and must go on: the
            cancellation of everything around this attempt.
    """
    call = _begin(assignment)
    if isinstance(call, Ending):
        return call
    definition, args, kwargs = call
    try:
        if definition.yields:
            made = definition.function(*args, **kwargs)
            value = await iterate(assignment, made)
        else:
            value = await definition.function(*args, **kwargs)
    except BaseException as error:
        if passes(error):
            raise
        if _unwinds(assignment, error):
            return unwound(assignment, error)
        return _failed(assignment, error, definition, args, kwargs, advice(error))
    return _succeeded(assignment, value)


def run_function(assignment: Assignment) -> Ending:
    """Run a ``def`` task in the calling thread. Sets `current_job` as `run_coroutine` does."""
    call = _begin(assignment)
    if isinstance(call, Ending):
        return call
    definition, args, kwargs = call
    try:
        value = definition.function(*args, **kwargs)
        if definition.yields:
            value = iterate_here(assignment, value)
    except BaseException as error:
        if _unwinds(assignment, error):
            return unwound(assignment, error)
        return _failed(assignment, error, definition, args, kwargs, "")
    return _succeeded(assignment, value)


def unwound(assignment: Assignment, error: BaseException | None = None) -> Ending:
    """The ending of code that has ended because it was told to stop.

    Args:
        error: with what it ended; None: nobody has seen that.
    """
    stop = assignment.stop
    definition = assignment.route.definition
    assert stop is not None and definition is not None
    match stop.reason:
        case StopReason.LEASE:
            return GIVEN_UP
        case StopReason.DRAIN:
            return DRAINED
        case StopReason.CANCEL:
            return Ending(_CANCELLED, None, None)
        case StopReason.TIMEOUT | StopReason.DEADLINE:
            failure = failure_said("TimeLimitExceeded", str(stop.error), reason=stop.reason.value)
            if error is not None:
                failure = failure._replace(traceback=failure_from(error).traceback)
            decision = _decided(assignment, definition, stop.error)
            return Ending(_FAILURE, None, failure, decision)


def failed(assignment: Assignment, error: BaseException) -> Ending:
    """The ending of code that unwound since it was told to stop, and failed beside that.

    What will run elsewhere anyway does so all the same.
    """
    stop, definition = assignment.stop, assignment.route.definition
    assert stop is not None and definition is not None
    if stop.reason in (StopReason.LEASE, StopReason.DRAIN):
        return unwound(assignment, error)
    return Ending(_FAILURE, None, failure_from(error), _decided(assignment, definition, error))


def _unwinds(assignment: Assignment, error: BaseException) -> bool:
    """Whether code that was told to stop ends with this because of it."""
    stop = assignment.stop
    if stop is None:
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(_unwinds(assignment, each) for each in error.exceptions)
    return error is stop.error or isinstance(error, asyncio.CancelledError)


def expired(assignment: Assignment) -> Ending:
    """The ending of a job that was not started because its time had passed."""
    job = id_text(assignment.id)
    message = f"job {job} ({assignment.route.task}) was not started: its deadline had passed"
    return Ending(_EXPIRED, None, failure_said("JobExpired", message, reason="expired"))


_Call = tuple[TaskDefinition, list[Any], dict[str, Any]]


def _begin(assignment: Assignment) -> _Call | Ending:
    """Note that it has started; what to call, or why there is nothing to call."""
    current_job.set(assignment)
    assignment.route.board[assignment.place] = assignment.token
    definition = assignment.route.definition
    if definition is None:
        name = assignment.route.task
        message = (
            f"this worker knows no task {name!r}; it is not in its --task-modules, or was renamed"
        )
        return Ending(_FAILURE, None, failure_said("UnknownTask", message))
    try:
        args, kwargs = open_call(assignment.payload)
        if assignment.context is not None:
            set_propagated(open_map(assignment.context))
    except ProtocolError as error:
        message = f"the arguments of job {id_text(assignment.id)} are damaged: {error}"
        return Ending(_DEAD, None, failure_said("JobDead", message, reason="corrupt"))
    if assignment.streamed and not definition.yields:
        message = (
            f"task {definition.name!r} does not yield, so there is nothing to stream; submit it"
        )
        return Ending(_FAILURE, None, failure_said("NotAStream", message))
    models = assignment.route.models
    if models is not None and models.arguments is not None:
        misfit = _rebuilt(models.arguments, args, kwargs)
        if misfit is not None:
            return Ending(_FAILURE, None, misfit)
    return definition, args, kwargs


def _rebuilt(rebuild: Rebuild, args: list[Any], kwargs: dict[str, Any]) -> Failure | None:
    # Arguments that do not fit are not tried again: they would not fit the next time either.
    try:
        rebuild(args, kwargs)
    except ArgumentError as error:
        return failure_said("ArgumentError", str(error))
    except BaseException as error:  # constructors of the user's classes are user code
        return failure_from(error)._replace(type_name="ArgumentError")
    return None


def _succeeded(assignment: Assignment, value: object) -> Ending:
    # A result that cannot travel is not tried again: the next one would be of the same kind.
    try:
        sealed = seal_value(value, what=f"the result of task {assignment.route.task!r}")
    except BaseException as error:  # looking into a user's object may run user code
        return _unsealed(error)
    return Ending(_SUCCESS, sealed, None)


def _unsealed(error: BaseException | None) -> Ending:
    """The ending of an attempt whose result or item cannot travel, for this reason."""
    if isinstance(error, PayloadTooLarge):
        failure = failure_said("ResultTooLarge", str(error))
    elif isinstance(error, NotSerializable):
        failure = failure_said("ResultNotSerializable", str(error))
    else:
        assert error is not None
        failure = failure_from(error)._replace(type_name="ResultNotSerializable")
    return Ending(_FAILURE, None, failure)


def _failed(
    assignment: Assignment,
    error: BaseException,
    definition: TaskDefinition,
    args: list[Any],
    kwargs: dict[str, Any],
    advice: str,
) -> Ending:
    if isinstance(error, ItemRefused):
        return _unsealed(error.__cause__)
    if isinstance(error, TypeError):
        misfit = _misfit(definition.function, args, kwargs)
        if misfit is not None:
            message = f"the arguments do not fit task {assignment.route.task!r}: {misfit}"
            return Ending(_FAILURE, None, failure_said("ArgumentError", message))
    return Ending(
        _FAILURE, None, failure_from(error, advice=advice), _decided(assignment, definition, error)
    )


def _decided(
    assignment: Assignment, definition: TaskDefinition, error: BaseException
) -> RetryDecision | None:
    stop = assignment.stop
    if stop is not None and stop.reason is StopReason.CANCEL:
        return None
    try:
        return decide(
            definition.retry,
            error,
            failures=assignment.failures,
            random=assignment.route.random,
        )
    except BaseException as another:  # comparing with the user's classes may run user code
        # Without a traceback: it would show the task's exception, whose text is user code, too.
        what = type_name(another)
        _log.error("task %r is not retried: deciding that raised %s", definition.name, what)
        return None


def _misfit(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """Why these arguments cannot be passed, asked only after a `TypeError`: a check before
    every call would cost more than the call."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None
